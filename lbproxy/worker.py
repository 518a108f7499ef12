"""One of several worker processes: an `App` of its own, told what to do by the `Fleet` that started it.

Two inherited sockets connect them. Over the stream go pickled calls and answers, each with its length in front (both
ends are the same program of the same version, and nobody else holds the other end). Over the datagram socket come the
listening sockets, so that all workers accept from the same backlog and a worker that dies takes none of it along.
"""

from __future__ import annotations

import asyncio
import pickle
import signal
import socket
import struct
import sys
from socket import SocketType
from typing import Any, Final

import uvloop

from lbproxy import log as logs
from lbproxy.app import App
from lbproxy.config.model import Address, Config
from lbproxy.errors import LbproxyError
from lbproxy.inherit import Heritage

_LENGTH: Final = struct.Struct("!I")
_FDS_PER_MESSAGE: Final = 64

VERBS: Final = frozenset({"apply", "connections", "set_drain", "snapshot", "stop"})


async def send(writer: asyncio.StreamWriter, message: object) -> None:
    """Send one message."""
    data = pickle.dumps(message)
    writer.write(_LENGTH.pack(len(data)) + data)
    await writer.drain()


async def receive(reader: asyncio.StreamReader) -> Any:
    """Return one message; raises IncompleteReadError when the other end is gone."""
    (size,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
    return pickle.loads(await reader.readexactly(size))  # noqa: S301 (from our own parent or child only)


def send_listeners(channel: socket.socket, listeners: dict[Address, SocketType]) -> None:
    """Send listening sockets, in the order of `listeners`."""
    fds = [sock.fileno() for sock in listeners.values()]
    for at in range(0, len(fds), _FDS_PER_MESSAGE):
        socket.send_fds(channel, [b"l"], fds[at:at + _FDS_PER_MESSAGE])


def receive_listeners(channel: socket.socket, addresses: list[Address]) -> dict[Address, SocketType]:
    """Return the listening sockets for `addresses`, which have been sent in this order."""
    fds: list[int] = []
    while len(fds) < len(addresses):
        fds += socket.recv_fds(channel, 1, _FDS_PER_MESSAGE)[1]
    return {address: SocketType(fileno=fd) for address, fd in zip(addresses, fds, strict=True)}


async def serve(calls: socket.socket, channel: socket.socket) -> None:
    """Do what is asked until told to stop, or until the parent is gone."""
    reader, writer = await asyncio.open_connection(sock=calls)
    config, addresses = await receive(reader)
    app = App(config, Heritage(listeners=receive_listeners(channel, addresses)))
    await app.start()
    await send(writer, None)
    try:
        while True:
            verb, addresses, arguments = await receive(reader)
            if verb not in VERBS:
                raise LbproxyError(f"unknown call {verb!r}")
            if addresses:
                app.inherit(receive_listeners(channel, addresses))
            if isinstance(arguments[0] if arguments else None, Config):
                logs.setup(arguments[0].log)
            await send(writer, await getattr(app, verb)(*arguments))
            if verb == "stop":
                return
    except asyncio.IncompleteReadError:
        await app.stop(0)
    finally:
        writer.close()


def main() -> None:
    """Run a worker; the two sockets' descriptors are the arguments."""
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)  # the parent hears them and says what to do
    calls, channel = (socket.socket(fileno=int(number)) for number in sys.argv[1:3])
    calls.setblocking(False)
    uvloop.run(serve(calls, channel))


if __name__ == "__main__":
    main()
