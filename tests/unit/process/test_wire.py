"""What a parent and a worker process say to each other."""

from __future__ import annotations

import asyncio
import socket

import pytest

from lbproxy.config.model import Address
from lbproxy.errors import LbproxyError
from lbproxy.process.wire import Answer, Call, receive, receive_listeners, send, send_listeners


def test_a_message_arrives_as_what_it_was() -> None:
    """And nothing else is taken for it: both ends are one program, so that is a bug, and said to be one."""

    async def run() -> None:
        ours, theirs = socket.socketpair()
        _, writer = await asyncio.open_connection(sock=ours)
        reader, other = await asyncio.open_connection(sock=theirs)
        call = Call(7, "set_drain", ("m1", True), [Address("127.0.0.1", 6443)])
        await send(writer, call)
        assert await receive(reader, Call) == call
        await send(writer, call)
        with pytest.raises(LbproxyError, match="is no Answer"):
            await receive(reader, Answer)
        writer.close()
        with pytest.raises(asyncio.IncompleteReadError):
            await receive(reader, Call)
        other.close()

    asyncio.run(run())


def test_more_listeners_than_fit_into_a_message_arrive_in_their_order() -> None:
    """The kernel takes 253 descriptors at a time at most."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sent = {Address("x", number): socket.socket() for number in range(1, 151)}
    with ours, theirs:
        for number, sock in enumerate(sent.values()):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY, number % 7)
        send_listeners(ours, dict(sent))
        got = receive_listeners(theirs, list(sent))
        order = [sock.getsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY) for sock in got.values()]
        for sock in [*sent.values(), *got.values()]:
            sock.close()
    assert list(got) == list(sent)
    assert order == [number % 7 for number in range(150)]
