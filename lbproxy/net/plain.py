"""The system calls of the hot path in Python; what each does is said here for the C form (`csrc/`) too."""

from __future__ import annotations

import errno
import os
import select
import socket
from collections.abc import Callable
from itertools import chain
from socket import SocketType
from typing import Final

from lbproxy.net.contract import BUFFER, MOST_EVENTS, Epoll, Socket, SocketAddress

# Not SPLICE_F_MORE: it corks like TCP_CORK and stalls 200 ms (golang/go #10948). NONBLOCK for the pipe's side.
_SPLICE: Final = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK
_view = memoryview(bytearray(BUFFER))
_views = [_view]


class _Epoll:
    """See `contract.Epoll`."""

    __slots__ = ("_set",)

    def __init__(self) -> None:
        self._set = select.epoll()

    def fileno(self) -> int:
        return self._set.fileno()

    def register(self, fd: int, events: int, /) -> None:
        self._set.register(fd, events)

    def unregister(self, fd: int, /) -> None:
        self._set.unregister(fd)

    def poll(self) -> tuple[int, ...]:
        return tuple(chain.from_iterable(self._set.poll(0, MOST_EVENTS)))

    def embed(self, loop: object, library: str, handle: Callable[[tuple[int, ...]], bool], /) -> bool:
        return False  # libuv speaks C

    def close(self) -> None:
        self._set.close()


def epoll() -> Epoll:
    """Return a new epoll set. Raises OSError."""
    return _Epoll()


def accept(listener: SocketType, fd: int) -> tuple[Socket, SocketAddress] | None:
    """Accept a connection: returns it, non-blocking, and the peer's address, or None if there is none. Raises OSError.

    `fd` is the listener's descriptor, which the form in C need not ask it for: that is a quarter of an accept.

    Not in Python's own class of sockets, which costs memory and time on each.
    """
    try:
        fd, peer = listener._accept()  # type: ignore[attr-defined]  # what socket.accept itself is made of
    except BlockingIOError:
        return None
    sock = SocketType(listener.family, socket.SOCK_STREAM, 0, fd)
    try:
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock, peer


def connect(family: int, address: SocketAddress) -> Socket:
    """Begin to connect a non-blocking socket with TCP_NODELAY, and return it. Raises OSError.

    A connect that is under way, as most are, is no error: wait until the socket is writable and ask SO_ERROR.
    """
    sock = SocketType(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while (number := sock.connect_ex(address)) == errno.EINTR:
            pass
        if number not in (0, errno.EINPROGRESS):
            raise OSError(number, os.strerror(number))
    except BaseException:
        sock.close()
        raise
    return sock


def recv(fd: int, most: int) -> bytes:
    """Read at most so many bytes (and BUFFER), b"" at the end. Raises OSError."""
    return os.read(fd, min(most, BUFFER))


def send(fd: int, data: bytes) -> int:
    """Write; returns how many bytes were taken. Raises OSError."""
    return os.write(fd, data)


def copy(source: int, destination: int) -> int | tuple[int, int, bytes]:
    """Read once, at most BUFFER bytes, and write them.

    Returns how many bytes were moved, 0 at the end, -errno if reading failed. If not all of them could be written:
    how many were read and how many written, and the rest; or in place of the second -errno, if writing failed.
    """
    try:
        size = os.readv(source, _views)
    except OSError as error:
        return _negative(error)
    if not size:
        return 0
    try:
        sent = os.write(destination, _view[:size])
    except BlockingIOError:
        sent = 0
    except OSError as error:
        return size, _negative(error), b""
    return size if sent == size else (size, sent, bytes(_view[sent:size]))


def splice(source: int, destination: int, most: int) -> int:
    """Move at most so many bytes, one of the two being a pipe; returns how many, 0 at the end, -errno for an error."""
    try:
        return os.splice(source, destination, most, flags=_SPLICE)
    except OSError as error:
        return _negative(error)


def _negative(error: OSError) -> int:
    return -(error.errno or errno.EIO)
