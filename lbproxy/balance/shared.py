"""Counts of one proxy that several processes keep together (`workers: N`).

Each process has a row of numbers in memory that all of them have mapped, writes that row alone, and reads the column of
a count to know the sum. A number is 8 bytes and aligned, so it is read whole or not at all; there is no lock in the way
of a connection. What two processes decide at one instant they decide without each other: least connections is off by
one for each worker at most. Only where one more would be one too many (`max_conns`, `max_connections`) is a `Guard`
taken, so that a limit holds exactly.

A process alone has no such memory, and asks for none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

_SLACK: Final = 8
_SHARE: Final = 8


class Guard(Protocol):
    """A lock of all processes, for decisions at a limit."""

    def take(self) -> None:
        """Have it, or go on without it when its holder stands still: then a limit may be passed by one for each."""

    def release(self) -> None:
        """Give it up."""


class Cell:
    """A count in the row of this process, and its likes in the rows of the others.

    `numbers` are all rows one after another, `mine` is where in it this one stands (-1: nowhere, this process only
    reads), `others` where the likes do.
    """

    __slots__ = ("_mine", "_numbers", "_others")

    def __init__(self, numbers: memoryview, mine: int, others: Sequence[int]) -> None:
        self._numbers = numbers
        self._mine = mine
        self._others = tuple(others)

    def put(self, number: int) -> None:
        """Set this process's number, if it has a row."""
        if self._mine >= 0:
            self._numbers[self._mine] = number

    def elsewhere(self) -> int:
        """Return the sum of the others'."""
        total = 0
        for at in self._others:
            total += self._numbers[at]
        return total

    def ahead(self, number: int) -> bool:
        """Whether this process has with `number` clearly more than another one."""
        if not self._others:
            return False
        least: int = min([self._numbers[at] for at in self._others])
        return number > least + max(_SLACK, number // _SHARE)


class Counted:
    """What has connections that other processes may have a part of."""

    __slots__ = ("cell", "connections")

    def __init__(self) -> None:
        self.connections = 0
        """Leases held by this process."""
        self.cell: Cell | None = None
        """Where other processes count theirs, if there are any."""

    def carried(self) -> int:
        """Return the leases held by all processes."""
        return self.connections + self.cell.elsewhere() if self.cell is not None else self.connections

    def share(self, cell: Cell | None) -> None:
        """Count in `cell` too, from now on."""
        self.cell = cell
        if cell is not None:
            cell.put(self.connections)

    def count(self, by: int) -> None:
        """Count so many more."""
        self.connections += by
        if self.cell is not None:
            self.cell.put(self.connections)


class Shares:
    """What a process needs to decide as one of `size`: its cells by column, and the guard."""

    __slots__ = ("_columns", "_numbers", "_rows", "guard", "mine", "size")

    def __init__(self, numbers: memoryview, rows: int, columns: int, mine: int, guard: Guard) -> None:
        """`numbers` has `rows` rows of `columns`, of which `mine` is this process's, or none of them if it is -1."""
        self._numbers = numbers
        self._rows = rows
        self._columns = columns
        self.mine = mine
        self.guard = guard
        self.size = rows

    def cell(self, column: int) -> Cell | None:
        """Return the cell of a column; None for column -1, of what could not be given one."""
        if column < 0:
            return None
        others = [row * self._columns + column for row in range(self._rows) if row != self.mine]
        return Cell(self._numbers, self.mine * self._columns + column if self.mine >= 0 else -1, others)
