"""One direction of a connection: bytes from a source socket to a destination socket.

They are moved by copy, here, or by splice (`bulk`): `mode` is the table of when which, and of what is held while the
destination takes no more. Both sockets must be non-blocking.
"""

from __future__ import annotations

import errno
from typing import Final

from lbproxy.net.contract import BUFFER
from lbproxy.net.poller import NEWS, STRANGE, Poller
from lbproxy.net.reasons import ours
from lbproxy.net.syscalls import copy, send
from lbproxy.relay import mode
from lbproxy.relay.bulk import DESTINATION_FAILED, SOURCE_FAILED, Bulk
from lbproxy.relay.duplex import EMPTY, ENDING, EOF, FAILED, OPEN, TABLE, WRITE_REFUSED

BUDGET: Final = 256 * 1024
"""Bytes one flow may move in a turn before everybody else has theirs. With 1 MiB, four bulk streams kept small
exchanges beside them waiting 2.8 times as long (p99) as with nginx; with this, 1.1 times."""
_WAIT: Final = -errno.EAGAIN

IDLE: Final = 0
"""Drained or blocked: an edge will say when to go on."""
MORE: Final = 1
"""There may be more to move: call again, when everybody else has had a turn."""
TURNED: Final = 2
"""The half-close state has changed."""


class Flow:
    """One direction, from a descriptor to another.

    `state` is that of `duplex`, `mode` that of `mode`; `moved` counts bytes written to the destination.
    """

    __slots__ = (
        "_bulk",
        "_dst",
        "_mark",
        "_poller",
        "_rest",
        "_src",
        "error",
        "mode",
        "moved",
        "readable",
        "state",
        "thorough",
    )

    def __init__(self, poller: Poller, src: int, dst: int) -> None:
        self._poller = poller
        self._src = src
        self._dst = dst
        self.mode = mode.COPY
        self._rest = b""
        """What is held in the modes REST and REST_ONLY."""
        self._bulk: Bulk | None = None
        """Made when it is first needed."""
        self._mark = -1
        self.state = OPEN
        self.moved = 0
        self.readable = False
        """An edge has been told and the source was not seen drained since."""
        self.thorough = False
        """A hang-up or urgent data is on the source: a short read no longer means drained."""
        self.error = 0
        """The errno that ended it, if one did."""

    def notice(self, events: int) -> None:
        """Remember edges of the source."""
        if events & NEWS:
            self.readable = True
            if events & STRANGE:
                self.thorough = True

    def blocked(self) -> bool:
        """Whether bytes wait for the destination to take them."""
        return self.mode >= mode.HOLDING

    def preload(self, data: bytes) -> None:
        """Have `data` written before anything that is read from the source."""
        self._rest = data
        self.mode = mode.TABLE[self.mode | mode.PART]

    def mark_at(self, offset: int) -> None:
        """Set the poller's mark at `offset` from now on whenever bytes are in this process's memory."""
        self._mark = offset
        self._poller.marks[offset] = self.blocked()

    def take(self) -> bytes:
        """Take out what was read and is not written yet, so that another process can write it."""
        bulk = self._bulk
        held = self._rest if bulk is None else self._rest + bulk.take()
        self.release()
        return held

    def release(self) -> None:
        """Let go of what is held, if anything is; it is lost."""
        if not self.blocked():
            return
        self._rest = b""
        bulk = self._bulk
        if bulk is not None:
            bulk.drop()
        self.mode = mode.TABLE[self.mode | mode.EMPTIED]

    def pump(self) -> int:
        """Move what can be moved, up to the budget; returns IDLE, MORE or TURNED."""
        if self._mark < 0:
            return self._move()
        marks = self._poller.marks
        marks[self._mark] = 1
        result = self._move()
        # A failure that was told once is not told again to whoever comes after us.
        marks[self._mark] = self.blocked() or self.error != 0
        return result

    def _move(self) -> int:
        if self.mode == mode.COPY:
            return self._copy()
        if self.mode in (mode.SPLICE, mode.PIPED):
            return self._splice()
        if self.blocked():
            result = self._write_rest()
            if result != MORE:
                return result
        return self._copy()

    def _copy(self) -> int:
        src = self._src
        dst = self._dst
        left = BUDGET
        while self.readable:
            moved = copy(src, dst)
            if isinstance(moved, tuple):
                size, sent, rest = moved
                if size < BUFFER and not self.thorough:
                    self.readable = False
                if sent < 0:
                    return self._refused(-sent)
                self.moved += sent
                self.preload(rest)
                return IDLE
            size = moved
            if size <= 0:
                self.readable = False
                if size == 0:
                    self.state = TABLE[self.state | EOF]
                elif size != _WAIT:
                    return self._fail(FAILED, -size)
                break
            if size < BUFFER and not self.thorough:
                self.readable = False
            self.moved += size
            if size == BUFFER:
                self.mode = mode.TABLE[self.mode | mode.FULL]
                if self.mode == mode.SPLICE:
                    return self._splice()
            left -= size
            if left <= 0:
                return MORE
        return self._drained()

    def _write_rest(self) -> int:
        """Write what is held in memory; returns MORE when all of it is written."""
        rest = self._rest
        try:
            sent = send(self._dst, rest)
        except BlockingIOError:
            return IDLE
        except OSError as error:
            return self._refused(error.errno or errno.EIO)
        self.moved += sent
        if sent < len(rest):
            self._rest = rest[sent:]
            return IDLE
        self._rest = b""
        self.mode = mode.TABLE[self.mode | mode.EMPTIED]
        return MORE

    def _splice(self) -> int:
        bulk = self._bulk
        if bulk is None:
            bulk = self._bulk = Bulk(self._poller.pipes, self._src, self._dst)
        event = bulk.turn(self.readable, self.thorough, BUDGET)
        self.readable = bulk.readable
        self.moved += bulk.moved
        if event == SOURCE_FAILED:
            return self._fail(FAILED, bulk.error)
        if event == DESTINATION_FAILED:
            return self._refused(bulk.error)
        self.mode = mode.TABLE[self.mode | event]
        if event == mode.NOT_TO:
            self._rest = bulk.take()
            return MORE
        if event == mode.BLOCKED:
            return IDLE
        return MORE if self.readable else self._drained()

    def _drained(self) -> int:
        if self.state == ENDING:
            self.state = TABLE[ENDING | EMPTY]
            return TURNED
        return IDLE

    def _refused(self, error: int) -> int:
        """Take in a refused write. Who is still there would wait for what was lost by it, and never hear of an end."""
        return self._fail(FAILED if ours(error) else WRITE_REFUSED, error)

    def _fail(self, event: int, error: int) -> int:
        self.error = error
        self.state = TABLE[self.state | event]
        self.readable = False
        self.release()
        return TURNED
