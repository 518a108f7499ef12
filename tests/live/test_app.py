"""A running data plane goes over to another configuration: what changes, what stays, and what is refused whole."""

from __future__ import annotations

import asyncio
import copy
import resource
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from lbproxy.balance.pool import Pool
from lbproxy.balance.rotation import ring
from lbproxy.config.load import loads
from lbproxy.config.model import Address, Config
from lbproxy.errors import BindError
from lbproxy.handover.inherit import Inherited
from lbproxy.handover.parcel import Parcel
from lbproxy.net import sockets as socks
from lbproxy.net.poller import Poller
from lbproxy.process.app import App
from tests.support.clients import connect, flood, greeting, receive, receive_all, receive_line
from tests.support.daemon import Daemon, one_proxy
from tests.support.need import need
from tests.support.ports import free_port, free_ports, listening
from tests.support.servers import Echo
from tests.support.wait import FACTOR, until

Edit = Callable[[dict[str, Any]], object]
Serve = Callable[[dict[str, Any]], Daemon]


@pytest.fixture(scope="module")
def running() -> Iterator[Daemon]:
    """Run the one daemon of this module: its tests are reloads."""
    with Daemon({**one_proxy(["127.0.0.1:1"]), "watch": False}) as daemon:
        yield daemon


@pytest.fixture
def serve(running: Daemon) -> Serve:
    """Return what has the daemon serve a configuration, from nothing."""

    def serve(config: dict[str, Any]) -> Daemon:
        for each in ({"nothing": one_proxy(["127.0.0.1:1"])["proxies"]["p"]}, config["proxies"]):
            running.reload({**config, "proxies": each, "watch": False})
        return running

    return serve


@pytest.fixture
def echoes() -> Iterator[list[Echo]]:
    """Run three servers that say their name and echo."""
    with ExitStack() as stack:
        yield [stack.enter_context(Echo(name)) for name in "abc"]


def change(daemon: Daemon, edit: Edit) -> list[str]:
    """Reload with the first proxy's settings as `edit` has changed them; returns what the daemon says has changed."""
    config = daemon.config
    edit(next(iter(config["proxies"].values())))
    return daemon.reload(config)


def put(servers: list[Any]) -> Edit:
    """Return the edit that puts `servers` in place of the ones there are."""
    return lambda proxy: proxy.update(servers=[s if isinstance(s, dict) else s.address for s in servers])


def held(port: int) -> tuple[socket.socket, str]:
    """Return an open connection and the name of its server."""
    client = connect(port)
    return client, receive_line(client)


def lives(client: socket.socket) -> bool:
    """Whether bytes go there and back."""
    client.sendall(b"still there?")
    return receive(client, 12) == b"still there?"


def assert_reset(client: socket.socket) -> None:
    """Wait until the connection is reset, and close it."""
    with client, pytest.raises(ConnectionResetError):
        receive_all(client)


# -- servers ---------------------------------------------------------------------------------------------------------


def test_servers_come_and_go_and_the_connections_of_the_others_stay(serve: Serve, echoes: list[Echo]) -> None:
    """Each change is told in a line; who has no part in it does not notice."""
    a, b, c = echoes
    daemon = serve(one_proxy([a, b]))
    clients = dict(reversed(held(daemon.port)) for _ in range(2))
    assert set(clients) == {"a", "b"}
    assert change(daemon, put([a, b, c])) == [f"p: server {c.address} added"]
    assert greeting(daemon.port) == "c"
    assert change(daemon, put([a, c])) == [f"p: server {b.address} removed"]
    assert set(flood(daemon.port, 20).answers) == {"a", "c"}
    assert all(lives(client) for client in clients.values())
    assert change(daemon, put([c, a])) == ["no change"]
    for client in clients.values():
        client.close()


def test_a_removed_servers_connections_are_reset_when_drain_timeout_is_over(serve: Serve, echoes: list[Echo]) -> None:
    """Until then they work; one is not cut because others were, and the new settings say how long."""
    a, b, _ = echoes
    daemon = serve(one_proxy([a, b], drain_timeout="1h"))
    clients = dict(reversed(held(daemon.port)) for _ in range(2))
    change(daemon, lambda proxy: proxy.update(servers=[a.address], drain_timeout="1s"))
    assert lives(clients["b"])
    assert {conn["server"] for conn in daemon.conns()} == {a.address, b.address}
    assert_reset(clients["b"])
    assert lives(clients["a"])
    clients["a"].close()


def test_without_drain_timeout_a_removed_servers_connections_are_cut_at_once(serve: Serve, echoes: list[Echo]) -> None:
    """0 is a time like any other."""
    daemon = serve(one_proxy(echoes[:1], drain_timeout=0))
    client, _ = held(daemon.port)
    change(daemon, put(echoes[1:]))
    assert_reset(client)


def test_a_server_that_comes_back_in_time_keeps_the_connections_it_had(serve: Serve, echoes: list[Echo]) -> None:
    """Whoever takes a line out by mistake and puts it back has broken nothing, and least connections counts them."""
    a, b, c = echoes
    daemon = serve(one_proxy(echoes, drain_timeout="500ms"))
    clients = dict(reversed(held(daemon.port)) for _ in range(3))
    change(daemon, put([a]))
    change(daemon, put([a, b]))
    assert {name: view["connections"] for name, view in daemon.servers().items()} == {a.address: 1, b.address: 1}
    assert_reset(clients.pop("c"))  # removed at the same time: the time is over for both
    assert lives(clients["b"])
    change(daemon, put([a, c]))
    assert_reset(clients.pop("b"))
    assert lives(clients["a"])
    clients["a"].close()
    until(lambda: not daemon.conns())
    assert [server["connections"] for server in daemon.servers().values()] == [0, 0]


def test_a_server_that_stays_keeps_its_state_one_that_returns_starts_afresh(serve: Serve, echoes: list[Echo]) -> None:
    """Counters, the operator's word and what is known of it belong to a server for as long as it is configured."""
    a, b, _ = echoes
    daemon = serve(one_proxy([a, b]))
    flood(daemon.port, 10)
    before = daemon.servers()
    for server in (a, b):
        assert daemon.call("drain", server=server.address, force=True)["ok"]
    change(daemon, lambda proxy: proxy.update(servers=[{"address": a.address, "weight": 5}]))
    change(daemon, put([{"address": a.address, "weight": 7}, b]))
    after = daemon.servers()
    assert (after[a.address]["state"], after[a.address]["weight"]) == ("draining", 7)
    assert after[a.address]["connections_total"] == before[a.address]["connections_total"] > 0
    assert (after[b.address]["state"], after[b.address]["connections_total"]) == ("up", 0)


def test_a_retuned_server_is_treated_as_it_now_says(serve: Serve, echoes: list[Echo]) -> None:
    """Weight, max_conns and down count for the next connection; the open ones stay."""
    a, b, _ = echoes
    daemon = serve(one_proxy([a, {"address": b.address, "down": True}]))
    client, name = held(daemon.port)
    assert (name, daemon.servers()[b.address]["state"]) == ("a", "disabled")
    lines = change(daemon, put([{"address": a.address, "down": True}, b]))
    assert lines == [f"p: server {a.address} down false -> true", f"p: server {b.address} down true -> false"]
    assert set(flood(daemon.port, 10).answers) == {"b"}
    assert lives(client)
    change(daemon, put([{"address": a.address, "max_conns": 1}, {"address": b.address, "backup": True}]))
    assert greeting(daemon.port) == "b"  # the one place of a is taken
    client.close()
    until(lambda: greeting(daemon.port) == "a")


def test_the_same_name_at_another_address_is_another_server(serve: Serve, echoes: list[Echo]) -> None:
    """Its connections cannot move with it."""
    a, b, _ = echoes
    daemon = serve(one_proxy([{"name": "m", "address": a.address}], drain_timeout="200ms"))
    client, _ = held(daemon.port)
    change(daemon, put([{"name": "m", "address": b.address}]))
    assert greeting(daemon.port) == "b"
    assert_reset(client)


def test_from_addresses_to_names_and_back_no_connect_fails(serve: Serve, echoes: list[Echo]) -> None:
    """Names are looked up before they take the place of what works."""
    a, *_ = echoes
    named = [{"address": f"localhost:{a.port}"}]
    daemon = serve(one_proxy([a]))
    with ThreadPoolExecutor(1) as pool:
        traffic = pool.submit(flood, daemon.port, 400, per_second=400)
        for n in range(20):
            change(daemon, put([a] if n % 2 else named))
        tally = traffic.result()
        assert (tally.answers, tally.errors) == ({"a": 400}, [])


def test_equal_servers_are_ordered_by_the_node_id_in_force(serve: Serve, echoes: list[Echo]) -> None:
    """A new node_id counts from the next connection on."""
    config = one_proxy(echoes)

    def first(node_id: str) -> str:
        settings = loads(str(config), "x").proxies["p"]
        address = ring(Pool(settings, node_id, 0.0).servers, node_id)[0].name
        return next(echo.name for echo in echoes if echo.address == address)

    ids = {first(f"node{n}"): f"node{n}" for n in range(30)}
    assert set(ids) == {"a", "b", "c"}
    daemon = serve({**config, "node_id": ids["a"]})
    for name in "abcba":
        daemon.reload({**config, "node_id": ids[name]})
        assert greeting(daemon.port) == name
        until(lambda: not daemon.conns())


# -- addresses -------------------------------------------------------------------------------------------------------


def test_an_address_is_replaced_and_the_connections_of_the_old_one_live(serve: Serve, echoes: list[Echo]) -> None:
    """What came in by a door does not leave with it."""
    need("ipv6")
    daemon = serve(one_proxy(echoes[:1]))
    old, new = daemon.port, free_port()
    client, _ = held(old)
    lines = change(daemon, lambda proxy: proxy.update(listen=[f"127.0.0.1:{new}", f"[::1]:{new}"]))
    assert len(lines) == 3
    assert (greeting(new), greeting(new, "::1")) == ("a", "a")
    with pytest.raises(ConnectionRefusedError):
        connect(old)
    assert lives(client)
    assert daemon.status()["proxies"]["p"]["listen"] == [f"127.0.0.1:{new}", f"[::1]:{new}"]
    client.close()


def test_an_address_that_cannot_be_bound_refuses_the_whole_reload(serve: Serve, echoes: list[Echo]) -> None:
    """Nothing of it is in force: no other address, no server, no proxy; the old ones serve on."""
    free = free_port()
    daemon = serve(one_proxy(echoes[:1]))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        before, config = daemon.status(), daemon.config
        address = "{}:{}".format(*taken.getsockname())
        wrong = copy.deepcopy(config)
        wrong["proxies"]["p"].update(listen=[f"127.0.0.1:{free}", address], servers=[echoes[1].address])
        wrong["proxies"]["q"] = {"listen": [f"127.0.0.1:{free_port()}"], "servers": [echoes[1].address]}
        daemon.rewrite(wrong)
        verdict = daemon.call("reload")
        assert not verdict["applied"]
        assert verdict["lines"] == [f"p: cannot listen on {address}: Address already in use"]
        after = daemon.status()
        assert after["proxies"] == _aged(before["proxies"], after["proxies"])
        assert after["generation"] == before["generation"]
        assert not after["config"]["last_reload_successful"]
        assert not listening(daemon.pid) & {free, int(wrong["proxies"]["q"]["listen"][0].split(":")[1])}
        daemon.rewrite(config)
        assert greeting(daemon.port) == "a"
        assert daemon.reload() == ["no change"]
        assert daemon.status()["config"]["last_reload_successful"]


def _aged(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """Return `before` with the ages of `after`."""
    aged = copy.deepcopy(before)
    for proxy, servers in ((name, view["servers"]) for name, view in aged.items()):
        for name, server in servers.items():
            server["since_seconds"] = after[proxy]["servers"][name]["since_seconds"]
    return aged


def test_an_address_goes_from_proxy_to_proxy_without_a_gap(serve: Serve, echoes: list[Echo]) -> None:
    """It is handed over with the socket: no client is refused, each gets a server of one proxy or of the other."""
    one, two = (f"127.0.0.1:{port}" for port in free_ports(2))

    def config(first: str, second: str) -> dict[str, Any]:
        return {"proxies": {"p": {"listen": [first], "servers": [echoes[0].address]},
                            "q": {"listen": [second], "servers": [echoes[1].address]}}}  # fmt: skip

    daemon = serve(config(one, two))
    with ThreadPoolExecutor(1) as pool:
        port = daemon.port
        client, _ = held(port)
        traffic = pool.submit(flood, port, 400, per_second=400)
        for n in range(20):
            daemon.reload(config(one, two) if n % 2 else config(two, one))
        tally = traffic.result()
        assert (set(tally.answers), tally.errors) == ({"a", "b"}, [])
        lines = daemon.reload({"proxies": {"q": config(two, one)["proxies"]["q"]}})
        assert f"q: listen {one} taken over from p" in lines
        assert greeting(port) == "b"
        assert lives(client)
        client.close()


# -- proxies ---------------------------------------------------------------------------------------------------------


def test_proxies_come_and_go_and_the_connections_of_one_that_goes_drain(serve: Serve, echoes: list[Echo]) -> None:
    """They are seen by `conns` to the end; the status has the proxies in the order of the file."""
    a, b, _ = echoes
    first, second = (f"127.0.0.1:{port}" for port in free_ports(2))
    p = {"listen": [first], "servers": [a.address], "drain_timeout": "1s"}
    q = {"listen": [second], "servers": [b.address]}
    daemon = serve({"proxies": {"p": p}})
    client, _ = held(daemon.port)
    daemon.reload({"proxies": {"q": q, "p": p}})
    assert list(daemon.status()["proxies"]) == ["q", "p"]
    assert greeting(daemon.port) == "b"
    daemon.reload({"proxies": {"q": q}})
    with pytest.raises(ConnectionRefusedError):
        connect(int(first.split(":")[1]))
    assert lives(client)
    assert [(conn["proxy"], conn["server"]) for conn in daemon.conns()] == [("p", a.address)]
    assert list(daemon.status()["proxies"]) == ["q"]
    assert_reset(client)
    until(lambda: not daemon.conns())


def test_a_proxy_that_comes_back_does_not_know_the_connections_that_drain(serve: Serve, echoes: list[Echo]) -> None:
    """Two of one name, the one that goes and the one that has come, do not meet."""
    p = one_proxy(echoes[:1], drain_timeout="1s")
    q = {"proxies": {"q": one_proxy(echoes[1:2])["proxies"]["p"]}}
    daemon = serve(p)
    client, _ = held(daemon.port)
    daemon.reload(q)
    daemon.reload(p)
    assert lives(client)
    assert greeting(daemon.port) == "a"
    assert_reset(client)


# -- settings --------------------------------------------------------------------------------------------------------


def test_a_new_idle_timeout_holds_for_connections_that_are_open(serve: Serve, echoes: list[Echo]) -> None:
    """One that was opened to last for ever ends."""
    daemon = serve(one_proxy(echoes[:1], idle_timeout=0))
    client, _ = held(daemon.port)
    assert change(daemon, lambda proxy: proxy.update(idle_timeout="200ms")) == ["p: idle_timeout 0 -> 200ms"]
    until(lambda: not daemon.conns())
    client.close()


def test_a_longer_idle_timeout_spares_connections_that_are_open(serve: Serve, echoes: list[Echo]) -> None:
    """A connection of the same age in another proxy shows when the old time is over."""
    config = one_proxy(echoes[:1], idle_timeout="1s")
    config["proxies"]["q"] = one_proxy(echoes[1:2], idle_timeout="1s")["proxies"]["p"]
    daemon = serve(config)
    (spared, _), (witness, _) = held(daemon.port), held(int(config["proxies"]["q"]["listen"][0].split(":")[1]))
    change(daemon, lambda proxy: proxy.update(idle_timeout="1h"))
    until(lambda: len(daemon.conns()) == 1, "the witness is cut")
    assert lives(spared)
    spared.close()
    witness.close()


def test_checks_are_switched_on_changed_and_off(serve: Serve, echoes: list[Echo]) -> None:
    """Without checks nothing that they have said is believed any more."""
    a, *_ = echoes
    check = {"type": "http", "path": "/", "interval": "100ms", "timeout": "1s", "rise": 1, "fall": 1}
    daemon = serve(one_proxy([a]))

    def state() -> tuple[str, str]:
        server = daemon.servers()[a.address]
        return server["state"], server["reason"]

    change(daemon, lambda proxy: proxy.update(health=check))
    until(lambda: state()[0] == "down", "an Echo does not speak HTTP")
    change(daemon, lambda proxy: proxy.update(health={**check, "type": "tcp"}))
    until(lambda: state()[0] == "up", "its port is open")
    change(daemon, lambda proxy: proxy.update(health=check))
    until(lambda: state()[0] == "down")
    wrong = state()[1]
    change(daemon, lambda proxy: proxy.pop("health"))
    assert state()[0] == "up"
    assert state()[1] != wrong
    accepted = a.accepted
    assert greeting(daemon.port) == "a"
    assert a.accepted == accepted + 1


def test_a_check_that_cannot_be_made_refuses_the_reload(serve: Serve, echoes: list[Echo]) -> None:
    """A certificate that is not one is found before anything has changed."""
    daemon = serve(one_proxy(echoes[:1]))
    config = daemon.config
    certificate = daemon.dir / "broken.pem"
    certificate.write_text("nothing of the kind")
    wrong = copy.deepcopy(config)
    wrong["proxies"]["p"].update(servers=[echoes[1].address], health={"ca_file": str(certificate)})
    daemon.rewrite(wrong)
    verdict = daemon.call("reload")
    assert not verdict["applied"]
    assert str(certificate) in verdict["lines"][0]
    assert greeting(daemon.port) == "a"
    daemon.rewrite(config)


# -- in this process -------------------------------------------------------------------------------------------------


def _config(*listens: str) -> Config:
    return loads(f"proxies: {{p: {{listen: {list(listens)}, servers: ['127.0.0.1:{free_port()}']}}}}", "x")


def test_a_start_that_fails_leaves_nothing_bound() -> None:
    """Neither the addresses before the one that is taken, nor a proxy that was fine."""

    async def prepare(config: Config) -> None:
        with closing(Poller(asyncio.get_running_loop())) as poller:
            await App(config, poller).prepare()

    free = free_port()
    with socket.create_server(("127.0.0.1", 0)) as taken, asyncio.Runner() as runner:
        address = "{}:{}".format(*taken.getsockname())
        with pytest.raises(BindError, match=rf"^p: cannot listen on {address}: Address already in use$"):
            runner.run(prepare(_config(f"127.0.0.1:{free}", address)))
        assert free not in listening()


def test_a_reload_that_fails_half_way_is_completed_by_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """The configuration is in force when all of it is done: the same file again is not "no change"."""
    first, second = free_ports(2)
    before = loads(f"proxies: {{p: {{listen: ['127.0.0.1:{first}'], servers: ['127.0.0.1:1', '127.0.0.1:2']}}}}", "x")
    after = loads(
        f"proxies: {{p: {{listen: ['127.0.0.1:{first}'], servers: ['127.0.0.1:2', '127.0.0.1:3']}}, "
        f"q: {{listen: ['127.0.0.1:{second}'], servers: ['127.0.0.1:4']}}}}", "x",
    )  # fmt: skip

    def fails(*_: object) -> None:
        raise RuntimeError("injected")

    async def run() -> tuple[list[str], list[list[str]], set[int]]:
        with closing(Poller(asyncio.get_running_loop())) as poller:
            app = App(before, poller)
            await app.prepare()
            await app.serve()
            with monkeypatch.context() as patch:
                patch.setattr("lbproxy.process.app.Monitor", fails)
                with pytest.raises(RuntimeError, match="injected"):
                    await app.apply(after)
            lines = await app.apply(after)
            view = (await app.snapshot()).proxies
            open_ports = listening() & {first, second}
            await app.stop(0)
            return lines, [[server.name for server in proxy.servers] for proxy in view], open_ports

    with asyncio.Runner() as runner:
        lines, servers, open_ports = runner.run(run())
    assert "q: proxy added" in lines
    assert servers == [["127.0.0.1:2", "127.0.0.1:3"], ["127.0.0.1:4"]]
    assert open_ports == {first, second}


def test_what_was_inherited_and_is_not_configured_any_more_is_closed() -> None:
    """A port that listens where nobody accepts would have its clients wait for ever."""
    kept, gone = free_ports(2)
    inherited = Inherited(listeners={Address("127.0.0.1", port): socks.listen("p", Address("127.0.0.1", port))
                                   for port in (kept, gone)})  # fmt: skip

    async def run() -> set[int]:
        with closing(Poller(asyncio.get_running_loop())) as poller:
            app = App(_config(f"127.0.0.1:{kept}"), poller, inherited)
            await app.prepare()
            await app.serve()
            try:
                return listening() & {kept, gone}
            finally:
                await app.stop(0)

    with asyncio.Runner() as runner:
        assert runner.run(run()) == {kept}


def test_connections_that_are_taken_over_are_counted_once() -> None:
    """Twenty, of the 32 that there are descriptors for, leave room for a client, after a restart as before it."""
    ends: list[socket.socket] = []

    def parcel() -> Parcel:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            for _ in range(2):
                ends.append(socket.create_connection(listener.getsockname()))
                sock, _ = listener.accept()
                sock.setblocking(False)
                near.append(sock.detach())
        return Parcel(client_fd=near[-2], server_fd=near[-1], proxy="p", server=("m", "127.0.0.1:1"),
                      peer=("127.0.0.1", 1), born=time.monotonic())  # fmt: skip

    near: list[int] = []
    port = free_port()

    async def run(echo: Echo, inherited: Inherited) -> bytes:
        config = loads(f"proxies: {{p: {{listen: '127.0.0.1:{port}', servers: ['127.0.0.1:{echo.port}']}}}}", "x")
        with closing(Poller(asyncio.get_running_loop())) as poller:
            app = App(config, poller, inherited)
            resource.setrlimit(resource.RLIMIT_NOFILE, (len(list(Path("/proc/self/fd").iterdir())) + 40, hard))
            await app.prepare()
            await app.serve()
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                try:
                    return await asyncio.wait_for(reader.readline(), 10 * FACTOR)
                finally:
                    writer.close()
            finally:
                await app.stop(0)

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        with Echo("one") as echo, asyncio.Runner() as runner:
            inherited = Inherited(rested=[parcel() for _ in range(20)])
            assert runner.run(run(echo, inherited)).startswith(b"one")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for end in ends:
            end.close()
