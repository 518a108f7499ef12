"""One direction of a connection: bytes from a source socket to a destination socket.

Two ways to move them. *Copy*: read into a buffer that all share and write at once; what the destination does not take
is kept (`_rest`, at most one buffer) and nothing more is read until it has gone. *Splice*: through a borrowed
pipe, without the bytes ever being mapped here; what the destination does not take stays in the pipe. A read that
fills the buffer is the sign of bulk and switches to splice; a turn that moves little switches back. Between turns
only a blocked flow holds a pipe or a rest; an idle one holds nothing.

Both sockets must be non-blocking.
"""

from __future__ import annotations

import errno
import os
from typing import Final

from lbproxy.net.contract import BUFFER
from lbproxy.net.pipes import Pipe
from lbproxy.net.poller import NEWS, STRANGE, Poller
from lbproxy.net.syscalls import copy, send, splice
from lbproxy.relay.duplex import EMPTY, ENDING, EOF, FAILED, OPEN, TABLE, WRITE_REFUSED

BUDGET: Final = 256 * 1024
"""Bytes one flow may move in a turn before everybody else has theirs. With 1 MiB, four bulk streams kept small
exchanges beside them waiting 2.8 times as long (p99) as with nginx; with this, 1.1 times."""
_BULK: Final = 4 * 1024
"""A turn that moved less than this by splice is better off with copy the next time (HAProxy's MIN_SPLICE_FORWARD)."""
_WAIT: Final = -errno.EAGAIN
_REFUSED: Final = -errno.EINVAL
"""Splice does not work with this socket."""

IDLE: Final = 0
"""Drained or blocked: an edge will say when to go on."""
MORE: Final = 1
"""The budget is used up: call again."""
TURNED: Final = 2
"""The half-close state has changed."""


class Flow:
    """One direction, from a descriptor to another.

    `state` is that of `duplex`; `moved` counts bytes written to the destination.
    """

    __slots__ = (
        "_bulk",
        "_can_splice",
        "_dst",
        "_mark",
        "_pipe",
        "_poller",
        "_rest",
        "_src",
        "error",
        "moved",
        "readable",
        "state",
        "thorough",
    )

    def __init__(self, poller: Poller, src: int, dst: int) -> None:
        self._poller = poller
        self._src = src
        self._dst = dst
        self._rest: bytes | None = None
        self._pipe: Pipe | None = None
        self._mark = -1
        self._bulk = False
        self._can_splice = True
        self.state = OPEN
        self.moved = 0
        self.readable = False
        """An edge has been told and the source was not seen drained since."""
        self.thorough = False
        """A hang-up or urgent data is on the source: a short read no longer means drained."""
        self.error = 0
        """The errno that ended it, if one did."""

    def notice(self, events: int) -> None:
        """Take in edges of the source."""
        if events & NEWS:
            self.readable = True
            if events & STRANGE:
                self.thorough = True

    def blocked(self) -> bool:
        """Whether bytes wait for the destination to take them."""
        return self._rest is not None or self._pipe is not None

    def preload(self, data: bytes) -> None:
        """Have `data` written before anything that is read from the source."""
        self._rest = data

    def pending(self) -> int:
        """Bytes that were read and are not written yet."""
        if self._pipe is not None:
            return self._pipe.held
        return len(self._rest) if self._rest is not None else 0

    def mark_at(self, offset: int) -> None:
        """Set the poller's mark at `offset` from now on whenever bytes are in this process's memory."""
        self._mark = offset
        self._poller.marks[offset] = self.blocked()

    def take(self) -> bytes:
        """Take out what was read and is not written yet, so that another process can write it."""
        rest = self._rest or b""
        self._rest = None
        pipe = self._pipe
        if pipe is not None:
            while pipe.held:
                more = os.read(pipe.read_fd, pipe.held)
                pipe.held -= len(more)
                rest += more
            self._give_back(pipe)
        self._bulk = False
        return rest

    def release(self) -> None:
        """Give back what is held; bytes in it are lost."""
        self._rest = None
        if self._pipe is not None:
            self._give_back(self._pipe)

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
        if self._pipe is not None or self._bulk:
            return self._pump_splice()
        if self._rest is not None and not self._send_rest():
            return TURNED if self.error else IDLE
        return self._pump_copy()

    def _send_rest(self) -> bool:
        rest = self._rest or b""
        try:
            sent = send(self._dst, rest)
        except BlockingIOError:
            return False
        except OSError as error:
            self._fail(WRITE_REFUSED, error.errno or errno.EIO)
            return False
        self.moved += sent
        self._rest = rest[sent:] if sent < len(rest) else None
        return self._rest is None

    def _pump_copy(self) -> int:
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
                    return self._fail(WRITE_REFUSED, -sent)
                self.moved += sent
                self._rest = rest
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
            if size == BUFFER and self._start_splice():
                return self._pump_splice()
            left -= size
            if left <= 0:
                return MORE
        return self._drained()

    def _drained(self) -> int:
        if self.state == ENDING:
            self.state = TABLE[ENDING | EMPTY]
            return TURNED
        return IDLE

    def _start_splice(self) -> bool:
        self._bulk = self._can_splice
        return self._bulk

    def _pump_splice(self) -> int:
        pipe = self._pipe or self._poller.pipes.borrow()
        if pipe is None:
            self._bulk = False
            return MORE
        self._pipe = pipe
        moved = 0
        while moved < BUDGET:
            if self.readable and self._can_splice and pipe.held < pipe.size:
                self._fill(pipe)
                if self.error:
                    return TURNED
            if pipe.held:
                size = self._spill(pipe)
                if size < 0:
                    if self.error:
                        return TURNED
                    return IDLE if self._pipe is not None else MORE
                moved += size
            elif self.readable:
                self._bulk = False
                self._give_back(pipe)
                return MORE
            else:
                self._bulk = moved >= _BULK
                self._give_back(pipe)
                return self._drained()
        if not pipe.held:
            self._give_back(pipe)
        return MORE

    def _fill(self, pipe: Pipe) -> None:
        """Splice from the source. With the pipe empty and `readable` still set after it, copy must take over."""
        size = splice(self._src, pipe.write_fd, pipe.size - pipe.held)
        if size >= 0:
            # 0 is the end, or urgent data with the end somewhere behind it: a read can tell, and goes on to it.
            pipe.held += size
        elif size == _WAIT:
            # Either the source is drained or the pipe is full of small pieces: with bytes in it take it for full, and
            # ask again when they are gone. At urgent data splice stops for good; a read goes on behind it.
            if not pipe.held and not self.thorough:
                self.readable = False
        elif size == _REFUSED:
            self._can_splice = False
        else:
            self._fail(FAILED, -size)

    def _spill(self, pipe: Pipe) -> int:
        """Splice to the destination; returns the bytes moved, -1 if it is blocked, refuses splice or is gone."""
        size = splice(pipe.read_fd, self._dst, pipe.held)
        if size >= 0:
            pipe.held -= size
            self.moved += size
            return size
        if size == _REFUSED:
            self._can_splice = False
            self._bulk = False
            self._rest = os.read(pipe.read_fd, pipe.held)
            pipe.held = 0
            self._give_back(pipe)
        elif size != _WAIT:
            self._fail(WRITE_REFUSED, -size)
        return -1

    def _give_back(self, pipe: Pipe) -> None:
        self._pipe = None
        self._poller.pipes.give_back(pipe)

    def _fail(self, event: int, error: int) -> int:
        self.error = error
        self.state = TABLE[self.state | event]
        self.readable = False
        self.release()
        return TURNED
