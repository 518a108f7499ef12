"""What the kernel says of peers that are slow and of peers that are gone, over a network that really loses packets."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator

import pytest

from lbproxy.net import tcpinfo
from lbproxy.net.tcpinfo import quiet, unanswered
from tests.support.need import need
from tests.support.netns import MASTERS, Topology
from tests.support.wait import until

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def net() -> Iterator[Topology]:
    """Make a node and three masters."""
    need("netns", "ip")
    with Topology() as topology:
        yield topology


@pytest.fixture
def pair(net: Topology) -> Iterator[Pair]:
    """Connect the node to m2; the node's end does not block."""
    with contextlib.ExitStack() as open_:
        with net.masters["m2"].inside():
            listener = open_.enter_context(socket.create_server((MASTERS["m2"], 0)))
        with net.node.inside():
            near = open_.enter_context(socket.create_connection(listener.getsockname()))
        near.setblocking(False)
        yield near, open_.enter_context(listener.accept()[0])


def fill(near: socket.socket) -> None:
    """Send until the peer's window is closed and our own buffer full."""
    with contextlib.suppress(BlockingIOError):
        while True:
            near.send(bytes(65536))


def test_a_peer_that_reads_nothing_is_not_unanswered(pair: Pair) -> None:
    """It acknowledges each probe of its closed window: slow, and alive. TCP_USER_TIMEOUT would cut it."""
    near, _ = pair
    fill(near)
    until(lambda: quiet(near) > 2.5, "the window has been closed for a while", 20)
    assert unanswered(near) == 0.0


def test_data_to_a_peer_that_is_gone_is_unanswered(net: Topology, pair: Pair) -> None:
    """Known within a second or two, where the kernel alone goes on for a quarter of an hour."""
    near, _ = pair
    net.kill("m2", "unbridge")
    near.send(b"is anybody there")
    until(lambda: unanswered(near) > 1.0, "it is known", 10)


def test_a_closed_window_of_a_peer_that_is_gone_is_unanswered(net: Topology, pair: Pair) -> None:
    """A peer may be slow first and gone afterwards."""
    near, _ = pair
    fill(near)
    until(lambda: quiet(near) > 0.5, "the window is closed", 10)
    net.kill("m2", "unbridge")
    until(lambda: unanswered(near) > 1.0, "it is known", 30)


def test_an_idle_peer_is_not_unanswered(pair: Pair) -> None:
    """Who was sent nothing owes no answer; one that has answered everything neither."""
    near, far = pair
    assert unanswered(near) == 0.0
    near.send(b"x")
    far.recv(1)
    until(lambda: quiet(near) > 0.5, "it is quiet", 10)
    assert unanswered(near) == 0.0


def test_a_peer_that_is_back_is_not_unanswered_any_more(net: Topology, pair: Pair) -> None:
    """The first acknowledgement settles it."""
    near, _ = pair
    net.kill("m2", "unbridge")
    near.send(b"x")
    until(lambda: unanswered(near) > 0.0, "it is known", 10)
    net.heal("m2")
    until(lambda: unanswered(near) == 0.0, "it has answered", 20)


def test_it_is_read_at_the_right_places() -> None:
    """The offsets are those of linux/tcp.h: eight bytes, then whole numbers of 32 bits."""
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as near:
        info = near.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    fields = struct.unpack("=8B24I", info)
    numbers = fields[8:]
    again, probes, unacked, sent, received, heard = tcpinfo._INFO.unpack(info[: tcpinfo._INFO.size])
    assert (again, probes) == fields[2:4]
    assert (unacked, sent, received, heard) == (numbers[4], numbers[9], numbers[11], numbers[12])
