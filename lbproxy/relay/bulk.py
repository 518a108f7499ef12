"""Bulk: from a socket through a borrowed pipe into another socket, without the bytes ever being mapped here.

EAGAIN says little of a source: either it is drained, or the pipe is full of small pieces. With bytes in the pipe it is
taken for full, and the source is asked again when they are gone. At urgent data splice stops for good, with EAGAIN
or with 0 as at the end; a read goes on behind it, and can tell. So when splice stops with the pipe empty and the source
not seen drained, copy takes over.
"""

from __future__ import annotations

import errno
import os
from typing import Final

from lbproxy.net.pipes import Pipe, PipePool
from lbproxy.net.syscalls import splice
from lbproxy.relay.mode import BLOCKED, EMPTIED, LITTLE, NOT_FROM, NOT_TO

_WORTH: Final = 4 * 1024
"""A turn that moved less than this is better off with copy the next time (HAProxy's MIN_SPLICE_FORWARD)."""
_WAIT: Final = -errno.EAGAIN
_REFUSED: Final = (-errno.EINVAL, -errno.EPERM, -errno.ENOSYS)
"""These two cannot be spliced, or nobody may splice (seccomp): no reason to end anything."""

_GOES_ON: Final = 0
SOURCE_FAILED: Final = 1
DESTINATION_FAILED: Final = 2
"""Ends of a turn that are no events of `mode`."""


class Bulk:
    """What splices from one descriptor to another; it holds a pipe only while bytes are in it."""

    __slots__ = ("_dst", "_pipe", "_pipes", "_src", "error", "moved", "readable")

    def __init__(self, pipes: PipePool, src: int, dst: int) -> None:
        self._pipes = pipes
        self._src = src
        self._dst = dst
        self._pipe: Pipe | None = None
        self.moved = 0
        """Bytes that the last turn has written."""
        self.readable = False
        """Whether it left the source undrained, as far as one can tell."""
        self.error = 0
        """The errno of a turn that failed."""

    def turn(self, readable: bool, thorough: bool, budget: int) -> int:
        """Move bytes, about `budget` of them at most; returns an event of `mode`, SOURCE_FAILED or DESTINATION_FAILED.

        `readable` is whether the source is not known to be drained; `thorough`, whether EAGAIN would not say so either.
        """
        self.readable = readable
        self.moved = 0
        pipe = self._pipe or self._pipes.borrow()
        if pipe is None:
            return LITTLE  # out of descriptors: slower by copy, but it goes on
        self._pipe = pipe
        filled = _GOES_ON
        while True:
            if self.readable and filled == _GOES_ON and self.moved < budget and pipe.held < pipe.size:
                filled = self._fill(pipe, thorough)
                if filled == SOURCE_FAILED:
                    self.drop()
                    return SOURCE_FAILED
            if not pipe.held:
                self.drop()
                return self._emptied(budget) if filled == _GOES_ON else filled
            spilled = self._spill(pipe)
            if spilled == DESTINATION_FAILED:
                self.drop()
            if spilled != _GOES_ON:
                return spilled

    def _fill(self, pipe: Pipe, thorough: bool) -> int:
        """Splice from the source; returns _GOES_ON, NOT_FROM or SOURCE_FAILED."""
        size = splice(self._src, pipe.write_fd, pipe.size - pipe.held)
        if size >= 0:
            pipe.held += size
        elif size == _WAIT:
            if not pipe.held and not thorough:
                self.readable = False
        elif size in _REFUSED:
            return NOT_FROM
        else:
            self.error = -size
            return SOURCE_FAILED
        return _GOES_ON

    def _spill(self, pipe: Pipe) -> int:
        """Splice to the destination; returns _GOES_ON, BLOCKED, NOT_TO or DESTINATION_FAILED."""
        size = splice(pipe.read_fd, self._dst, pipe.held)
        if size >= 0:
            pipe.held -= size
            self.moved += size
            return _GOES_ON
        if size == _WAIT:
            return BLOCKED
        if size in _REFUSED:
            return NOT_TO
        self.error = -size
        return DESTINATION_FAILED

    def _emptied(self, budget: int) -> int:
        """Say how a turn ends that has written all it took."""
        if self.readable:
            return EMPTIED if self.moved >= budget else LITTLE
        return EMPTIED if self.moved >= _WORTH else LITTLE

    def take(self) -> bytes:
        """Take out what is in the pipe."""
        data = b""
        pipe = self._pipe
        if pipe is not None:
            while pipe.held:
                more = os.read(pipe.read_fd, pipe.held)
                pipe.held -= len(more)
                data += more
            self.drop()
        return data

    def drop(self) -> None:
        """Give the pipe back; what is in it is lost."""
        pipe = self._pipe
        if pipe is not None:
            self._pipe = None
            self._pipes.give_back(pipe)
