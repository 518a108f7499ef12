"""How sockets end: with a FIN, with a RST, and the same when somebody else holds the socket too."""

from __future__ import annotations

import socket
import struct
from typing import Final

from lbproxy.net.contract import Socket

_AT_ONCE: Final = struct.pack("ii", 1, 0)
_GENTLY: Final = struct.pack("ii", 0, 0)
_NOBODY: Final = bytes(16)
"""A socket address of family AF_UNSPEC."""


def close(sock: Socket) -> None:
    """Give a socket up. Whatever the kernel answers, it has taken the descriptor back: there is no more to be done."""
    try:
        sock.close()
    except OSError:
        pass


def reset(sock: Socket) -> None:
    """Have `sock`, which is about to be closed, send RST, by any means: a FIN would say that all is whole."""
    if not reset_at_last(sock):
        _dissolve(sock.fileno())


def reset_at_last(sock: Socket) -> bool:
    """Have the last close of `sock`, whoever does it, send RST (socket(7): SO_LINGER with a time of 0), if possible."""
    return _linger(sock, _AT_ONCE)


def end_shared(sock: Socket, abort: bool) -> None:
    """End a connection whose socket somebody else holds too, so that our close alone would change nothing.

    Take it out of the epoll set first: that goes on telling of a socket that is open anywhere, under the number that it
    had here (epoll(7), Q6), and that may be another connection's by then.

    A RST is sent by a connect to AF_UNSPEC (connect(2): it dissolves the association).
    """
    if abort:
        _dissolve(sock.fileno())
        return
    _linger(sock, _GENTLY)
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # the other end was faster


def _dissolve(fd: int) -> None:
    from ctypes import CDLL  # Python cannot express it; rarely needed, and an import that takes its time

    CDLL(None).connect(fd, _NOBODY, len(_NOBODY))


def _linger(sock: Socket, how: bytes) -> bool:
    """Set what a close does; returns whether that could be done."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, how)
    except OSError:
        return False
    return True
