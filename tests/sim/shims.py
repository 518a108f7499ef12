"""What lbproxy asks of `os`, `fcntl`, `mmap` and `socket` beside the calls of `lbproxy.net`, answered here."""

from __future__ import annotations

import errno
import os as real_os
import socket as real_socket
import struct
from collections.abc import Iterable, Sequence
from types import SimpleNamespace
from typing import Any, Self

from tests.sim.calls import process
from tests.sim.files import Channel, Memory, Page, PipeEnd, Queue, QueueEnd
from tests.sim.kernel import fail

PIPE = 64 * 1024


class Ordered(dict[Any, None]):
    """A set that iterates in the order of arrival, so that a seed always tells the same story."""

    def add(self, item: Any) -> None:
        """See `set`."""
        self[item] = None

    def discard(self, item: Any) -> None:
        """See `set`."""
        self.pop(item, None)


class Os:
    """What lbproxy uses of `os` beside that; all else is the real one's."""

    def __getattr__(self, name: str) -> Any:
        return getattr(real_os, name)

    def pipe2(self, flags: int) -> tuple[int, int]:
        ours = process()
        ours.afford(errno.EMFILE, errno.ENFILE)
        channel = Channel(4096 if ours.short else PIPE)
        first = ours.install(PipeEnd(channel))
        try:
            return first, ours.install(PipeEnd(channel))
        except OSError:
            ours.close(first)
            raise

    def listdir(self, path: str) -> list[str]:
        assert path == "/proc/self/fd"
        return [str(fd) for fd in process().files]

    def read(self, fd: int, most: int) -> bytes:
        file = process().file(fd)
        assert isinstance(file, PipeEnd)
        data = bytes(file.channel.data[:most])
        del file.channel.data[:most]
        return data

    def close(self, fd: int) -> None:
        process().close(fd)

    def dup(self, fd: int) -> int:
        return process().dup(fd)

    def memfd_create(self, name: str, flags: int = 0) -> int:
        return process().install(Memory())

    def pread(self, fd: int, most: int, at: int) -> bytes:
        file = process().file(fd)
        assert isinstance(file, Memory)
        return bytes(file.page[at : at + most])

    def fstat(self, fd: int) -> SimpleNamespace:
        file = process().file(fd)
        assert isinstance(file, Memory)
        return SimpleNamespace(st_size=len(file.page))

    def write(self, fd: int, data: bytes) -> int:
        file = process().file(fd)
        assert isinstance(file, Memory)
        file.page += data
        return len(data)

    def ftruncate(self, fd: int, size: int) -> None:
        file = process().file(fd)
        assert isinstance(file, Memory)
        file.page += bytes(size - len(file.page))


class Fcntl:
    """What pipes ask for."""

    F_SETPIPE_SZ = F_GETPIPE_SZ = 0

    def fcntl(self, fd: int, what: int, size: int = 0) -> int:
        file = process().file(fd)
        assert isinstance(file, PipeEnd)
        if size and process().short:
            raise fail(errno.EPERM)  # more than pipe-user-pages-soft allows
        return max(size, file.channel.size)


class Resource:
    """What the limit of connections asks for."""

    RLIMIT_NOFILE = 7

    def getrlimit(self, what: int) -> tuple[int, int]:
        return process().limit, process().limit


class Mmap:
    """What marks ask for."""

    def mmap(self, fd: int, size: int) -> Page:
        file = process().file(fd)
        assert isinstance(file, Memory)
        return file.page


class QueueSock:
    """A socket of a pair of SOCK_SEQPACKET."""

    def __init__(self, family: int = 1, kind: int = 5, proto: int = 0, fileno: int = -1) -> None:
        self._process, self._fd = process(), fileno
        file = self._process.file(fileno)
        assert isinstance(file, QueueEnd)
        self._file = file

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def fileno(self) -> int:
        return self._fd

    def close(self) -> None:
        if self._fd >= 0:
            self._process.step()
            fd, self._fd = self._fd, -1
            self._process.close(fd)

    def setsockopt(self, *_: object) -> None:
        self._file.peeked = 0

    def setblocking(self, flag: bool) -> None:
        """Do nothing."""

    def send(self, message: bytes) -> int:
        self._process.step()
        self._file.send(message, [])
        return len(message)

    def sendmsg(self, parts: Sequence[bytes], rights: Sequence[tuple[int, int, Iterable[int]]]) -> None:
        self._process.step()
        files = [self._process.file(fd) for _, _, fds in rights for fd in fds]
        self._file.send(b"".join(parts), files)

    def recvmsg(self, size: int, room: int, flags: int) -> tuple[bytes, list[tuple[int, int, bytes]], int, None]:
        self._process.step()
        message, fds = self._file.receive(self._process, flags)
        return message, [(0, 0, struct.pack(f"={len(fds)}i", *fds))] if fds else [], 0, None


class Socket:
    """What the queues of the handover use of `socket`; all else is the real one's."""

    socket = QueueSock

    def __getattr__(self, name: str) -> Any:
        return getattr(real_socket, name)

    def socketpair(self, *_: object) -> tuple[QueueSock, QueueSock]:
        one, other = Queue(212992), Queue(212992)
        ends = QueueEnd(one, other), QueueEnd(other, one)
        ours = process()
        first, second = (QueueSock(fileno=ours.install(end)) for end in ends)
        return first, second
