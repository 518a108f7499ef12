"""Accepting, and not accepting: limits, shortages and what comes after them."""

from __future__ import annotations

import errno
import logging
import os
import resource
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lbproxy.balance.shared import Cell
from lbproxy.config.model import Address
from lbproxy.errors import BindError
from lbproxy.net import sockets as socks
from lbproxy.net import syscalls
from lbproxy.net.pipes import PipePool
from lbproxy.proxy import listener as listeners
from lbproxy.proxy.listener import ConnectionLimit, Listener
from tests.support.need import need
from tests.support.ports import free_port
from tests.unit.relay.hand import Bench, ended


class House:
    """A listener on a bench, and the clients that it has let in."""

    def __init__(self, bench: Bench, limit: int = 100) -> None:
        self.bench = bench
        self.loop = bench.loop
        self.limit = ConnectionLimit(limit)
        self.address = Address("127.0.0.1", free_port())
        self.inside: list[Any] = []
        self.bug = False
        self.listener = self.open()

    def open(self) -> Listener:
        """Listen."""
        return Listener(self.bench.poller, self.limit, socks.listen("p", self.address), self.on_accept)

    def on_accept(self, client: Any, peer: tuple[Any, ...]) -> None:
        """Let a client in."""
        if self.bug:
            client.close()
            self.limit.release()
            raise RuntimeError("a bug")
        assert peer[0] == "127.0.0.1"
        self.inside.append(client)

    def knock(self, count: int = 1) -> list[socket.socket]:
        """Connect that many clients."""
        clients = []
        for _ in range(count):
            client = self.bench.keep(socket.create_connection((self.address.host, self.address.port)))
            client.setblocking(False)
            clients.append(client)
        return clients

    def show_out(self) -> None:
        """Have the client that came first leave."""
        self.inside.pop(0).close()
        self.limit.release()

    def close(self) -> None:
        """Close everything."""
        self.listener.close()
        for client in self.inside:
            client.close()


@pytest.fixture
def bench() -> Iterator[Bench]:
    """Make a bench and clear it away."""
    bench = Bench()
    yield bench
    bench.close()


@pytest.fixture
def house(bench: Bench) -> Iterator[House]:
    """Make a listener without much of a limit."""
    house = House(bench)
    yield house
    house.close()


@pytest.fixture
def small(bench: Bench) -> Iterator[House]:
    """Make a listener that lets three clients in."""
    house = House(bench, limit=3)
    yield house
    house.close()


def test_everybody_who_comes_is_let_in(house: House) -> None:
    """More than fit into one batch, too."""
    house.knock(90)
    house.loop.until(lambda: len(house.inside) == 90)
    assert house.limit.open == 90


def test_what_is_set_on_the_listener_is_inherited(house: House) -> None:
    """TCP_NODELAY, keepalive and how much may wait for a client cost no call per connection."""
    house.knock()
    house.loop.until(lambda: house.inside)
    client = house.inside[0]
    assert client.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert client.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert client.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == 256 * 1024


def test_beyond_the_limit_clients_wait_until_others_leave(small: House, caplog: pytest.LogCaptureFixture) -> None:
    """They wait in the kernel, nothing spins meanwhile, and it is said once."""
    small.knock(5)
    small.loop.until(lambda: len(small.inside) == 3)
    small.loop.settle()
    assert [small.loop.step() for _ in range(10)] == [False] * 10
    small.show_out()
    small.loop.until(lambda: len(small.inside) == 3)
    small.loop.settle()
    small.show_out()
    small.show_out()
    small.loop.until(lambda: len(small.inside) == 2)
    small.knock()
    small.loop.until(lambda: len(small.inside) == 3)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "out of file descriptors" in caplog.text


def test_a_limit_that_is_just_reached_is_no_shortage(small: House, caplog: pytest.LogCaptureFixture) -> None:
    """Only when somebody waits is there something to tell."""
    small.knock(3)
    small.loop.until(lambda: len(small.inside) == 3)
    small.loop.settle()
    assert not caplog.records
    small.knock()
    small.loop.until(lambda: caplog.records)


def test_one_gate_keeps_all_listeners(bench: Bench, small: House) -> None:
    """Descriptors belong to the process and not to a port; who leaves makes room everywhere."""
    other = House(bench)
    other.listener.close()
    other.limit = small.limit
    other.listener = other.open()
    small.knock(3)
    bench.loop.until(lambda: len(small.inside) == 3)
    other.knock(1)
    bench.loop.settle()
    assert other.inside == []
    small.show_out()
    bench.loop.until(lambda: other.inside)
    assert small.limit.full()
    other.close()


def test_without_descriptors_accepting_pauses_and_goes_on_by_itself(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    """An accept that fails at once would otherwise spin, since the client stays in the backlog."""
    house.knock(3)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(fd.name) for fd in Path("/proc/self/fd").iterdir())
    fillers = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, hard))
    try:
        with pytest.raises(OSError, match="Too many open files"):  # noqa: PT012
            while True:
                fillers.append(socket.socket())
        house.loop.step()
        assert house.inside == []
        assert [house.loop.step() for _ in range(5)] == [False] * 5
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for filler in fillers:
            filler.close()
    house.loop.until(lambda: len(house.inside) == 3)
    assert "cannot accept: too many open files" in caplog.text


@pytest.mark.plain
@pytest.mark.parametrize("number", [errno.ECONNABORTED, errno.EPROTO, errno.EHOSTUNREACH])
def test_a_client_that_has_gone_in_the_backlog_is_passed_over(
    house: House, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """The next one is let in all the same."""
    real = listeners.accept
    errors = [number]

    def accept(listener: socket.SocketType, fd: int) -> tuple[socket.SocketType, tuple[Any, ...]] | None:
        if errors:
            raise OSError(errors.pop(), "gone")
        return real(listener, fd)

    monkeypatch.setattr(listeners, "accept", accept)
    house.knock()
    house.loop.until(lambda: house.inside)
    assert (len(house.inside), errors) == (1, [])


@pytest.mark.plain
@pytest.mark.parametrize("number", [errno.EPERM, errno.EACCES, errno.EIO])
def test_what_forbids_each_accept_is_waited_out_and_said(
    house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, number: int
) -> None:
    """The client stays in the backlog: an accept at once would spin, and a traceback each time fill the disk."""
    real = listeners.accept
    errors = [number] * 3

    def accept(listener: socket.SocketType, fd: int) -> tuple[socket.SocketType, tuple[Any, ...]] | None:
        if errors:
            raise OSError(errors.pop(), "no")
        return real(listener, fd)

    monkeypatch.setattr(listeners, "accept", accept)
    house.knock()
    house.loop.step()
    assert [house.loop.step() for _ in range(5)] == [False] * 5
    house.loop.until(lambda: house.inside)
    assert [record.exc_info for record in caplog.records] == [None]
    assert f"cannot accept: {os.strerror(number).lower()}" in caplog.text


def test_a_bug_does_not_close_the_port(house: House, caplog: pytest.LogCaptureFixture) -> None:
    """It costs the client that met it; others are let in a little later."""
    house.bug = True
    house.knock()
    house.loop.step()
    house.bug = False
    house.knock()
    house.loop.until(lambda: house.inside)
    assert "a bug" in caplog.text


def test_a_closed_listener_resets_who_waits_and_frees_the_port(small: House) -> None:
    """Nobody is left hanging in a backlog that nobody looks at, and the next owner can bind at once."""
    *_, waiting = small.knock(4)
    small.loop.until(lambda: len(small.inside) == 3)
    small.loop.settle()
    small.listener.close()
    small.show_out()
    small.loop.settle()
    assert ended(waiting) == "rst"
    with pytest.raises(ConnectionRefusedError):
        small.knock()
    small.listener = small.open()
    small.knock()
    small.loop.until(lambda: len(small.inside) == 3)


def test_the_gate_leaves_descriptors_for_the_rest_of_the_process() -> None:
    """Two per connection, and some for logs, checks and the control socket."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(list(Path("/proc/self/fd").iterdir()))
    limit, least = ConnectionLimit(0), ConnectionLimit(0)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + 60, hard))
        limit.measure(PipePool())
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + 1, hard))
        least.measure(PipePool())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert 20 <= limit.limit <= 26
    assert least.limit == 1


def test_a_port_that_is_taken_is_refused_with_one_line(house: House) -> None:
    """Which proxy, where, and why not."""
    with pytest.raises(BindError, match=rf"^p: cannot listen on {house.address}: Address already in use$"):
        socks.listen("p", house.address)


def test_ipv6_leaves_the_same_port_of_ipv4_free(bench: Bench) -> None:
    """`[::]:6443` does not take 0.0.0.0:6443 with it."""
    need("ipv6")
    port = free_port()
    first = bench.keep(socks.listen("p", Address("::", port)))  # type: ignore[arg-type]
    second = bench.keep(socks.listen("p", Address("0.0.0.0", port)))  # type: ignore[arg-type]
    assert first.fileno() != second.fileno()
    with socket.create_connection(("::1", port)) as client:
        accepted = syscalls.accept(first, first.fileno())
        assert accepted
        syscalls.send(accepted[0].fileno(), b"six")
        accepted[0].close()
        assert client.recv(10) == b"six"


class Crowd(House):
    """A listener of one of two processes that accept from the same backlog."""

    def __init__(self, bench: Bench) -> None:
        self.numbers = memoryview(bytearray(16)).cast("q")
        super().__init__(bench)
        self.listener.close()
        self.limit.cell = Cell(self.numbers, 0, [1])
        self.listener = self.open()

    def others(self, count: int) -> None:
        """Have the other process carry so many."""
        self.numbers[1] = count


@pytest.fixture
def crowd(bench: Bench) -> Iterator[Crowd]:
    """Make a listener that is not alone."""
    made = Crowd(bench)
    yield made
    made.close()


def test_a_process_that_is_ahead_leaves_new_clients_to_the_others(
    crowd: Crowd, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel wakes mostly the same one of those that wait; when it is not ahead any more it takes its part."""
    monkeypatch.setattr(listeners, "_LET_OTHERS", 3600.0)
    crowd.knock(12)
    crowd.loop.until(lambda: len(crowd.inside) == 9, "nine are more than eight ahead")
    crowd.loop.settle()
    assert (len(crowd.inside), crowd.numbers[0]) == (9, 9)
    crowd.others(5)
    crowd.show_out()
    crowd.loop.until(lambda: len(crowd.inside) == 11, "the rest is let in")


def test_clients_that_nobody_takes_are_let_in_all_the_same(crowd: Crowd) -> None:
    """The others have no time, or one of them stands still."""
    crowd.knock(40)
    crowd.loop.until(lambda: len(crowd.inside) == 40, "nobody is left waiting")
    assert crowd.numbers[0] == 40


def test_one_that_has_stepped_back_can_be_paused_and_closed(crowd: Crowd, monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not come back by itself, for the connections are on their way to another process."""
    monkeypatch.setattr(listeners, "_LET_OTHERS", 0.01)
    crowd.knock(10)
    crowd.loop.until(lambda: len(crowd.inside) >= 9, "it steps back")
    crowd.listener.pause()
    before = len(crowd.inside)
    crowd.knock(3)
    crowd.others(100)
    crowd.show_out()
    crowd.loop.settle()
    assert len(crowd.inside) == before - 1
    crowd.listener.resume()
    crowd.loop.until(lambda: len(crowd.inside) >= before + 2, "it accepts again")
