"""Servers that are found, by a whole daemon: from the API servers themselves, and from files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.certs import Certs
from tests.support.clients import connect, flood
from tests.support.daemon import Daemon, one_proxy
from tests.support.kubernetes import ApiServer, Cluster, kubeconfig
from tests.support.ports import free_port
from tests.support.servers import Echo
from tests.support.wait import until

HEALTH = {"type": "https", "interval": "200ms"}


class Masters:
    """Three API servers of which the cluster knows the first two, and a daemon's configuration that knows the first."""

    def __init__(self, cluster: Cluster, servers: list[ApiServer], config: dict[str, Any]) -> None:
        self.cluster = cluster
        self.servers = servers
        self.config = config
        self.places = [server.address for server in servers]


@pytest.fixture
def masters(certs: Certs, tmp_path: Path) -> Iterator[Masters]:
    """Run them."""
    port = free_port()
    cluster = Cluster(f"127.0.0.21:{port}", f"127.0.0.22:{port}")
    with ExitStack() as stack:
        servers = [stack.enter_context(ApiServer(cluster, certs, f"127.0.0.2{n}", port)) for n in (1, 2, 3)]
        file = kubeconfig(tmp_path / "kubeconfig", certs, token="t")  # noqa: S106
        config = one_proxy(servers[:1], slow_start=0, health=HEALTH, servers_from={"kubernetes": {"kubeconfig": file}})
        yield Masters(cluster, servers, config)


def found(daemon: Daemon) -> dict[str, str]:
    """Return the state of each server."""
    return {name: f"{server['source']} {server['state']}" for name, server in daemon.servers().items()}


def test_a_master_is_used_when_kubernetes_knows_it_and_drained_when_it_does_not(masters: Masters, certs: Certs) -> None:
    """Nobody has to be told of a new master, and a client of one that is removed has its time to leave."""
    first, second, third = masters.places
    with Daemon(masters.config) as daemon:
        until(lambda: found(daemon) == {first: "config up", second: "kubernetes up"}, "the second is found")
        masters.cluster.put(first, second, third)
        until(lambda: found(daemon).get(third) == "kubernetes up", "the third is found")
        context = certs.client_context()
        with ExitStack() as stack:
            for _ in range(6):
                raw = stack.enter_context(connect(daemon.port))
                stack.enter_context(context.wrap_socket(raw, server_hostname="localhost"))
            until(lambda: all(s["connections"] for s in daemon.servers().values()), "all are used")
            masters.cluster.put(first, second)
            until(lambda: third not in found(daemon), "the third is removed")
            assert len(daemon.conns()) >= 6, "its connections live on"
        until(lambda: f"server {third} removed" in daemon.log)
        assert daemon.status()["generation"] >= 4


def test_nothing_is_removed_by_an_answer_without_servers(masters: Masters) -> None:
    """A list that is empty, a version that is too old, a watch that is cut, an API server that refuses."""
    first, second, _ = masters.places
    both = {first: "config up", second: "kubernetes up"}
    with Daemon(masters.config) as daemon:
        until(lambda: found(daemon) == both)
        masters.cluster.put()
        until(lambda: "it names no server" in daemon.log, "the empty list is heard of")
        masters.cluster.forget()
        lists = sum(kind == "list" for kind, *_ in masters.cluster.asked)
        for server in masters.servers:
            server.cut()
        until(lambda: sum(kind == "list" for kind, *_ in masters.cluster.asked) > lists, "410: it lists anew", 20)
        masters.cluster.status = 403
        for server in masters.servers:
            server.cut()
        until(lambda: "status 403" in daemon.log, "a refusal is told", 20)
        masters.cluster.status = 200
        masters.cluster.put(first, second)
        until(lambda: "answers again" in daemon.log, "it goes on", 60)
        assert set(found(daemon)) == {first, second}
        assert f"server {second} removed" not in daemon.log


def test_what_was_found_is_there_after_a_start_without_anybody_to_ask(
    masters: Masters, certs: Certs, tmp_path: Path
) -> None:
    """A node that boots while the master of its configuration is away has the others still, and uses them at once."""
    first, second, _ = masters.places
    control = str(tmp_path / "control.sock")
    with Daemon({"control": control, **masters.config}) as daemon:
        until(lambda: found(daemon).get(second) == "kubernetes up")
        kept = Path(f"{control}.found.json")
        until(
            lambda: kept.exists() and json.loads(kept.read_text())[0]["good"] != [], "it is kept, and that it was good"
        )
    masters.servers[0].stop()
    masters.cluster.status = 503
    with Daemon({"control": control, **masters.config}) as daemon:
        assert set(found(daemon)) == {first, second}
        until(lambda: "2 servers that kubernetes named" in daemon.log)
        raw = connect(daemon.port)
        with certs.client_context().wrap_socket(raw, server_hostname="localhost") as client:
            client.sendall(b"GET /readyz HTTP/1.1\r\n\r\n")
            assert client.recv(100).startswith(b"HTTP/1.1 200")
        raw.close()


def test_an_answer_that_names_only_the_wrong_places_takes_nobody_away(masters: Masters) -> None:
    """As long as none of those that it leaves is up, the others stay; and what is wrong gets no client."""
    first, second, _ = masters.places
    closed = f"127.0.0.29:{masters.servers[0].port}"
    with Daemon(masters.config) as daemon:
        until(lambda: found(daemon) == {first: "config up", second: "kubernetes up"})
        masters.servers[0].stop()
        until(lambda: found(daemon)[first] == "config down")
        masters.cluster.put(closed)
        until(lambda: closed in found(daemon), "the new one is taken in", 20)
        until(lambda: found(daemon)[closed] == "kubernetes down")
        assert found(daemon)[second] == "kubernetes up"
        until(lambda: "none of the servers that kubernetes names is up" in daemon.log)
        masters.servers[0].start()
        until(lambda: second not in found(daemon), "it goes once another one is up", 30)


def test_servers_in_files_come_and_go_with_them(tmp_path: Path) -> None:
    """Each file is replaced by a rename; a broken one changes nothing; without checks they are used at once."""
    folder = tmp_path / "servers.d"
    folder.mkdir()

    def write(name: str, text: str) -> None:
        (tmp_path / "new").write_text(text)
        (tmp_path / "new").rename(folder / name)

    with Echo("one") as one, Echo("two") as two:
        write("a.yaml", f"- {one.address}\n")
        config = one_proxy([], servers_from={"file": f"{folder}/*.yaml"})
        with Daemon(config) as daemon:
            until(lambda: found(daemon) == {one.address: "file up"})
            assert flood(daemon.port, 2).answers == {"one": 2}
            write("b.yaml", f"[{{address: '{two.address}', name: b}}]\n")
            until(lambda: set(found(daemon)) == {one.address, "b"})
            write("a.yaml", "- nonsense")
            until(lambda: "must be HOST:PORT" in daemon.log)
            (folder / "b.yaml").unlink()
            write("a.yaml", f"- {two.address}\n")
            until(lambda: set(found(daemon)) == {two.address})
            assert flood(daemon.port, 2).answers == {"two": 2}
            (folder / "a.yaml").unlink()
            until(lambda: "it names no server" in daemon.log)
            assert set(found(daemon)) == {two.address}


def test_with_several_workers_one_process_asks_and_all_use_what_is_found(masters: Masters) -> None:
    """Each would ask the API servers for itself otherwise."""
    first, second, third = masters.places
    with Daemon({"workers": 2, **masters.config}) as daemon:
        until(lambda: found(daemon) == {first: "config up", second: "kubernetes up"}, "the second is found", 30)
        masters.cluster.put(third)
        until(lambda: found(daemon) == {first: "config up", third: "kubernetes up"}, "it is followed", 30)
        assert sum(kind == "list" for kind, *_ in masters.cluster.asked) == 1


def test_a_found_server_that_is_written_down_stays_the_one_it_is(tmp_path: Path) -> None:
    """Its connections do not notice that it is the file's now."""
    with Echo("one") as one, Echo("two") as two:
        (tmp_path / "a.yaml").write_text(f"- {one.address}\n")
        config = one_proxy([], servers_from={"file": f"{tmp_path}/*.yaml"})
        with Daemon(config) as daemon:
            until(lambda: found(daemon) == {one.address: "file up"})
            with connect(daemon.port) as client:
                assert client.recv(4) == b"one\n"
                config["proxies"]["p"]["servers"] = [one.address]
                assert not any("removed" in line for line in daemon.reload(config))
                assert found(daemon) == {one.address: "config up"}
                client.sendall(b"still")
                assert client.recv(5) == b"still"
            del config["proxies"]["p"]["servers_from"]
            config["proxies"]["p"]["servers"] = [two.address]
            daemon.reload(config)
            assert found(daemon) == {two.address: "config up"}
