"""What the supervisor and a worker say to each other."""

from __future__ import annotations

import asyncio
import os
import socket

import pytest

from lbproxy.balance.suspicion import TrafficResult
from lbproxy.config.model import Address
from lbproxy.errors import LbproxyError
from lbproxy.workers.wire import (
    FORGET,
    STORE,
    Answer,
    Call,
    Heard,
    fds_of,
    listeners_of,
    packed,
    parts_sent,
    receive,
    receive_fds,
    send_fds,
)


def test_a_message_arrives_as_what_it_was() -> None:
    """And nothing else is taken for it: both ends are one program, so that is a bug, and said to be one."""

    async def run() -> None:
        ours, theirs = socket.socketpair()
        _, writer = await asyncio.open_connection(sock=ours)
        reader, other = await asyncio.open_connection(sock=theirs)
        call = Call(7, "set_drain", ("m1", True), 0)
        heard = Heard("p", ("m1", "m1:1"), (2, ("127.0.0.1", 1)), TrafficResult("refused"))
        for message in (call, heard, call):
            writer.write(packed(message))
        assert await receive(reader, Call) == call
        assert await receive(reader, Answer, Heard) == heard
        with pytest.raises(LbproxyError, match="is none of"):
            await receive(reader, Answer, Heard)
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
        send_fds(ours, fds_of(sent))
        got = listeners_of(list(sent), receive_fds(theirs, len(sent)))
        order = [sock.getsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY) for sock in got.values()]
        for sock in [*sent.values(), *got.values()]:
            sock.close()
    assert list(got) == list(sent)
    assert order == [number % 7 for number in range(150)]


def test_descriptors_of_one_who_is_gone_are_not_waited_for() -> None:
    """A worker whose supervisor was killed ends instead."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.close()
    with theirs, pytest.raises(ConnectionError):
        receive_fds(theirs, 1)


def test_what_is_to_be_kept_and_forgotten_comes_in_order() -> None:
    """With its name; what has not been sent is not waited for."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        socket.send_fds(ours, [STORE + b"carrier-1"], [0])
        socket.send_fds(ours, [FORGET + b"carrier-0"], [])
        parts = list(parts_sent(theirs))
        assert [(keep, name, len(fds)) for keep, name, fds in parts] == [
            (True, "carrier-1", 1),
            (False, "carrier-0", 0),
        ]
        assert list(parts_sent(theirs)) == []
        for _, _, fds in parts:
            for fd in fds:
                os.close(fd)
