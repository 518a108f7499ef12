"""The system calls of lbproxy, made on the simulated kernel. `install` puts them in the place of the real ones.

That is once, in a process that does nothing else, before lbproxy is imported: `net.plain` is this module then, and the
few modules that go past it (`os`, `fcntl`, `mmap`, `socket` of pipes, bulk and the handover) find what is here.
"""

from __future__ import annotations

import errno
import socket as real_socket
import struct
from collections.abc import Callable
from itertools import chain
from typing import Any

from lbproxy.net.contract import BUFFER, MOST_EVENTS, SocketAddress
from tests.sim.files import Page, PipeEnd
from tests.sim.kernel import Epoll, Kernel, Process, fail
from tests.sim.network import Listener
from tests.sim.network import connect as tcp_connect
from tests.sim.tcp import Endpoint

KERNEL: list[Kernel] = []
"""The one of the world at hand."""


def process() -> Process:
    """Return the process whose code runs, for a system call. Raises Killed if SIGKILL comes before it."""
    current = KERNEL[-1].current
    assert current is not None, "a system call outside of any process"
    current.step()
    return current


def _write_to_memory() -> None:
    current = KERNEL[-1].current
    if current is not None:
        current.step()


Page.before_write = staticmethod(_write_to_memory)


def endpoint(fd: int) -> Endpoint:
    """Return the connection of a descriptor."""
    file = process().file(fd)
    if not isinstance(file, Endpoint):
        raise fail(errno.ENOTSOCK)
    return file


class Sock:
    """A socket object, of a descriptor in the process that has made it."""

    def __init__(self, family: int = 2, kind: int = 1, proto: int = 0, fileno: int | None = None) -> None:
        assert fileno is not None, "sockets come from accept and connect"
        self.family, self.type, self._fd, self._process = family, kind, fileno, process()

    def fileno(self) -> int:
        """See `contract.Socket`, as for the others."""
        return self._fd

    def detach(self) -> int:
        """Part with the descriptor."""
        fd, self._fd = self._fd, -1
        return fd

    def close(self) -> None:
        """Close it; twice is once."""
        if self._fd >= 0:
            self._process.step()
            self._process.close(self.detach())

    def _end(self) -> Any:
        return self._process.file(self._fd)

    def shutdown(self, how: int) -> None:
        """End one of its streams or both."""
        self._process.step()
        self._end().finish()

    def getsockname(self) -> SocketAddress:
        """Return its own address."""
        file = self._end()
        return file.where if isinstance(file, Listener) else file.local  # type: ignore[no-any-return]

    def getpeername(self) -> SocketAddress:
        """Return the far one's. Raises ENOTCONN."""
        file = self._end()
        if file.gone or not file.connected:
            raise fail(errno.ENOTCONN)
        return file.remote  # type: ignore[no-any-return]

    def getsockopt(self, level: int, option: int, size: int = 0) -> Any:
        """Return an option."""
        file = self._end()
        if isinstance(file, Listener):
            if option == real_socket.SO_ACCEPTCONN:
                return 1
            return struct.pack("=2xBB20xI16xI4xII", 0, 0, len(file.waiting), 0, 0, 0)[:size]
        return file.ask(level, option, size)

    def setsockopt(self, level: int, option: int, value: int | bytes) -> None:
        """Set an option."""
        self._process.step()
        file = self._end()
        if isinstance(file, Endpoint):
            file.option(level, option, value)

    def setblocking(self, flag: bool) -> None:
        """Do nothing: nothing here ever waits."""


class SimEpoll:
    """See `contract.Epoll`."""

    def __init__(self) -> None:
        self._process = process()
        self.file = Epoll()
        self._fd = self._process.install(self.file)

    def fileno(self) -> int:
        return self._fd

    def register(self, fd: int, events: int) -> None:
        self._process.step()
        self.file.add(self._process.file(fd), fd, events)

    def unregister(self, fd: int) -> None:
        self._process.step()
        self.file.remove(self._process.file(fd), fd)

    def poll(self) -> tuple[int, ...]:
        return tuple(chain.from_iterable(self.file.poll(MOST_EVENTS)))

    def embed(self, loop: object, library: str, handle: Callable[[tuple[int, ...]], bool]) -> bool:
        return False

    def close(self) -> None:
        self._process.close(self._fd)


epoll = SimEpoll


def accept(listener: Sock, fd: int) -> tuple[Sock, SocketAddress] | None:
    ours = process()
    file = ours.file(fd)
    assert isinstance(file, Listener)
    if not file.waiting:
        return None
    ours.afford(errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ECONNABORTED)
    near = file.accept()
    return Sock(fileno=ours.install(near)), near.remote


def connect(family: int, address: SocketAddress) -> Sock:
    ours = process()
    ours.afford(errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.EADDRNOTAVAIL, errno.EAGAIN, errno.ENETUNREACH)
    far = tcp_connect(KERNEL[-1], "127.0.0.1", (address[0], address[1]))
    return Sock(fileno=ours.install(far))


def recv(fd: int, most: int) -> bytes:
    return endpoint(fd).read(min(most, BUFFER))


def send(fd: int, data: bytes) -> int:
    return endpoint(fd).write(data)  # whole: a fresh connection takes a ClientHello at once


def _write(end: Endpoint, data: bytes) -> int:
    if len(data) > 1 and KERNEL[-1].in_part():
        end.lacked_room = True
        data = data[: len(data) // 2]
    return end.write(data)


def copy(source: int, destination: int) -> int | tuple[int, int, bytes]:
    try:
        data = endpoint(source).read(BUFFER)
    except OSError as error:
        return -(error.errno or errno.EIO)
    if not data:
        return 0
    try:
        sent = _write(endpoint(destination), data)
    except BlockingIOError:
        sent = 0
    except OSError as error:
        return len(data), -(error.errno or errno.EIO), b""
    return len(data) if sent == len(data) else (len(data), sent, data[sent:])


def splice(source: int, destination: int, most: int) -> int:
    if KERNEL[-1].in_part() and KERNEL[-1].in_part():
        return -errno.EINVAL  # as of what cannot be spliced, or where nobody may
    try:
        one, other = process().file(source), process().file(destination)
        if isinstance(one, PipeEnd) and isinstance(other, Endpoint):
            size = _write(other, bytes(one.channel.data[:most]))
            del one.channel.data[:size]
            return size
        assert isinstance(one, Endpoint)
        assert isinstance(other, PipeEnd)
        room = min(most, other.channel.size - len(other.channel.data))
        if room > 0 and KERNEL[-1].in_part():
            # A pipe has so many slots, and a small segment takes one: it may be full with few bytes in it.
            room = 0 if other.channel.data else max(1, room // 3)
        if room <= 0:
            return -errno.EAGAIN
        data = one.read(room)
        other.channel.data += data
        return len(data)
    except OSError as error:
        return -(error.errno or errno.EIO)


def dissolve(fd: int) -> None:
    """Stand for connect(AF_UNSPEC): a RST, whoever else holds the socket."""
    endpoint(fd).reset()


def fstat_inode(fd: int) -> int:
    """Return what tells one file from all others."""
    return id(process().file(fd))
