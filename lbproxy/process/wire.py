"""What a parent and a worker process say to each other, over two sockets that the worker inherits.

Over the stream go pickled messages, each with its length in front and with a number that tells which answer is to
which question (both ends are the same program of the same version, and nobody else holds the other end). Over the
datagram socket come the listening sockets, so that all workers accept from the same backlog and a worker that dies
takes none of it along.
"""

from __future__ import annotations

import asyncio
import pickle
import socket
import struct
from collections.abc import Mapping
from socket import SocketType
from typing import Final, TypeVar

from lbproxy.config.model import Address, Config
from lbproxy.errors import LbproxyError
from lbproxy.record import dataclass

_LENGTH: Final = struct.Struct("!I")
_FDS_PER_MESSAGE: Final = 64

Message = TypeVar("Message")


@dataclass(frozen=True, slots=True)
class Start:
    """The first message to a worker. The sockets for `listeners` come over the other socket, in this order."""

    number: int
    config: Config
    listeners: list[Address]


@dataclass(frozen=True, slots=True)
class Call:
    """Every later one: a verb of the `App`, and sockets for addresses that a new configuration has."""

    number: int
    verb: str
    arguments: tuple[object, ...]
    listeners: list[Address]


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of the message of that number: a value, or an LbproxyError."""

    number: int
    result: object


async def send(writer: asyncio.StreamWriter, message: Start | Call | Answer) -> None:
    """Send one message, whole or not at all even if cancelled; raises OSError when the other end is gone."""
    data = pickle.dumps(message)
    writer.write(_LENGTH.pack(len(data)) + data)
    await writer.drain()


async def receive(reader: asyncio.StreamReader, kind: type[Message]) -> Message:
    """Return the next message, which is one of `kind`; raises IncompleteReadError or OSError when nobody is there."""
    (size,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
    message = pickle.loads(await reader.readexactly(size))  # noqa: S301 (from our own parent or child only)
    if not isinstance(message, kind):
        raise LbproxyError(f"{message!r} is no {kind.__name__}")
    return message


def send_listeners(channel: socket.socket, listeners: Mapping[Address, SocketType]) -> None:
    """Send listening sockets, in the order of `listeners`."""
    fds = [sock.fileno() for sock in listeners.values()]
    for at in range(0, len(fds), _FDS_PER_MESSAGE):
        socket.send_fds(channel, [b"l"], fds[at : at + _FDS_PER_MESSAGE])


def receive_listeners(channel: socket.socket, addresses: list[Address]) -> dict[Address, SocketType]:
    """Return the listening sockets for `addresses`, which have been sent in this order."""
    fds: list[int] = []
    while len(fds) < len(addresses):
        fds += socket.recv_fds(channel, 1, _FDS_PER_MESSAGE)[1]
    return {address: SocketType(fileno=fd) for address, fd in zip(addresses, fds, strict=True)}
