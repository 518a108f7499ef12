"""Real clients and servers on both sides: curl and nginx over TLS and HTTP/2, etcdctl and a cluster of etcd."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial

import pytest

from tests.support.certs import Certs
from tests.support.clients import flood, get
from tests.support.daemon import Daemon, one_proxy
from tests.support.etcd import Etcd, Member, Watch, etcdctl, healthy
from tests.support.need import need
from tests.support.nginx import NginxServer
from tests.support.wait import until

NAMES = {"n1", "n2", "n3"}


@pytest.fixture
def nginxes(certs: Certs) -> Iterator[list[NginxServer]]:
    """Three nginx servers with TLS and HTTP/2 that answer their name."""
    need("nginx", "curl")
    with ExitStack() as stack:
        yield [stack.enter_context(NginxServer(name, certs)) for name in sorted(NAMES)]


def _curl(port: int, certs: Certs) -> tuple[str, str]:
    """Return the answer of one `curl --cacert`, and the HTTP version."""
    command = ["curl", "-sS", "--cacert", str(certs.ca), "-w", "%{http_version}", f"https://127.0.0.1:{port}/"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    name, version = done.stdout.split("\n")
    return name, version


def test_tls_and_http2_pass_through_to_every_server(nginxes: list[NginxServer], certs: Certs) -> None:
    """The handshake is the server's own: its certificate, its ALPN."""
    with Daemon(one_proxy(nginxes)) as daemon:
        name, version = _curl(daemon.port, certs)
        assert (name in NAMES, version) == (True, "2")
        tally = flood(daemon.port, 90, tls=certs.client_context(), send=get())
        assert (set(tally.answers), tally.errors) == (NAMES, [])


def test_a_stopped_server_costs_none_of_a_thousand_new_connections(nginxes: list[NginxServer], certs: Certs) -> None:
    """A refused connect goes on to the next server, and a server that is back is used again."""
    with Daemon(one_proxy(nginxes, fail_timeout=1)) as daemon:
        nginxes[1].stop()
        tally = flood(daemon.port, 1000, tls=certs.client_context(), send=get())
        assert (set(tally.answers), tally.errors) == (NAMES - {"n2"}, [])
        assert all(_curl(daemon.port, certs)[0] in NAMES - {"n2"} for _ in range(3))
        nginxes[1].start()
        until(lambda: "n2" in flood(daemon.port, 30, tls=certs.client_context(), send=get()).answers, "n2 is back")


def test_a_killed_server_costs_only_what_it_was_serving(nginxes: list[NginxServer], certs: Certs) -> None:
    """While connections come in at a steady pace a server goes: none that began after that fails."""
    with Daemon(one_proxy(nginxes)) as daemon, ThreadPoolExecutor(1) as pool:
        before = flood(daemon.port, 100, tls=certs.client_context(), send=get())
        nginxes[0].kill()
        after = pool.submit(flood, daemon.port, 300, per_second=300, tls=certs.client_context(), send=get()).result()
        assert (before.errors, after.errors) == ([], [])
        assert set(after.answers) <= NAMES - {"n1"}


def test_fifty_reloads_fail_no_connect(nginxes: list[NginxServer], certs: Certs) -> None:
    """The third server goes in and out while a hundred clients a second come."""
    three, two = one_proxy(nginxes), one_proxy(nginxes[:2])
    two["proxies"]["p"]["listen"] = three["proxies"]["p"]["listen"]
    with Daemon(three) as daemon, ThreadPoolExecutor(1) as pool:
        traffic = pool.submit(flood, daemon.port, 400, per_second=100, tls=certs.client_context(), send=get())
        for n in range(50):
            daemon.reload(three if n % 2 else two)
        tally = traffic.result()
        assert (tally.errors, set(tally.answers) <= NAMES) == ([], True)
        assert set(daemon.servers()) == {server.address for server in nginxes}


@pytest.fixture
def etcd() -> Iterator[Etcd]:
    """Three etcd members."""
    with Etcd() as cluster:
        yield cluster


def _watched(daemon: Daemon, etcd: Etcd, watch: Watch) -> tuple[str, Member, list[Member]]:
    """Return the address of the watch's end of its connection, the member it goes to, and the other two."""
    address = f"127.0.0.1:{daemon.port}"
    until(lambda: etcdctl(address, "put", "key", "first") and watch.saw("first"), "the watch has begun")
    until(lambda: len(daemon.conns()) == 1, "only the watch is connected")
    (conn,) = daemon.conns()
    (member,) = (m for m in etcd.members if m.address == conn["server"])
    return conn["client"], member, [m for m in etcd.members if m is not member]


def _still_there(daemon: Daemon, client: str) -> bool:
    return client in {conn["client"] for conn in daemon.conns()}


def test_an_etcd_watch_lives_while_another_member_is_killed(etcd: Etcd) -> None:
    """Put, get and watch go on, the watch on the very connection that it had."""
    with Daemon(one_proxy(etcd.members)) as daemon:
        address = f"127.0.0.1:{daemon.port}"
        with Watch(address, "key") as watch:
            client, member, (other, third) = _watched(daemon, etcd, watch)
            other.kill()
            # If that was the leader, etcd itself loses what is put before the others have a new one.
            until(lambda: healthy(member.address) and healthy(third.address), "etcd has a leader", 30)
            for n in range(10):
                etcdctl(address, "put", "key", f"value {n}")
                assert etcdctl(address, "get", "key", "--print-value-only") == f"value {n}\n"
                until(partial(watch.saw, f"value {n}"), f"the watch sees value {n}")
            assert _still_there(daemon, client)


def test_an_etcd_watch_lives_through_a_reload_that_removes_another_member(etcd: Etcd) -> None:
    """What is not in the difference is not touched."""
    config = one_proxy(etcd.members, drain_timeout="100ms")
    with Daemon(config) as daemon:
        address = f"127.0.0.1:{daemon.port}"
        with Watch(address, "key") as watch:
            client, member, (other, removed) = _watched(daemon, etcd, watch)
            config["proxies"]["p"]["servers"] = [other.address, member.address]
            lines = daemon.reload(config)
            assert any("removed" in line and removed.address in line for line in lines), lines
            assert set(daemon.servers()) == {other.address, member.address}
            etcdctl(address, "put", "key", "after")
            until(lambda: watch.saw("after"), "the watch sees a value put after the reload")
            assert _still_there(daemon, client)
