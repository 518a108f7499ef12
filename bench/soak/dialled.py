"""A connect of which the local port is known even if it fails: that is what the access log calls the client by."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import NamedTuple


class Dialled(NamedTuple):
    """A socket, who it is, and what went wrong: nothing, `refused`, or `reset` when it was closed at once."""

    sock: socket.socket
    port: int
    wrong: str


async def dial(port: int) -> Dialled:
    """Connect to a port; the caller closes the socket, which has done so already if something went wrong."""
    sock = socket.socket()
    sock.setblocking(False)
    wrong = ""
    try:
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    except ConnectionResetError:
        wrong = "reset"
    except OSError:
        wrong = "refused"
    local = 0
    with contextlib.suppress(OSError):
        local = sock.getsockname()[1]
    if wrong:
        sock.close()
    return Dialled(sock, local, wrong)
