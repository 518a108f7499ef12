"""A server that leads back to the proxy, by a way that its address does not show."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import replace

import pytest

from lbproxy.balance.shared import Shares
from lbproxy.balance.state import State
from lbproxy.config.model import Address, ServerConfig
from lbproxy.net.timers import NEVER
from lbproxy.proxy import circles
from lbproxy.proxy.backend import CIRCULAR, Sign
from lbproxy.proxy.circles import LEADS_BACK
from lbproxy.proxy.proxy import Proxy
from tests.unit.balance.test_shared import COLUMNS, Latch
from tests.unit.relay.hand import Bench, ended
from tests.unit.scene import House


@pytest.fixture
def house(bench: Bench) -> Iterator[House]:
    """Make proxies and close them."""
    made = House(bench)
    yield made
    made.close()


def circle(house: House, timeout: float = 0.0, *, alone: bool = False) -> Proxy:
    """Return a proxy that is its own server. `House` gives it a backup, unless it is to be `alone`."""
    listener = house.open("p", first_byte_timeout=timeout)
    proxy = house.proxies.named["p"]
    settings = proxy.backend.settings
    back = ServerConfig(address=Address(*listener.getsockname()), name="back")
    backup = replace(settings.servers[0], backup=True)
    proxy.reconcile(replace(settings, servers=(back,) if alone else (back, backup)), "node")
    return proxy


def client_of(house: House, proxy: Proxy) -> socket.socket:
    """Return a client that has just connected."""
    (address,) = proxy.listeners
    client = house.bench.keep(socket.create_connection((address.host, address.port)))
    client.setblocking(False)
    return client


def test_a_circle_is_opened_and_its_server_left_out(
    house: House, bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """One client has made many connections by then; it is cut with them, and the next one is served by another."""
    proxy = circle(house)
    client = client_of(house, proxy)
    bench.loop.until(lambda: ended(client) == "rst", "the client is cut")
    bench.loop.until(lambda: not len(proxy.sessions), "nothing is left of it")
    back = proxy.backend.pool.servers[0]
    assert (back.state()[0], back.usable(), proxy.backend.pool.others_up(back)) == (State.DOWN, False, True)
    assert "it leads back to this proxy" in back.state()[1]
    assert caplog.text.count("server back is not used: it leads back") == 1
    assert circles._MANY / 4 <= proxy.sessions.closed[LEADS_BACK] <= 2 * circles._MANY
    house.connect("p")
    assert [session.server.name for session in proxy.sessions if session.server] == ["p"]


def test_a_client_that_can_be_sent_elsewhere_notices_nothing(house: House, bench: Bench) -> None:
    """To it the server has closed before its first byte."""
    proxy = circle(house, timeout=3.0)
    client = client_of(house, proxy)
    bench.loop.until(
        lambda: [each.server.name for each in proxy.sessions if each.server] == ["p"], "another one has it"
    )
    assert ended(client) == "open"


def test_it_is_tried_again_after_a_while(house: House, bench: Bench) -> None:
    """An address that has moved here moves on; while it has not, one client shows it."""
    proxy = circle(house, alone=True)
    back = proxy.backend.pool.servers[0]
    for _ in range(2):
        client = client_of(house, proxy)
        bench.loop.until(lambda client=client: ended(client) == "rst")
        bench.loop.until(lambda: not len(proxy.sessions))
        assert not back.usable()
        assert proxy.sessions._circles.due(bench.poller.now + 2 * circles.REST) == NEVER
        assert back.state()[1] != back.circular == ""


def test_one_of_several_processes_has_the_others_told(
    house: House, bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """They dial the same server; it is for the one that hears of it from all to say so in the log."""
    proxy = circle(house)
    signs: list[tuple[str, Sign]] = []
    numbers = memoryview(bytearray(2 * COLUMNS * 8)).cast("q")
    proxy.backend.pool.shares = Shares(numbers, 2, COLUMNS, 0, Latch())
    proxy.backend.on_sign = lambda server, sign: signs.append((server.name, sign))
    client = client_of(house, proxy)
    bench.loop.until(lambda: ended(client) == "rst", "the client is cut")
    assert ("back", CIRCULAR) in signs
    assert "leads back" not in caplog.text


def test_many_clients_of_other_programs_are_no_circle(house: House, bench: Bench) -> None:
    """However fast they come."""
    house.open("p")
    clients = [client_of(house, house.proxies.named["p"]) for _ in range(circles._MANY + 1)]
    bench.loop.until(lambda: len(house.proxies.named["p"].sessions) == len(clients))
    assert house.proxies.named["p"].sessions.closed == {}
