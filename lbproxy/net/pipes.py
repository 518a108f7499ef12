"""Pipes for splice. A flow borrows one while bytes are in it."""

from __future__ import annotations

import fcntl
import os
from typing import Final

SIZE: Final = 256 * 1024
"""Bytes asked for per pipe. Above fs.pipe-user-pages-soft the kernel grants less, one page at worst; such a pipe is
used and not kept, for the shortage passes."""
_SPARE: Final = 16
"""Empty pipes kept for the next borrower."""


class Pipe:
    """Two descriptors, what the kernel granted between them (`size`) and what is in there now (`held`), in bytes."""

    __slots__ = ("held", "read_fd", "size", "write_fd")

    def __init__(self, read_fd: int, write_fd: int, size: int) -> None:
        self.read_fd = read_fd
        self.write_fd = write_fd
        self.size = size
        self.held = 0

    def close(self) -> None:
        """Close both ends; what is held is lost."""
        for fd in (self.read_fd, self.write_fd):
            try:
                os.close(fd)
            except OSError:
                pass  # closed it is, see closing.close


class PipePool:
    """Spare pipes; makes a new one when none is left."""

    def __init__(self) -> None:
        self._spare: list[Pipe | None] = [None] * _SPARE
        """Of fixed length: one that grew and shrank would be reallocated twice for each turn of bulk."""
        self._count = 0
        self._lent = 0
        self.most = 1 << 30
        """Pipes that may be lent at a time, so that what stalls does not use up the descriptors of all others."""

    def borrow(self) -> Pipe | None:
        """Return an empty pipe, or None when there are `most` already, or no descriptor is left for one."""
        if self._lent >= self.most:
            return None
        if self._count:
            self._lent += 1
            self._count -= 1
            return self._spare[self._count]
        try:
            read_fd, write_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            size = fcntl.fcntl(write_fd, fcntl.F_SETPIPE_SZ, SIZE)
        except OSError:
            size = fcntl.fcntl(write_fd, fcntl.F_GETPIPE_SZ)
        self._lent += 1
        return Pipe(read_fd, write_fd, size)

    def give_back(self, pipe: Pipe) -> None:
        """Take a pipe back, and keep it if it is empty, of full size, and not one too many."""
        self._lent -= 1
        if pipe.held or pipe.size < SIZE or self._count == _SPARE:
            pipe.close()
        else:
            self._spare[self._count] = pipe
            self._count += 1

    def close(self) -> None:
        """Close every spare pipe: at the end, or when descriptors run short."""
        while self._count:
            self._count -= 1
            pipe = self._spare[self._count]
            if pipe is not None:
                pipe.close()
