"""The system calls of the hot path: they never wait, and most say how they went by a number instead of an exception.

What stands here is the plain form. `make compile` builds the same functions in C (`_syscalls.c`), which take the place
of these when they are there; both keep to one description and pass the same tests (`tests/unit/net/test_syscalls.py`).
"""

from __future__ import annotations

import errno
import os
import select
import socket
from collections.abc import Callable
from importlib import import_module
from itertools import chain
from socket import SocketType
from typing import Any, Final

BUFFER: Final = 64 * 1024
"""Bytes that `copy` and `recv` move at most. A read that fills it is a sign of bulk, which `splice` moves better."""
_MOST: Final = 256
"""Events of one poll."""
# Not SPLICE_F_MORE: it corks like TCP_CORK and stalls 200 ms (golang/go #10948). NONBLOCK for the pipe's side.
_SPLICE: Final = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK
_IN_C: Final = ("Epoll", "accept", "connect", "copy", "recv", "send", "splice")
_view = memoryview(bytearray(BUFFER))
_views = [_view]


class Epoll:
    """An epoll set."""

    __slots__ = ("_set",)

    def __init__(self) -> None:
        self._set = select.epoll()

    def fileno(self) -> int:
        """Return its descriptor."""
        return self._set.fileno()

    def register(self, fd: int, events: int) -> None:
        """Add a descriptor; raises OSError."""
        self._set.register(fd, events)

    def unregister(self, fd: int) -> None:
        """Take a descriptor out that stays open; raises OSError."""
        self._set.unregister(fd)

    def poll(self) -> tuple[int, ...]:
        """Return what is ready now: a descriptor, its events, the next descriptor, and so on, 256 of them at most."""
        return tuple(chain.from_iterable(self._set.poll(0, _MOST)))

    def wait(self) -> tuple[int, ...]:
        """Return the same, but of a set that is embedded in a loop wait for it, or for the loop to be `due`."""
        return self.poll()

    def due(self) -> bool:
        """Whether the loop has something to do, as the last poll or wait has seen."""
        return True

    def embed(self, loop: object, library: str, turn: Callable[[], None]) -> bool:
        """See the function of that name; `loop` is uvloop's own handle of itself, `library` the file it is in."""
        return False

    def close(self) -> None:
        """Close it; what it was embedded in is as before."""
        self._set.close()


def accept(listener: SocketType) -> tuple[SocketType, tuple[Any, ...]] | None:
    """Accept a connection: returns it, non-blocking, and the peer's address, or None if there is none. Raises OSError.

    Not in Python's socket class, which costs memory and time on each; and in C not even in SocketType, but in a type
    that has the methods of it that are used here.
    """
    try:
        fd, peer = listener._accept()  # type: ignore[attr-defined]  # what socket.accept itself is made of
    except BlockingIOError:
        return None
    os.set_blocking(fd, False)
    return SocketType(listener.family, socket.SOCK_STREAM, 0, fd), peer


def connect(family: int, address: tuple[Any, ...]) -> SocketType:
    """Begin to connect a non-blocking socket with TCP_NODELAY, and return it. Raises OSError.

    A connect that is under way, as most are, is no error: wait until the socket is writable and ask SO_ERROR.
    """
    sock = SocketType(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        number = sock.connect_ex(address)
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


def embed(epoll: Epoll, loop: object, turn: Callable[[], None]) -> bool:
    """Have `turn` called before each poll of `loop`, which itself waits no more: `epoll.wait` does, for both.

    So nothing stands between the kernel and the set. Returns whether it can be done: in C, with uvloop.
    """
    if not COMPILED:
        return False
    import uvloop

    if not isinstance(loop, uvloop.Loop):
        return False
    library: Any = uvloop.loop
    return epoll.embed(library.libuv_get_loop_t_ptr(loop), library.__file__, turn)


def _negative(error: OSError) -> int:
    return -(error.errno or errno.EIO)


try:
    _in_c = import_module("lbproxy.net._syscalls")
except ImportError:
    COMPILED = False
else:
    COMPILED = True
    globals().update({name: getattr(_in_c, name) for name in _IN_C})
