"""What the supervisor and a worker say to each other, over two sockets that the worker is born with.

Over the stream go pickled messages, each with its length in front (both ends are the same program of the same version,
and nobody else holds the other end). A call has a number, which its answer has too; one of number 0 wants none. What
a worker says unasked is a `Heard` or a `Line`.

Over the datagram socket ride descriptors, each message with a word that says what they are: listening sockets and
queues of connections towards the worker; towards the supervisor what the worker would have kept (`estate`).
"""

from __future__ import annotations

import asyncio
import pickle
import socket
import struct
from collections.abc import Iterator, Mapping, Sequence
from socket import SocketType
from typing import Final, TypeVar

from lbproxy.balance.server import Endpoint
from lbproxy.config.model import Address, Config
from lbproxy.errors import LbproxyError
from lbproxy.handover.fdqueue import receive_message
from lbproxy.proxy.backend import Sign
from lbproxy.record import dataclass

_LENGTH: Final = struct.Struct("!I")
_FDS_PER_MESSAGE: Final = 64
STORE: Final = b"+"
FORGET: Final = b"-"
"""What a worker's messages on the datagram socket begin with; the name of a part follows."""
FROZEN: Final = "frozen"
"""The part that is not kept: the queue with all connections of a worker that stands still."""

Message = TypeVar("Message")


@dataclass(frozen=True, slots=True)
class Start:
    """The first message to a worker: who it is. The board comes over the other socket, then its `listeners`."""

    number: int
    row: int
    rows: int
    config: Config
    listeners: list[Address]


@dataclass(frozen=True, slots=True)
class Call:
    """Every later one: a verb, and `fds` descriptors that come over the other socket."""

    number: int
    verb: str
    arguments: tuple[object, ...]
    fds: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of the message of that number: a value, or an LbproxyError."""

    number: int
    result: object


@dataclass(frozen=True, slots=True)
class Heard:
    """What a worker has seen of the server at `place`, configured as `key`."""

    proxy: str
    key: tuple[str, str]
    place: Endpoint | None
    sign: Sign


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a worker's log."""

    level: int
    logger: str
    text: str
    created: float


def packed(message: Start | Call | Answer | Heard | Line) -> bytes:
    """Return a message as it goes over the stream."""
    data = pickle.dumps(message)
    return _LENGTH.pack(len(data)) + data


async def receive(reader: asyncio.StreamReader, *kinds: type[Message]) -> Message:
    """Return the next message, which is one of `kinds`; raises IncompleteReadError or OSError when nobody is there."""
    (size,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
    message = pickle.loads(await reader.readexactly(size))  # noqa: S301 (from our own parent or child only)
    if not isinstance(message, kinds):
        raise LbproxyError(f"{message!r} is none of {[kind.__name__ for kind in kinds]}")
    return message


def send_fds(channel: socket.socket, fds: Sequence[int]) -> None:
    """Send descriptors; raises OSError."""
    for at in range(0, len(fds), _FDS_PER_MESSAGE):
        socket.send_fds(channel, [b"f"], fds[at : at + _FDS_PER_MESSAGE])


def receive_fds(channel: socket.socket, count: int) -> list[int]:
    """Return so many descriptors, which have been sent; waits for them. Raises OSError when nobody is there."""
    fds: list[int] = []
    while len(fds) < count:
        message, more = receive_message(channel)
        if not message:
            raise ConnectionError("the other process has gone")
        fds += more
    return fds


def listeners_of(addresses: Sequence[Address], fds: Sequence[int]) -> dict[Address, SocketType]:
    """Return the listening sockets for `addresses`, of descriptors that were sent in that order."""
    return {address: SocketType(fileno=fd) for address, fd in zip(addresses, fds, strict=True)}


def fds_of(listeners: Mapping[Address, SocketType]) -> list[int]:
    """Return the descriptors of listening sockets, in their order."""
    return [sock.fileno() for sock in listeners.values()]


def parts_sent(channel: socket.socket) -> Iterator[tuple[bool, str, list[int]]]:
    """Yield what a worker has sent by now: whether it is to be kept or forgotten, which part, its descriptors."""
    while True:
        try:
            message, fds = receive_message(channel, socket.MSG_DONTWAIT)
        except OSError:
            return
        if not message:
            return
        yield message[:1] == STORE, message[1:].decode(), fds
