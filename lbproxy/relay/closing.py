"""How sockets end: with a FIN, with a RST, and the same when somebody else holds the socket too."""

from __future__ import annotations

import ctypes
import socket
import struct
from socket import SocketType
from typing import Final

_LINGER: Final = struct.pack("ii", 1, 0)
_NOBODY: Final = bytes(16)
"""A socket address of family AF_UNSPEC."""


def reset(sock: SocketType) -> None:
    """Have the close of `sock` send RST (socket(7): SO_LINGER with a time of 0)."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER)
    except OSError:
        pass  # already reset by the other end


def end_shared(sock: SocketType, abort: bool) -> None:
    """End a connection whose socket systemd holds too, so that our close alone would change nothing.

    A RST is sent by a connect to AF_UNSPEC (connect(2): it dissolves the association), which Python cannot express.
    """
    if abort:
        reset(sock)
        ctypes.CDLL(None).connect(sock.fileno(), _NOBODY, len(_NOBODY))
    else:
        try:
            sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the other end was faster
