"""The memory in which all processes of a proxy count together, and the lock for decisions at a limit.

A row for each worker, of COLUMNS numbers: when it was last alive, how many connections it has, and then whatever the
supervisor gives a column to (a proxy, a server, an address). A column is given anew only when every row has 0 in it.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import time
from collections.abc import Hashable
from typing import Final

from lbproxy.balance.shared import Shares

COLUMNS: Final = 4096
BEAT: Final = 0
"""The column of the heartbeat."""
OPEN: Final = 1
"""The column of all open connections of a worker."""
_FIRST: Final = 2
_NUMBER: Final = 8
_TRIES: Final = 50
"""Of taking the guard, with the CPU given up after each: who holds it needs some microseconds."""


class Board:
    """`rows` rows in the memory of `fd`, which is the board's from now on; `mine` is the writer's row, -1 for none."""

    def __init__(self, fd: int, rows: int, mine: int = -1) -> None:
        self.fd = fd
        self.rows = rows
        self.mine = mine
        self._page = mmap.mmap(fd, rows * COLUMNS * _NUMBER)
        self._numbers = memoryview(self._page).cast("q")
        if mine >= 0:
            self._numbers[mine * COLUMNS : (mine + 1) * COLUMNS] = memoryview(bytes(COLUMNS * _NUMBER)).cast("q")

    @classmethod
    def create(cls, rows: int) -> Board:
        """Make a new one. Raises OSError."""
        fd = os.memfd_create("lbproxy-board", os.MFD_CLOEXEC)
        os.ftruncate(fd, rows * COLUMNS * _NUMBER)
        return cls(fd, rows)

    def shares(self) -> Shares:
        """Return what choosing needs of it."""
        return Shares(self._numbers, self.rows, COLUMNS, self.mine, FileGuard(self.fd))

    def close(self) -> None:
        """Unmap it; no cell of it is to be asked any more."""
        self._numbers.release()
        self._page.close()
        os.close(self.fd)

    def beat(self) -> None:
        """Say that this worker is alive."""
        self._numbers[self.mine * COLUMNS + BEAT] = time.monotonic_ns()

    def heard(self, row: int) -> int:
        """Return what a worker's last heartbeat has left: another number each time."""
        return self._numbers[row * COLUMNS + BEAT]

    def column(self, column: int) -> list[int]:
        """Return what every row has in a column."""
        return [self._numbers[row * COLUMNS + column] for row in range(self.rows)]


class Columns:
    """Who has which column of a board."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._of: dict[Hashable, int] = {}
        self._free = list(range(COLUMNS - 1, _FIRST - 1, -1))
        self._asked: set[Hashable] = set()

    def of(self, key: Hashable) -> int:
        """Return the column of `key`, which has one from now on; -1 when all are taken."""
        self._asked.add(key)
        if key not in self._of:
            if not self._free:
                return -1
            self._of[key] = self._free.pop()
        return self._of[key]

    def sweep(self) -> None:
        """Take the columns back that nobody has asked for since the last sweep and that nothing is counted in."""
        for key in self._of.keys() - self._asked:
            if not any(self._board.column(self._of[key])):
                self._free.append(self._of.pop(key))
        self._asked.clear()


class FileGuard:
    """A record lock (fcntl(2)), which a process that dies gives up by that."""

    __slots__ = ("_fd", "_held")

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._held = False

    def take(self) -> None:
        """Have it, or go on without: whoever holds it may have been stopped."""
        for _ in range(_TRIES):
            try:
                fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.sched_yield()
            else:
                self._held = True
                return

    def release(self) -> None:
        """Give it up."""
        if self._held:
            self._held = False
            fcntl.lockf(self._fd, fcntl.LOCK_UN)
