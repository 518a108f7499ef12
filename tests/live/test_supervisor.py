"""Several worker processes behave as one: what they serve, say, hear, and leave behind."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.clients import connect, flood, greeting, receive, receive_all, receive_line
from tests.support.daemon import Daemon, one_proxy
from tests.support.ports import free_port, free_ports
from tests.support.servers import Echo
from tests.support.wait import FACTOR, until

WAIT = 20 * FACTOR


@pytest.fixture
def echoes() -> Iterator[list[Echo]]:
    """Run two servers that say their name and echo."""
    with ExitStack() as stack:
        yield [stack.enter_context(Echo(name)) for name in "ab"]


def workers(daemon: Daemon) -> set[int]:
    """Return the processes that the daemon has started."""
    children = Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children").read_text()
    return {int(pid) for pid in children.split()}


def alive(pid: int) -> bool:
    """Whether there is such a process, and it is not just waiting to be waited for."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def total(daemon: Daemon) -> int:
    """Return the connections of the first proxy so far, as the status says."""
    proxy = next(iter(daemon.status()["proxies"].values()))
    assert sum(server["connections_total"] for server in proxy["servers"].values()) == proxy["connections_total"]
    return int(proxy["connections_total"])


def carrying(daemon: Daemon) -> set[int]:
    """Return the workers that have a connection of the daemon's first port."""
    port = f":{daemon.port:04X}"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    sockets = {f"socket:[{row[9]}]" for row in rows if row[1].endswith(port) and row[3] == "01"}
    found = set()
    for pid in workers(daemon):
        with contextlib.suppress(OSError):  # it has ended
            if sockets & {str(fd.readlink()) for fd in Path(f"/proc/{pid}/fd").iterdir()}:
                found.add(pid)
    return found


@contextlib.contextmanager
def connected(daemon: Daemon) -> Iterator[list[socket.socket]]:
    """Open connections until every worker has some: the kernel spreads them as it likes."""
    clients: list[socket.socket] = []

    def enough() -> bool:
        clients.extend(connect(daemon.port) for _ in range(8))
        assert all(receive_line(client) in ("a", "b") for client in clients[-8:])
        return len(carrying(daemon)) == 2

    try:
        until(enough, "both workers carry connections")
        yield clients
    finally:
        for client in clients:
            client.close()


def test_workers_share_the_work_and_their_figures_are_added_up(echoes: list[Echo]) -> None:
    """Connections, bytes and totals of all; one process has the control socket."""
    with Daemon({**one_proxy(echoes), "workers": 2}) as daemon:
        assert len(workers(daemon)) == 2
        with connected(daemon) as clients:
            status = daemon.status()
            assert (status["pid"], status["generation"]) == (daemon.pid, 1)
            assert status["proxies"]["p"]["connections"] == len(daemon.conns()) == len(clients)
            carried = [server["connections"] for server in status["proxies"]["p"]["servers"].values()]
            assert sum(carried) == len(clients)
            assert max(carried) - min(carried) <= 2  # each worker is fair by itself
        until(lambda: not daemon.conns())
        tally = flood(daemon.port, 200)
        assert tally.errors == []
        assert total(daemon) == len(clients) + 200
        assert sum(server["bytes_out_total"] for server in daemon.servers().values()) == total(daemon) * len("a\n")


def test_auto_is_one_worker_for_each_cpu_that_may_be_used(echoes: list[Echo]) -> None:
    """With one CPU there is no process beside the daemon."""
    with Daemon({**one_proxy(echoes), "workers": "auto"}) as daemon:
        cpus = len(os.sched_getaffinity(0))
        assert len(workers(daemon)) == (cpus if cpus > 1 else 0)
        assert flood(daemon.port, 20).errors == []


def test_a_reload_reaches_every_worker(echoes: list[Echo]) -> None:
    """Servers, addresses and proxies alike; what cannot be bound refuses it for all, and no connection is lost."""
    a, b = echoes
    config: dict[str, Any] = {**one_proxy([a]), "workers": 2, "watch": False}
    with Daemon(config) as daemon, connected(daemon) as clients:
        new, taken = free_ports(2)
        config["proxies"]["p"]["listen"].append(f"127.0.0.1:{new}")
        config["proxies"]["p"]["servers"] = [b.address]
        config["proxies"] = {"q": {"listen": [f"127.0.0.1:{taken}"], "servers": [a.address]}, **config["proxies"]}
        daemon.reload(config)
        assert list(daemon.status()["proxies"]) == ["q", "p"]
        assert set(flood(new, 50).answers) == {"b"}
        assert set(flood(taken, 50).answers) == {"a"}
        until(lambda: len(daemon.conns()) == len(clients))
        with socket.create_server(("127.0.0.1", 0)) as others:
            refused = {"listen": ["{}:{}".format(*others.getsockname())], "servers": [a.address]}
            daemon.rewrite({**config, "proxies": {**config["proxies"], "r": refused}})
            assert not daemon.call("reload")["applied"]
        assert daemon.reload(config) == ["no change"]
        assert (daemon.status()["generation"], list(daemon.status()["proxies"])) == (2, ["q", "p"])
        del config["proxies"]["q"]
        config["proxies"]["p"]["listen"].pop()
        daemon.reload(config)
        for port in (new, taken):
            with pytest.raises(ConnectionRefusedError):
                connect(port)


def test_drain_and_ready_reach_every_worker_and_those_that_come_later(echoes: list[Echo]) -> None:
    """The operator's word is not lost with the process that heard it, and ends with the server."""
    a, b = echoes
    with Daemon({**one_proxy(echoes), "workers": 2}) as daemon:
        assert not daemon.call("drain", server="nobody")["ok"]
        assert daemon.call("drain", server=a.address)["ok"]
        assert set(flood(daemon.port, 60).answers) == {"b"}
        _replaced(daemon)
        assert daemon.servers()[a.address]["state"] == "draining"
        assert set(flood(daemon.port, 60).answers) == {"b"}
        config = daemon.config
        daemon.reload({**config, "proxies": {"p": {**config["proxies"]["p"], "servers": [b.address]}}})
        daemon.reload(config)
        _replaced(daemon)
        assert set(flood(daemon.port, 60).answers) == {"a", "b"}


def _replaced(daemon: Daemon) -> None:
    """Kill a worker and wait until another has taken its place."""
    before = workers(daemon)
    os.kill(min(before), signal.SIGKILL)
    until(lambda: len(workers(daemon) - {min(before)}) == 2)
    with connected(daemon) as clients:
        until(lambda: len(daemon.conns()) == len(clients), "the new one is asked, too")


def test_a_killed_worker_is_replaced_and_the_port_never_refuses(echoes: list[Echo]) -> None:
    """Only its own connections are lost; the new one has the configuration of now and not that of the start."""
    a, b = echoes
    config = {**one_proxy([a]), "workers": 2}
    with Daemon(config) as daemon, ThreadPoolExecutor(1) as pool, connected(daemon) as clients:
        config["proxies"]["p"]["servers"] = [b.address]
        extra = free_port()
        config["proxies"]["p"]["listen"].append(f"127.0.0.1:{extra}")
        daemon.reload(config)
        before = workers(daemon)
        traffic = pool.submit(flood, daemon.port, 600, per_second=200)
        killed = min(before)
        os.kill(killed, signal.SIGKILL)
        until(lambda: len(workers(daemon) - {killed}) == 2, "there are two again")
        tally = traffic.result()
        # A connection that the dead one had accepted and not yet answered is lost with it, and no other.
        assert not [error for error in tally.errors if "Refused" in error]
        assert len(tally.errors) <= 2
        assert set(tally.answers) == {"b"}
        assert 0 < len(daemon.conns()) < len(clients)
        survivor = before - {killed}
        os.kill(survivor.pop(), signal.SIGKILL)
        until(lambda: len(workers(daemon)) == 2 and not workers(daemon) & before, "both are new")
        assert flood(extra, 20).answers == {"b": 20}
        assert daemon.log.count("its connections are lost") == 2


def test_a_stop_lets_the_exchanges_of_every_worker_end(echoes: list[Echo]) -> None:
    """Meanwhile new clients are served and the status is still to be had; then no process is left."""
    with Daemon({**one_proxy(echoes), "workers": 2, "shutdown_timeout": "1h"}) as daemon, connected(daemon) as clients:
        pids = workers(daemon)
        with connect(daemon.port) as last:
            receive_line(last)

            def exchange() -> bool:
                last.sendall(b"still there?")
                return receive(last, 12) == b"still there?"

            daemon.send(signal.SIGTERM)
            until(lambda: exchange() and len(daemon.conns()) == 1, "the quiet ones are cut")
            assert greeting(daemon.port)
            assert exchange()
        assert clients
        assert daemon.process.wait(WAIT) == 0
        assert not [pid for pid in pids if alive(pid)]
        daemon.assert_clean_log()


def test_a_second_signal_cuts_the_connections_of_every_worker(echoes: list[Echo]) -> None:
    """With a reset, as without workers, and an hour of shutdown_timeout is cut short."""
    with Daemon({**one_proxy(echoes), "workers": 2, "shutdown_timeout": "1h"}) as daemon:
        with connected(daemon) as clients:
            daemon.send(signal.SIGTERM)
            until(lambda: "stopping" in daemon.log)
            daemon.send(signal.SIGTERM)
            for client in clients:
                with pytest.raises(ConnectionResetError):
                    receive_all(client)
        assert daemon.process.wait(WAIT) == 0
        daemon.assert_clean_log()


def test_no_worker_outlives_a_killed_daemon(echoes: list[Echo]) -> None:
    """They hear that the parent is gone, cut what they have, and end; the port is free again."""
    with Daemon({**one_proxy(echoes), "workers": 2}) as daemon, connect(daemon.port) as client:
        receive_line(client)
        pids = workers(daemon)
        os.kill(daemon.pid, signal.SIGKILL)
        daemon.process.wait()
        until(lambda: not [pid for pid in pids if alive(pid)], "the workers end")
        with pytest.raises(ConnectionResetError):
            receive_all(client)
        daemon.assert_clean_log()
        daemon.start()
        assert greeting(daemon.port) in ("a", "b")
