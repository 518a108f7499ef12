"""The tests' own servers, clients and networks do what they say."""

from __future__ import annotations

import hashlib
import itertools
import os
import socket
import subprocess

import pytest

from tests.support.certs import Certs
from tests.support.clients import connect, flood, get, greeting, receive, receive_all, receive_line
from tests.support.daemon import Daemon, one_proxy
from tests.support.haproxy import HAProxy
from tests.support.need import need
from tests.support.netns import MASTERS, NODE, How, Topology
from tests.support.nginx import NginxProxy, NginxServer
from tests.support.ports import candidates, free_ports, listening
from tests.support.servers import BLOCK, Echo, Hung, Resetting, Server, Sink, Source, pattern
from tests.support.wait import until


def test_free_ports_differ_and_can_be_listened_on() -> None:
    """Two servers of one test never fight for a port."""
    ports = free_ports(50)
    assert len(set(ports)) == 50
    with socket.create_server(("127.0.0.1", ports[0])):
        assert ports[0] in listening()


def test_workers_side_by_side_have_no_port_in_common() -> None:
    """Where one has stopped a server, which is dialled all the time, another one must not start its own."""
    seen = [set(itertools.islice(candidates(worker, 3), 20_000)) for worker in range(3)]
    assert min(map(len, seen)) > 1000
    assert not seen[0] & seen[1] | seen[0] & seen[2] | seen[1] & seen[2]


@pytest.mark.parametrize(("offset", "size"), [(0, 1), (3, 10), (BLOCK - 1, 2), (5 * BLOCK - 7, 3 * BLOCK + 9)])
def test_a_piece_of_the_pattern_is_the_same_wherever_it_is_cut(offset: int, size: int) -> None:
    """A reader can check any piece by its offset alone."""
    assert pattern(offset, size) == pattern(0, offset + size)[offset:]
    assert pattern(offset, size + BLOCK) != pattern(offset + BLOCK, size + BLOCK)


def test_echo_greets_echoes_and_starts_again_on_its_port() -> None:
    """A stopped server refuses, a started one serves on the same port."""
    with Echo("a") as server:
        with connect(server.port) as client:
            assert receive_line(client) == "a"
            client.sendall(b"hello")
            assert receive(client, 5) == b"hello"
            client.shutdown(socket.SHUT_WR)
            assert receive_all(client) == b""
        server.stop()
        with pytest.raises(ConnectionRefusedError):
            connect(server.port)
        server.start()
        assert greeting(server.port) == "a"
        assert server.accepted == 2


def test_source_sends_the_pattern_and_sink_counts_it() -> None:
    """What the source sends is what the sink expects."""
    with Source(300_000) as source, Sink() as sink:
        with connect(source.port) as client:
            data = receive_all(client)
        assert data == pattern(0, 300_000)
        with connect(sink.port) as client:
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
            assert receive_all(client).decode() == f"300000 {hashlib.sha256(data).hexdigest()}\n"


@pytest.mark.parametrize("server", [Resetting(), Resetting(after_data=True)], ids=["at once", "after data"])
def test_resetting_resets(server: Server) -> None:
    """The client sees a reset and not an end of file."""
    with server, pytest.raises(ConnectionResetError), connect(server.port) as client:  # noqa: PT012  # at any step
        client.sendall(b"x")
        client.recv(1)


def test_cut_resets_what_is_open() -> None:
    """A server can drop its clients and serve on."""
    with Echo("a") as server, connect(server.port) as client:
        assert receive_line(client) == "a"
        server.cut()
        with pytest.raises(ConnectionResetError):
            client.recv(1)
        assert greeting(server.port) == "a"


def test_hung_accepts_and_stays_silent() -> None:
    """The kernel takes the connection and the bytes, nobody answers."""
    with Hung() as server, connect(server.port) as client:
        client.sendall(b"x")
        client.setblocking(False)
        with pytest.raises(BlockingIOError):
            client.recv(1)


def test_flood_counts_answers_and_errors() -> None:
    """Each connection is either an answer or an error."""
    with Echo("a") as server:
        tally = flood(server.port, 100)
        assert (tally.answers, tally.errors, len(tally.seconds)) == ({"a": 100}, [], 100)
        server.stop()
        tally = flood(server.port, 3)
        assert (tally.answers, len(tally.errors)) == ({}, 3)


def test_nginx_answers_its_name_over_http2(certs: Certs) -> None:
    """Its certificate is good for its address, and it speaks HTTP/2 and HTTP/1.1."""
    need("nginx", "curl")
    with NginxServer("n1", certs) as server:
        url = f"https://{server.address}/"
        assert _curl(url, certs) == "n1\n2"
        tally = flood(server.port, 20, tls=certs.client_context(["http/1.1"]), send=get())
        assert (tally.answers, tally.errors) == ({"n1": 20}, [])
        server.stop()
        server.start()
        assert _curl(url, certs) == "n1\n2"


def test_frozen_nginx_accepts_and_stays_silent(certs: Certs) -> None:
    """Its workers are stopped too, and go on when thawed."""
    need("nginx")
    with NginxServer("n1", certs) as server:
        server.freeze()
        tally = flood(server.port, 1, tls=certs.client_context(), send=get(), timeout=0.3)
        assert tally.errors == ["TimeoutError: "]
        server.thaw()
        assert flood(server.port, 1, tls=certs.client_context(), send=get()).answers == {"n1": 1}


@pytest.mark.parametrize("proxy", [NginxProxy, HAProxy])
def test_the_peers_proxy(proxy: type[NginxProxy | HAProxy]) -> None:
    """Nginx and HAProxy run with kubespray's settings."""
    with Echo("a") as a, Echo("b") as b:
        peer = proxy([a.address, b.address]) if proxy is NginxProxy else HAProxy([a.address, b.address], checks=False)
        with peer:
            tally = flood(peer.port, 40)
    assert tally.errors == []
    assert set(tally.answers) == {"a", "b"}


def test_topology_connects_the_node_with_every_master() -> None:
    """Each host has its own address; outside there is nothing to see of it."""
    need("netns", "ip")
    with Topology() as net, Echo("m2", host=MASTERS["m2"], ns=net.masters["m2"]) as server:
        with connect(server.port, MASTERS["m2"], net.node) as client:
            assert client.getsockname()[0] == NODE
            assert receive_line(client) == "m2"
        assert server.port not in listening()


@pytest.mark.parametrize("how", ["unbridge", "port", "linkdown", "blackhole", "nft"])
def test_a_killed_master_is_silent_until_it_is_healed(how: How) -> None:
    """A connect gets no answer at all, no refusal either."""
    need("netns", "ip", "nft")
    with Topology() as net, Echo("m1", host=MASTERS["m1"], ns=net.masters["m1"]) as server:
        assert greeting(server.port, MASTERS["m1"], net.node) == "m1"
        net.kill("m1", how)
        tally = flood(server.port, 1, MASTERS["m1"], ns=net.node, timeout=0.3)
        assert tally.errors == ["TimeoutError: "]
        net.heal("m1")
        assert until(lambda: flood(server.port, 1, MASTERS["m1"], ns=net.node, timeout=1).answers) == {"m1": 1}


def test_a_frozen_master_accepts_and_stays_silent(certs: Certs) -> None:
    """Its processes are stopped, its kernel is not."""
    need("netns", "ip", "nginx")
    with Topology() as net, NginxServer("m1", certs, MASTERS["m1"], ns=net.masters["m1"]) as server:
        net.kill("m1", "freeze")
        tally = flood(server.port, 1, MASTERS["m1"], tls=certs.client_context(), send=get(), ns=net.node, timeout=0.3)
        assert tally.errors == ["TimeoutError: "]
        connect(server.port, MASTERS["m1"], net.node).close()
        net.heal("m1")
        tally = flood(server.port, 1, MASTERS["m1"], tls=certs.client_context(), send=get(), ns=net.node)
        assert tally.answers == {"m1": 1}


def test_a_topology_leaves_no_namespace_behind() -> None:
    """Nothing names the namespaces, so nothing has to be cleaned up."""
    need("netns", "ip")
    with Topology() as net:
        where = net.switch.path
        assert os.stat(where).st_ino != os.stat("/proc/self/ns/net").st_ino  # noqa: PTH116
    assert not os.path.lexists(where)


def _curl(url: str, certs: Certs) -> str:
    command = ["curl", "-sS", "--http2", "--cacert", str(certs.ca), "-w", "%{http_version}", url]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_daemon_serves_reloads_and_stops_clean() -> None:
    """What most tests are made of."""
    with Echo("a") as a, Echo("b") as b, Daemon(one_proxy([a, b])) as daemon:
        a.stop()
        assert greeting(daemon.port) == "b"
        assert daemon.cli("status").returncode == 0
        a.start()
        config = daemon.config
        config["proxies"]["p"]["servers"] = [a.address]
        assert daemon.reload(config)
        assert list(daemon.servers()) == [a.address]
        with connect(daemon.port) as client:
            assert receive_line(client) == "a"
            assert [conn["server"] for conn in daemon.conns()] == [a.address]


def test_a_daemon_that_does_not_start_shows_why() -> None:
    """A test that waits for a port of a broken configuration fails with the log."""
    with pytest.raises(AssertionError, match=r"(?s)exited with 1:.*no_such_key"), Daemon("no_such_key: 1"):
        pass
