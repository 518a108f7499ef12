"""Pipes, memory files, and queues in which descriptors ride.

Left out: that a process which has no room for what rides in a message gets a part of it (MSG_CTRUNC); here it has room.
"""

from __future__ import annotations

import errno
import socket
from collections import deque
from collections.abc import Callable
from typing import Any

from tests.sim.kernel import File, Process, drop, fail


class Channel:
    """What is in a pipe."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.data = bytearray()


class PipeEnd(File):
    """One end of a pipe."""

    def __init__(self, channel: Channel) -> None:
        super().__init__()
        self.channel = channel


class Page(bytearray):
    """Memory that whoever maps a file shares."""

    before_write: Callable[[], None] = staticmethod(lambda: None)

    def __setitem__(self, where: Any, value: Any) -> None:
        self.before_write()
        super().__setitem__(where, value)

    def close(self) -> None:
        """Unmap it; it is there for the others."""


class Memory(File):
    """A file in memory (memfd_create(2))."""

    def __init__(self) -> None:
        super().__init__()
        self.page = Page()


class Queue:
    """What is under way in one direction of a pair of SOCK_SEQPACKET; `room` in bytes."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.messages: deque[tuple[bytes, list[File]]] = deque()
        self.closed = False


class QueueEnd(File):
    """One end of such a pair, which reads from one queue and writes into the other."""

    def __init__(self, inward: Queue, outward: Queue) -> None:
        super().__init__()
        self.inward, self.outward = inward, outward
        self.peeked = 0

    def send(self, message: bytes, files: list[File]) -> None:
        """Put a message in, with references of its own. Raises EAGAIN when there is no room."""
        if sum(len(each) for each, _ in self.outward.messages) + len(message) > self.outward.room:
            raise fail(errno.EAGAIN)
        for file in files:
            file.refs += 1
        self.outward.messages.append((message, files))

    def receive(self, process: Process, flags: int) -> tuple[bytes, list[int]]:
        """Return the next message, with descriptors of this process; a peek goes on where the last one has ended."""
        at = self.peeked if flags & socket.MSG_PEEK else 0
        if at >= len(self.inward.messages):
            if self.inward.closed:
                return b"", []
            raise fail(errno.EAGAIN)
        message, files = self.inward.messages[at]
        fds = [process.install(file, limited=False) for file in files]
        if flags & socket.MSG_PEEK:
            self.peeked += 1
        else:
            self.inward.messages.popleft()
            for file in files:
                drop(file)
        return message, fds

    def released(self) -> None:
        """See `File`."""
        self.outward.closed = True
        for _, files in self.inward.messages:
            for file in files:
                drop(file)
        self.inward.messages.clear()
