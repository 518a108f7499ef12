"""One proxy at work: who is let in, what is counted and told, who is cut."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from dataclasses import replace

import pytest

from lbproxy.balance.checked import CheckResult
from lbproxy.balance.pool import Pool
from lbproxy.balance.server import Server
from lbproxy.balance.state import State
from lbproxy.config.model import Address, HealthConfig, ProxyConfig, ServerConfig
from lbproxy.net import sockets as socks
from lbproxy.proxy.backend import Backend
from lbproxy.proxy.listener import ConnectionLimit
from lbproxy.proxy.proxy import REMOVED, Proxy
from tests.support.ports import free_port
from tests.unit.relay.hand import Bench, ended, reset, stuff, take


class Lookout:
    """What looks after one server: gives it its address, and writes down what it is told."""

    def __init__(self, backend: Backend, server: Server) -> None:
        address = server.settings.address
        server.endpoints = [(socket.AF_INET, (address.host, address.port))]
        self.name = server.name
        self.told: list[str] = []

    def check(self) -> None:
        self.told.append("check")

    def hurry(self) -> None:
        self.told.append("hurry")

    def stop(self) -> None:
        self.told.append("stop")


class Place:
    """A frontend on a loop that is turned by hand, in front of two sockets that listen and say nothing."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.loop = bench.loop
        self.behind = [bench.listen(), bench.listen()]
        servers = tuple(ServerConfig(address=Address(*each.getsockname()), name=f"s{at}")
                        for at, each in enumerate(self.behind))  # fmt: skip
        self.address = Address("127.0.0.1", free_port())
        self.settings = ProxyConfig(listen=(self.address,), servers=servers, first_byte_timeout=0, drain_timeout=0.05)
        self.limit = ConnectionLimit(100)
        pool = Pool(self.settings, "n", 0.0)
        self.lookouts: list[Lookout] = []
        self.frontend = Proxy("p", self.settings, bench.poller, self.limit, pool, self.monitor)
        self.frontend.listen(self.address, socks.listen("p", self.address))

    def monitor(self, backend: Backend, server: Server) -> Lookout:
        """Make what looks after a server."""
        self.lookouts.append(Lookout(backend, server))
        return self.lookouts[-1]

    def told(self) -> list[tuple[str, list[str]]]:
        """Return what each that was ever made has been told."""
        return [(each.name, each.told) for each in self.lookouts]

    def server(self, name: str) -> Server:
        """Return a server that is configured."""
        found = self.frontend.backend.pool.find(name)
        assert found
        return found

    def go_over(self, **changes: object) -> None:
        """Do what a reload does."""
        self.settings = replace(self.settings, **changes)  # type: ignore[arg-type]
        self.frontend.reconcile(self.settings, "n")

    def connect(self) -> socket.socket:
        """Return a client that was let in or turned away."""
        client = self.bench.keep(socket.create_connection((self.address.host, self.address.port)))
        client.setblocking(False)
        total = self.frontend.view(0.0).connections_total
        self.loop.until(lambda: self.frontend.view(0.0).connections_total > total)
        return client

    def linked(self) -> tuple[socket.socket, socket.socket, str]:
        """Return a client, its server's end, and the server's name."""
        before = set(self.frontend.sessions)
        client = self.connect()
        (session,) = self.frontend.sessions - before
        self.loop.until(lambda: session.link)
        assert session.server
        far, _ = self.behind[int(session.server.name[1])].accept()
        far.setblocking(False)
        return client, self.bench.keep(far), session.server.name


@pytest.fixture
def place() -> Iterator[Place]:
    """Make a place and clear it away."""
    bench = Bench()
    place = Place(bench)
    yield place
    place.frontend.close("shutdown")
    place.frontend.close_listener(place.address)
    assert place.limit.open == 0
    bench.close()


def test_beyond_max_connections_clients_are_reset_and_counted(place: Place) -> None:
    """One that leaves makes room; a new limit counts for whoever comes next."""
    place.go_over(max_connections=1)
    client, _, _ = place.linked()
    refused = place.connect()
    place.loop.until(lambda: ended(refused) == "rst")
    assert (place.frontend.view(0.0).rejected, place.limit.open) == ({"max_connections": 1}, 1)
    reset(client)
    place.loop.until(lambda: not place.frontend.sessions)
    place.linked()
    place.go_over(max_connections=0)
    place.linked()
    assert place.frontend.view(0.0).connections == 2


def test_bytes_of_live_and_of_ended_connections_are_added_up(place: Place) -> None:
    """A counter that falls when a connection ends is none."""
    client, far, name = place.linked()
    stuff(client, b"x" * 100)
    stuff(far, b"y" * 10)
    place.loop.until(lambda: len(take(client)) == 10)

    def figures() -> tuple[int, int, int]:
        view = next(server for server in place.frontend.view(0.0).servers if server.name == name)
        return view.connections, view.bytes_in_total, view.bytes_out_total

    place.loop.until(lambda: figures() == (1, 100, 10))
    (conn,) = place.frontend.connections(place.bench.poller.now)
    assert (conn.proxy, conn.server, conn.bytes_in, conn.bytes_out) == ("p", name, 100, 10)
    assert conn.client == "{}:{}".format(*client.getsockname())
    client.close()
    far.close()
    place.loop.until(lambda: not place.frontend.sessions)
    assert figures() == (0, 100, 10)
    assert sum(place.frontend.view(0.0).closed.values()) == 1


def test_a_finished_connection_is_one_line_if_that_is_wanted(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """Who, where to, how long, how much, and why it ended."""
    caplog.set_level(logging.INFO, "lbproxy.access")
    for place.frontend.log_access in (False, True):
        client, far, name = place.linked()
        stuff(client, b"abc")
        place.loop.until(lambda far=far: take(far) == b"abc")
        address = "{}:{}".format(*client.getsockname())
        client.close()
        far.close()
        place.loop.until(lambda: not place.frontend.sessions)
    (line,) = [record.getMessage() for record in caplog.records if record.name == "lbproxy.access"]
    assert line.startswith(f"p {address} -> {name} ")
    assert " in=3 out=0 " in line


def test_clients_that_cannot_be_served_fill_no_log(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """One line says why; all are counted."""
    for each in place.behind:
        each.close()
    for _ in range(5):
        client = place.connect()
        place.loop.until(lambda client=client: ended(client) == "rst")
    lines = [record.getMessage() for record in caplog.records if "could not be served" in record.getMessage()]
    assert len(lines) == 1
    assert "s0: connection refused" in lines[0]
    assert place.frontend.view(0.0).rejected == {"unreachable": 5}
    assert all("hurry" in told for _, told in place.told())


def test_a_drained_server_is_cut_when_its_time_is_over_and_not_if_it_was_made_ready(place: Place) -> None:
    """Drained, made ready and drained again: the time begins anew."""
    clients = {name: client for client, _, name in (place.linked(), place.linked())}
    spared, drained = (place.server(name) for name in ("s0", "s1"))
    for server in (spared, drained):
        place.frontend.set_drain(server, True)
    place.frontend.set_drain(spared, False)
    place.loop.until(lambda: ended(clients["s1"]) == "rst")
    assert (ended(clients["s0"]), drained.cuts, spared.cuts) == ("open", {"drained": 1}, {})
    _, _, name = place.linked()
    assert name == "s0"


def test_a_server_that_checks_find_down_is_cut_at_once_unless_its_connections_are_to_be_kept(place: Place) -> None:
    """on_down: close, or keep."""
    clients = {name: client for client, _, name in (place.linked(), place.linked())}
    down = CheckResult(State.DOWN, "port closed", "refused")
    place.frontend.backend.observe(place.server("s0"), down, 1.0)
    place.loop.until(lambda: ended(clients["s0"]) == "rst")
    place.go_over(on_down="keep")
    place.frontend.backend.observe(place.server("s1"), down, 2.0)
    place.loop.settle()
    assert ended(clients["s1"]) == "open"
    assert [each.state for each in place.frontend.view(0.0).servers] == ["down", "down"]


def test_a_removed_server_is_cut_when_its_time_is_over_unless_it_is_back(place: Place) -> None:
    """With it come its connections, counted as its own again."""
    clients = {name: client for client, _, name in (place.linked(), place.linked())}
    first, _ = place.settings.servers
    place.go_over(servers=(ServerConfig(address=Address("127.0.0.1", 1)),))
    place.go_over(servers=(first,))
    assert place.server("s0").connections == 1
    place.loop.until(lambda: ended(clients["s1"]) == "rst")
    assert place.frontend.view(0.0).closed == {REMOVED: 1}
    assert ended(clients["s0"]) == "open"
    reset(clients["s0"])
    place.loop.until(lambda: place.server("s0").connections == 0)


def test_who_is_being_connected_when_the_servers_are_replaced_gets_a_new_one(place: Place) -> None:
    """The attempt at the old one is given up, and the client does not notice."""
    host, port = place.bench.silent_port()
    place.go_over(servers=(ServerConfig(address=Address(host, port)),), connect_timeout=30.0, connect_deadline=60.0)
    place.connect()
    (session,) = place.frontend.sessions
    assert session.link is None
    place.go_over(servers=(ServerConfig(address=Address(*place.behind[0].getsockname()), name="s0"),))
    place.loop.until(lambda: session.link)
    assert session.server is place.server("s0")


def test_each_server_is_looked_after_for_as_long_as_it_is_configured(place: Place) -> None:
    """One that stays keeps what looks after it, and checks anew only when what the settings say of checks differs."""
    s0, s1 = place.settings.servers
    place.go_over(servers=(s0, replace(s1, down=True)), max_fails=7)
    assert place.told() == [("s0", []), ("s1", ["check"])]
    place.go_over(health=HealthConfig(type="tcp"), servers=(replace(s1, down=True), replace(s0, name="s2")))
    assert place.told() == [("s0", ["stop"]), ("s1", ["check", "check"]), ("s2", [])]
    place.frontend.leave()
    assert place.told() == [("s0", ["stop"]), ("s1", ["check", "check", "stop"]), ("s2", ["stop"])]


def test_a_listener_that_goes_over_to_another_proxy_brings_its_clients_there(place: Place) -> None:
    """The socket is never closed."""
    settings = replace(place.settings, listen=())
    other = Proxy("q", settings, place.bench.poller, place.limit, Pool(settings, "n", 0.0), place.monitor)
    other.adopt(place.address, place.frontend.take_listener(place.address))
    client = place.bench.keep(socket.create_connection((place.address.host, place.address.port)))
    place.loop.until(lambda: other.sessions)
    assert (other.view(0.0).listen, place.frontend.view(0.0).listen) == ((str(place.address),), ())
    client.close()
    place.loop.until(lambda: not other.sessions)
    place.frontend.adopt(place.address, other.take_listener(place.address))
