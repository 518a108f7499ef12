"""A server whose packets vanish, in network namespaces: nothing refuses, nothing answers."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.support.certs import Certs
from tests.support.clients import Tally, connect, flood, get, receive_line
from tests.support.daemon import Daemon, one_proxy
from tests.support.need import need
from tests.support.netns import MASTERS, How, Topology
from tests.support.nginx import NginxServer
from tests.support.servers import Echo
from tests.support.wait import until

REST = {"m1", "m3"}


@pytest.fixture
def net() -> Iterator[Topology]:
    """Make a node and three masters."""
    need("netns", "ip", "nft")
    with Topology() as topology:
        yield topology


@pytest.fixture
def daemon(net: Topology) -> Iterator[Daemon]:
    """Run lbproxy on the node, in front of a server on each master that answers the master's name."""
    with ExitStack() as stack:
        servers = [stack.enter_context(Echo(m, host=MASTERS[m], ns=net.masters[m])) for m in MASTERS]
        yield stack.enter_context(Daemon(one_proxy(servers, fail_timeout=1), ns=net.node))


@pytest.mark.parametrize("how", ["unbridge", "blackhole", "nft"])
def test_a_silent_server_costs_none_of_a_thousand_new_connections(net: Topology, daemon: Daemon, how: How) -> None:
    """The next server is tried while this one is still waited for; once packets pass again it is used again."""
    assert set(flood(daemon.port, 60, ns=net.node).answers) == set(MASTERS)
    net.kill("m2", how)
    tally = flood(daemon.port, 1000, ns=net.node)
    assert (set(tally.answers), tally.errors) == (REST, [])
    net.heal("m2")
    until(lambda: "m2" in flood(daemon.port, 30, ns=net.node).answers, "m2 is used again", 20)


def test_when_every_server_is_silent_the_client_is_reset_within_the_deadline(net: Topology, daemon: Daemon) -> None:
    """A client learns of it by a reset; the first connection after the outage works."""
    for master in MASTERS:
        net.kill(master, "unbridge")
    tally = flood(daemon.port, 20, ns=net.node)
    assert tally.answers == {}
    assert {error.partition(":")[0] for error in tally.errors} == {"ConnectionResetError"}
    for master in MASTERS:
        net.heal(master)
    assert flood(daemon.port, 20, ns=net.node).errors == []


def test_a_frozen_server_costs_no_new_tls_connection(net: Topology, certs: Certs) -> None:
    """Its kernel accepts and nobody answers: the ClientHello is sent to another server."""
    need("nginx")
    with ExitStack() as stack:
        servers = [stack.enter_context(NginxServer(m, certs, MASTERS[m], ns=net.masters[m])) for m in MASTERS]
        config = one_proxy(servers, first_byte_timeout="300ms", fail_timeout=1)
        daemon = stack.enter_context(Daemon(config, ns=net.node))

        def clients(count: int) -> Tally:
            return flood(daemon.port, count, tls=certs.client_context(), send=get(), ns=net.node)

        assert set(clients(60).answers) == set(MASTERS)
        net.kill("m2", "freeze")
        tally = clients(300)
        assert (set(tally.answers), tally.errors) == (REST, [])
        net.heal("m2")
        until(lambda: "m2" in clients(30).answers, "m2 is used again", 20)


def _open(net: Topology, daemon: Daemon, wanted: dict[str, int]) -> dict[str, list[socket.socket]]:
    """Return open connections by master, at least as many as wanted."""
    found: dict[str, list[socket.socket]] = {}
    while any(len(found.get(name, [])) < count for name, count in wanted.items()):
        sock = connect(daemon.port, ns=net.node)
        found.setdefault(receive_line(sock), []).append(sock)
        sock.setblocking(False)
    return found


def _ended(sock: socket.socket) -> bool:
    try:
        return not sock.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        return True


def test_a_connection_whose_server_acknowledges_nothing_is_cut_without_any_check(net: Topology) -> None:
    """After tcp_user_timeout, with no health configured; those of the others go on."""
    with ExitStack() as stack:
        servers = [stack.enter_context(Echo(m, host=MASTERS[m], ns=net.masters[m])) for m in MASTERS]
        daemon = stack.enter_context(Daemon(one_proxy(servers, tcp_user_timeout="1s"), ns=net.node))
        open_ = _open(net, daemon, dict.fromkeys(MASTERS, 1))
        for sock in (sock for socks in open_.values() for sock in socks):
            stack.enter_context(sock)
        net.kill("m2", "unbridge")
        for socks in open_.values():
            for sock in socks:
                sock.sendall(b"ping")
        until(lambda: all(map(_ended, open_["m2"])), "its connections are cut", 30)
        assert {sock.recv(4) for name in REST for sock in open_[name]} == {b"ping"}


def test_data_in_vain_hurries_the_check_and_then_one_is_enough(net: Topology) -> None:
    """Also the idle connections of a master that has vanished are cut, long before a check was due."""
    health = {"type": "tcp", "interval": "1h", "timeout": "500ms"}
    with ExitStack() as stack:
        servers = [stack.enter_context(Echo(m, host=MASTERS[m], ns=net.masters[m])) for m in MASTERS]
        daemon = stack.enter_context(Daemon(one_proxy(servers, health=health, tcp_user_timeout=0), ns=net.node))
        until(lambda: {server["state"] for server in daemon.servers().values()} == {"up"}, "all are checked")
        open_ = _open(net, daemon, {"m2": 3, "m1": 1, "m3": 1})
        for sock in (sock for socks in open_.values() for sock in socks):
            stack.enter_context(sock)
        net.kill("m2", "unbridge")
        open_["m2"][0].sendall(b"ping")
        until(lambda: all(map(_ended, open_["m2"])), "its connections are cut", 30)
        assert not any(_ended(sock) for name in REST for sock in open_[name])
