"""Several worker processes behave as one: what they serve, say, hear, and leave behind."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
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
    """Return the processes that carry the daemon's connections."""
    return {worker["pid"] for worker in daemon.status()["workers"]}


def descendants(pid: int) -> set[int]:
    """Return all processes that a process has started, and those have."""
    children = {int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}
    return children.union(*map(descendants, children))


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
        until(lambda: len(workers(daemon)) == 2)
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
        until(lambda: len(workers(daemon)) == (cpus if cpus > 1 else 0))
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
        until(lambda: daemon.log.count(f"p: listen 127.0.0.1:{new} closed") == 1, "it is said")
        assert "no longer listening" not in daemon.log  # that is for what a predecessor has left


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


def old_enough(daemon: Daemon, count: int) -> None:
    """Wait until so many connections are kept."""
    until(lambda: len([c for c in daemon.conns() if c["age_seconds"] > 3.5]) >= count, "they are old enough", 20)


def exchanges(client: socket.socket) -> bool:
    """Whether a connection still carries bytes both ways."""
    try:
        client.sendall(b"still there?")
        return receive(client, 12) == b"still there?"
    except OSError:
        return False


@pytest.mark.parametrize("how", ["KILL", "STOP"])
def test_a_worker_that_dies_or_hangs_is_replaced_and_what_it_had_goes_on(echoes: list[Echo], how: str) -> None:
    """Its connections with the next one, which has the configuration of now; no new one is refused meanwhile."""
    a, b = echoes
    config = {**one_proxy([a]), "workers": 2, "watch": False}
    with Daemon(config) as daemon, ThreadPoolExecutor(1) as pool, connected(daemon) as clients:
        old_enough(daemon, len(clients))
        config["proxies"]["p"]["servers"] = [b.address, {"address": a.address, "down": True}]
        daemon.reload(config)
        before, status = workers(daemon), daemon.status()["proxies"]["p"]
        traffic = pool.submit(flood, daemon.port, 400, per_second=100)
        struck = min(before)
        os.kill(struck, getattr(signal, f"SIG{how}"))
        until(lambda: len(workers(daemon) - {struck}) == 2, "there are two again", 20)
        tally = traffic.result()
        # One that had been accepted and not yet answered is lost, and no other.
        assert not [error for error in tally.errors if "Refused" in error]
        assert len(tally.errors) <= 2
        assert set(tally.answers) == {"b"}
        assert all(exchanges(client) for client in clients)
        after = daemon.status()
        assert after["workers_replaced"] == 1
        assert after["proxies"]["p"]["connections_total"] >= status["connections_total"] + 400 - len(tally.errors) - 50
        until(lambda: daemon.log.count("of its connections go on with another one, 0 are reset") == 1, "it is said")


def test_a_worker_can_be_replaced_after_the_nursery_was_killed(echoes: list[Echo]) -> None:
    """Another one is started; that takes its time, and the other worker serves meanwhile."""
    with Daemon({**one_proxy(echoes), "workers": 2}) as daemon:
        before = workers(daemon)
        (nursery,) = [pid for pid in descendants(daemon.pid) if pid not in before]
        os.kill(nursery, signal.SIGKILL)
        os.kill(min(before), signal.SIGKILL)
        until(lambda: len(workers(daemon) - {min(before)}) == 2, "there are two again", 20)
        assert flood(daemon.port, 40).errors == []


def test_a_limit_is_that_of_all_workers_exactly(echoes: list[Echo]) -> None:
    """Of 300 clients at once as many are served as `max_connections` says."""
    with Daemon({**one_proxy(echoes, max_connections=100), "workers": 2}) as daemon, ExitStack() as stack:
        served = 0
        for _ in range(300):
            with contextlib.suppress(ConnectionError):
                served += receive_line(stack.enter_context(connect(daemon.port))) in ("a", "b")
        assert served == 100
        proxy = daemon.status()["proxies"]["p"]
        assert (proxy["connections"], proxy["connections_total"]) == (100, 300)


@pytest.mark.parametrize(("limit", "served"), [("max_connections", 90), ("max_conns", 60)])
def test_limits_hold_when_all_come_at_once(limit: str, served: int) -> None:
    """That of a proxy, and those of its servers: workers that decide in one instant do not pass them together."""
    with ExitStack() as stack:
        servers = [{"address": stack.enter_context(Echo(name)).address} for name in "abc"]
        if limit == "max_conns":
            servers = [{**server, "max_conns": served // 3} for server in servers]
        config = one_proxy(servers, **({limit: served} if limit == "max_connections" else {}))
        daemon = stack.enter_context(Daemon({**config, "workers": 4}))
        clients = [stack.enter_context(socket.socket()) for _ in range(300)]
        for client in clients:
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", daemon.port))
        answers = []
        for client in clients:
            client.settimeout(WAIT)
            with contextlib.suppress(ConnectionError):
                answers.append(receive_line(client))
        assert len([answer for answer in answers if answer]) == served
        assert sum(server["connections"] for server in daemon.servers().values()) == served


def test_held_connections_are_spread_as_by_one_process() -> None:
    """Least connections by the sums: counts differ by as many as there are workers, at most."""
    with ExitStack() as stack:
        servers = [stack.enter_context(Echo(name)) for name in "abc"]
        daemon = stack.enter_context(Daemon({**one_proxy(servers), "workers": 2}))
        clients = [stack.enter_context(connect(daemon.port)) for _ in range(300)]
        assert all(receive_line(client) in "abc" for client in clients)
        carried = [server["connections"] for server in daemon.servers().values()]
        assert sum(carried) == 300
        assert max(carried) - min(carried) <= 2
        split = [worker["connections"] for worker in daemon.status()["workers"]]
        assert sum(split) == 300
        assert min(split) > 100


def test_a_server_is_checked_as_often_as_by_one_process() -> None:
    """Whoever leads asks, and the workers are told."""
    with ExitStack() as stack:
        counts = []
        for number in (1, 4):
            server = stack.enter_context(Echo("a"))
            config = one_proxy([server], health={"type": "tcp", "interval": "1s"})
            daemon = stack.enter_context(Daemon({**config, "workers": number}))
            until(lambda daemon=daemon: next(iter(daemon.servers().values()))["state"] == "up", "it is checked")
            counts.append((daemon, server))
        time.sleep(4)
        alone, together = (next(iter(daemon.servers().values()))["checks"]["ok"] for daemon, _ in counts)
        assert abs(alone - together) <= 2


def test_what_one_worker_has_met_the_others_know(echoes: list[Echo]) -> None:
    """A server that refuses one client of one worker is avoided by all, and shown as down with the reason."""
    refusing = free_port()
    config = one_proxy([f"127.0.0.1:{refusing}", *echoes], fail_timeout="1h")
    with Daemon({**config, "workers": 4}) as daemon:
        assert {greeting(daemon.port) for _ in range(80)} == {"a", "b"}
        down = daemon.servers()[f"127.0.0.1:{refusing}"]
        assert (down["state"], "refused" in down["reason"]) == ("down", True)
        assert down["connect_failures_total"] <= 4
        until(lambda: daemon.log.count("is down, was up") == 1, "it is said")


def test_surplus_connections_are_closed_over_all_workers(echoes: list[Echo]) -> None:
    """As many as there are too many in all, and not as many for each."""
    a, b = echoes
    config = {**one_proxy([a, {"address": b.address, "down": True}], slow_start=0), "workers": 2, "watch": False}
    config["proxies"]["p"]["rebalance"] = {"quiet": "1s"}
    with Daemon(config) as daemon, connected(daemon) as clients:
        surplus = len(clients) // 2
        config["proxies"]["p"]["servers"] = [a.address, b.address]
        daemon.reload(config)
        until(lambda: all(c["idle_seconds"] > 1.2 for c in daemon.conns()), "all are quiet", 10)
        assert daemon.call("rebalance", dry_run=True)["servers"] == {a.address: surplus}
        assert daemon.call("rebalance", dry_run=False)["servers"] == {a.address: surplus}
        until(lambda: len(daemon.conns()) == len(clients) - surplus)


def test_a_line_of_a_worker_is_in_the_log_once(echoes: list[Echo]) -> None:
    """It is the supervisor that writes them, and events have them; the access log comes from the workers."""
    config = {**one_proxy(["127.0.0.1:1"]), "workers": 2, "log": {"access": True}}
    with Daemon(config) as daemon:
        with contextlib.suppress(ConnectionError):
            greeting(daemon.port)
        until(lambda: "a client could not be served" in daemon.log, "it is said")
        until(lambda: daemon.log.count("a client could not be served") == 1, "it is said")
        assert [e for e in daemon.call("events")["events"] if "a client could not be served" in e["msg"]]
        until(lambda: daemon.log.count(" access: ") == 1, "the access log has it")


def test_a_stop_lets_the_exchanges_of_every_worker_end(echoes: list[Echo]) -> None:
    """Meanwhile new clients are served and the status is still to be had; then no process is left."""
    with Daemon({**one_proxy(echoes), "workers": 2, "shutdown_timeout": "1h"}) as daemon, connected(daemon) as clients:
        pids = descendants(daemon.pid)
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
        pids = descendants(daemon.pid)
        os.kill(daemon.pid, signal.SIGKILL)
        daemon.process.wait()
        until(lambda: not [pid for pid in pids if alive(pid)], "the workers end")
        with pytest.raises(ConnectionResetError):
            receive_all(client)
        daemon.assert_clean_log()
        daemon.start()
        assert greeting(daemon.port) in ("a", "b")
