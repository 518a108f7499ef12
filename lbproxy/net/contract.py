"""What the two forms of the system calls (`syscalls`) give and take: types, and how much at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol, overload

SocketAddress = tuple[str, int] | tuple[str, int, int, int]
"""Where a socket is: an IP address and a port, and for IPv6 the flow information and the scope behind them."""

BUFFER: Final = 64 * 1024
"""Bytes that `copy` and `recv` move at most. A read that fills it is a sign of bulk, which `splice` moves better."""
MOST_EVENTS: Final = 256
"""Descriptors that one `poll` tells of at most."""


class Socket(Protocol):
    """What is used of a connected TCP socket. Python's own has it, and so has that of the C form, which is another."""

    @property
    def family(self) -> int:
        """AF_INET or AF_INET6."""

    def fileno(self) -> int:
        """Return its descriptor, -1 when it is closed."""

    def close(self) -> None:
        """Close it; twice is once."""

    def shutdown(self, how: int, /) -> None:
        """End one of its streams or both; raises OSError."""

    def getsockname(self) -> SocketAddress:
        """Return its own address; raises OSError."""

    @overload
    def getsockopt(self, level: int, option: int, /) -> int: ...
    @overload
    def getsockopt(self, level: int, option: int, size: int, /) -> bytes: ...
    def getsockopt(self, level: int, option: int, size: int = 0, /) -> int | bytes:
        """Return an option, a number or so many bytes of a structure; raises OSError."""

    def setsockopt(self, level: int, option: int, value: int | bytes, /) -> None:
        """Set an option to a number or to the bytes of a structure; raises OSError."""


class Epoll(Protocol):
    """An epoll set."""

    def fileno(self) -> int:
        """Return its descriptor."""

    def register(self, fd: int, events: int, /) -> None:
        """Add a descriptor; raises OSError."""

    def unregister(self, fd: int, /) -> None:
        """Take a descriptor out that stays open; raises OSError."""

    def poll(self) -> tuple[int, ...]:
        """Return what is ready now: a descriptor, its events, the next descriptor, and so on."""

    def embed(self, loop: object, library: str, handle: Callable[[tuple[int, ...]], bool], /) -> bool:
        """Wait in place of uvloop, whose own handle of itself is `loop` and whose library is the file `library`.

        `handle` is called with what `poll` would return; it says whether it wants to be called again without a wait.
        Returns whether it can be done (`syscalls.embed`).
        """

    def close(self) -> None:
        """Close it, twice is once. A loop that it was embedded in is as before."""
