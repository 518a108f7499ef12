"""The set of proxies: who is in force, who still has connections to end."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from lbproxy.config.model import Address
from tests.unit.relay.hand import Bench, stuff, take
from tests.unit.scene import House


@pytest.fixture
def house(bench: Bench) -> Iterator[House]:
    """Make proxies and close them."""
    made = House(bench)
    yield made
    made.close()


def names(house: House) -> list[str]:
    """Return the names of all proxies there are."""
    return [proxy.name for proxy in house.proxies.all()]


def test_one_that_is_removed_stays_until_its_connections_have_ended(house: House, bench: Bench) -> None:
    """They may drain, and whoever asks for connections is told of them; one without any is gone at once."""
    for name in "abc":
        house.open(name)
    client, server = house.connect("b")
    house.proxies.keep(["c"])
    assert (list(house.proxies.named), names(house)) == (["c"], ["c", "b"])
    assert [session.server.name for session in house.proxies.sessions() if session.server] == ["b"]
    stuff(client, b"still here")
    bench.loop.settle()
    assert take(server) == b"still here"
    client.close()
    server.close()
    bench.loop.until(lambda: not list(house.proxies.sessions()))
    house.proxies.keep(["c"])
    assert names(house) == ["c"]


def test_they_stand_in_the_order_that_is_asked_for(house: House) -> None:
    """It is that of the file, and what the status shows."""
    for name in "abc":
        house.open(name)
    house.proxies.keep(["c", "a", "b"])
    assert names(house) == ["c", "a", "b"]


def test_a_connection_of_a_proxy_that_is_not_configured_finds_one_that_leaves(house: House) -> None:
    """All of them the same one; it is never in force."""
    house.open("a")
    assert house.proxies.of("a") is house.proxies.named["a"]
    gone = house.proxies.of("gone")
    assert house.proxies.of("gone") is gone
    assert (list(house.proxies.named), names(house)) == (["a"], ["a", "gone"])


def test_a_server_is_drained_wherever_it_is(house: House) -> None:
    """In each proxy in force that has one of that name or address; the names are what a successor is told."""
    for name in "ab":
        house.open(name)
    address = str(Address(*house.behind["a"].getsockname()))
    assert not house.proxies.set_drain("nobody", True)
    assert house.proxies.set_drain(address, True)
    assert house.proxies.set_drain("b", True)
    assert house.proxies.drained() == ["a", "b"]
    assert house.proxies.set_drain("a", False)
    assert house.proxies.drained() == ["b"]


def test_clients_wait_while_accepting_is_paused(house: House, bench: Bench) -> None:
    """They are in the kernel's backlog, and lose nothing."""
    address = house.open("a").getsockname()
    assert list(house.proxies.listeners()) == [Address(*address)]
    house.proxies.pause()
    client = bench.keep(socket.create_connection(address))
    bench.loop.settle()
    assert not list(house.proxies.sessions())
    house.proxies.resume()
    bench.loop.until(lambda: list(house.proxies.sessions()))
    client.close()
