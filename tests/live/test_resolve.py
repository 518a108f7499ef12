"""Servers that are host names, with an /etc/hosts and name servers of the test's own in a mount namespace."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.certs import Certs
from tests.support.clients import connect, flood, greeting, receive, receive_line, turned_away
from tests.support.daemon import Daemon, one_proxy
from tests.support.named import Named
from tests.support.need import need
from tests.support.netns import Namespace
from tests.support.ports import free_port
from tests.support.servers import Echo, Hung, Server
from tests.support.wait import FACTOR, until


@pytest.fixture
def echoes() -> Iterator[list[Echo]]:
    """Run two servers of one port on two addresses."""
    with ExitStack() as stack:
        first = stack.enter_context(Echo("one", "127.0.0.11"))
        yield [first, stack.enter_context(Echo("two", "127.0.0.12", first.port))]


def states(daemon: Daemon) -> dict[str, str]:
    """Return the state of each server."""
    return {name: server["state"] for name, server in daemon.servers().items()}


def test_a_name_in_etc_hosts_is_followed_when_it_moves(echoes: list[Echo]) -> None:
    """Masters are often named there: once connects fail, an edit is seen within seconds."""
    one, _ = echoes
    config = one_proxy([f"master1.test:{one.port}"])
    with Named(config, {"127.0.0.11": "master1.test"}) as daemon:
        assert greeting(daemon.port) == "one"
        daemon.write({"127.0.0.12": "master1.test"})
        one.stop()
        until(lambda: "two" in flood(daemon.port, 1).answers, "the new address is used")


def test_a_name_that_does_not_resolve_is_a_server_that_is_down_until_it_does(echoes: list[Echo]) -> None:
    """The start does not fail, the others serve, and status says why; a client alone with it is refused by a reset."""
    one, _ = echoes
    named, alone = f"later.test:{one.port}", free_port()
    config = one_proxy([{"address": named, "weight": 100}, one])
    config["proxies"]["q"] = {"listen": [f"127.0.0.1:{alone}"], "servers": [named]}
    with Named(config, {"127.0.0.1": "localhost"}) as daemon:
        assert states(daemon) == {named: "down", one.address: "up"}
        assert daemon.servers()[named]["reason"] == "its name does not resolve"
        assert flood(daemon.port, 20).answers == {"one": 20}
        assert turned_away(alone)
        until(lambda: "cannot look up later.test" in daemon.log)
        daemon.write({"127.0.0.12": "later.test"})
        config["proxies"]["p"]["connect_timeout"] = "500ms"
        daemon.reload({**config, "proxies": {"p": config["proxies"]["p"]}})
        daemon.reload(config)  # q is new and is looked up at once
        assert greeting(alone) == "two"


@pytest.mark.parametrize("health", [None, {"type": "tcp", "interval": "100ms"}], ids=["no checks", "checks"])
def test_a_name_that_is_gone_keeps_its_last_known_address(echoes: list[Echo], health: dict[str, str] | None) -> None:
    """A name server that has lost its zone says nothing of the masters: they are dialled on."""
    named = f"gone.test:{echoes[0].port}"
    config = one_proxy([named], **({"health": health} if health else {}))
    with Named(config, {"127.0.0.12": "gone.test"}) as daemon:
        assert greeting(daemon.port) == "two"
        daemon.write({"127.0.0.1": "localhost"})
        echoes[1].stop()  # whoever fails is looked up again
        until(lambda: flood(daemon.port, 1).errors and "cannot look up gone.test" in daemon.log, "it is missed")
        echoes[1].start()
        until(lambda: flood(daemon.port, 1).answers == {"two": 1}, "it is used again")
        until(lambda: states(daemon) == {named: "up"})


def test_a_client_without_a_server_has_unknown_names_looked_up_at_once(echoes: list[Echo]) -> None:
    """The next look-up would be half a minute away; it is not waited for."""
    with Named(one_proxy([f"later.test:{echoes[0].port}"]), {"127.0.0.1": "localhost"}) as daemon:
        until(lambda: "cannot look up later.test" in daemon.log)
        daemon.write({"127.0.0.11": "later.test"})
        until(lambda: flood(daemon.port, 1).answers == {"one": 1}, "a client is served")


def test_every_address_of_a_name_is_tried(echoes: list[Echo]) -> None:
    """One of two is closed: each client is served, and the name is up as long as one of its addresses is."""
    one, _ = echoes
    named = f"both.test:{one.port}"
    with Named(one_proxy([named]), {"127.0.0.11": "both.test", "127.0.0.12": "both.test"}) as daemon:
        assert set(flood(daemon.port, 20, at_once=1).answers) == {"one", "two"}
        one.stop()
        tally = flood(daemon.port, 20)
        assert (tally.answers, tally.errors) == ({"two": 20}, [])
        server = daemon.servers()[named]
        assert (server["state"], server["connections_total"]) == ("up", 40)
        assert server["reason"] == "1 of 2 addresses up; 127.0.0.11 down: connection refused"


class Master(Server):
    """Says on /readyz whether it is ready, and its own name elsewhere."""

    def __init__(self, host: str, port: int, certs: Certs | None, ready: str = "200 OK") -> None:
        super().__init__(host, port, tls=certs.server_context() if certs else None)
        self._ready = ready

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer until the client leaves."""
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            body = f"{self.host}\n"
            status = self._ready if head.startswith(b"GET /readyz ") else "200 OK"
            writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())


@pytest.mark.parametrize(
    ("kind", "bad", "state"), [("http", "sick", "sick"), ("http", "hung", "sick"), ("https", "hung", "down")]
)
def test_what_a_check_has_found_of_one_address_says_nothing_of_the_others(
    kind: str, bad: str, state: str, certs: Certs
) -> None:
    """Nobody is sent to the one that is unwell, and all are served by the two that are well."""
    port, tls = free_port(), certs if kind == "https" else None
    health = {"type": kind, "interval": "200ms", "timeout": "500ms"}
    named = f"api.test:{port}"
    hosts = [f"127.0.0.{n}" for n in (21, 22, 23)]
    with ExitStack() as stack:
        first = Hung(hosts[0], port) if bad == "hung" else Master(hosts[0], port, tls, "500 Internal Server Error")
        stack.enter_context(first)
        for host in hosts[1:]:
            stack.enter_context(Master(host, port, tls))
        daemon = stack.enter_context(Named(one_proxy([named], health=health), dict.fromkeys(hosts, "api.test")))
        said = f"2 of 3 addresses up; {hosts[0]} {state}: "
        until(lambda: daemon.servers()[named]["reason"].startswith(said), "checks have said so")
        context = certs.client_context() if tls else None
        tally = flood(daemon.port, 12, at_once=1, tls=context, send=b"GET /who HTTP/1.1\r\n\r\n")
        assert (tally.errors, set(tally.answers)) == ([], set(hosts[1:]))


def test_an_answer_that_lacks_an_address_changes_nothing_at_once(echoes: list[Echo]) -> None:
    """Name servers give some of the addresses in turn, or one of them is behind: all are used on, and nobody is cut."""
    named = f"api.test:{echoes[0].port}"
    hosts = dict.fromkeys(("127.0.0.11", "127.0.0.12"), "api.test")
    with Named(one_proxy([named], drain_timeout="100ms"), hosts) as daemon, ExitStack() as stack:
        clients = {receive_line(each): each for each in (stack.enter_context(connect(daemon.port)) for _ in range(2))}
        three = stack.enter_context(Echo("three", "127.0.0.13", echoes[0].port))
        daemon.write({"127.0.0.12": "api.test", three.host: "api.test"})
        echoes[0].stop()  # whoever fails is looked up again
        until(lambda: "three" in flood(daemon.port, 3).answers, "a failure has brought the look-up forward")
        echoes[0].start()
        until(lambda: flood(daemon.port, 9).answers.keys() == {"one", "two", "three"}, "all are used")
        assert daemon.servers()[named]["cuts"] == {}
        clients["two"].sendall(b"still there")
        assert receive(clients["two"], 11) == b"still there"


def test_a_name_server_that_does_not_answer_holds_up_nobody(echoes: list[Echo]) -> None:
    """Neither the start, nor a connection, nor a reload, nor the stop."""
    need("netns", "ip")
    namespace = Namespace()
    try:
        with namespace.inside():
            silent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            silent.bind(("127.0.0.1", 53))
        port = free_port()
        names = [f"master{n}.test:6443" for n in range(6)]  # more than a pool of threads has
        with silent, Echo("one", ns=namespace) as one:
            config = one_proxy([one, *names], f"127.0.0.1:{port}")
            with Named(config, {"127.0.0.1": "localhost"}, "127.0.0.1", namespace) as daemon:
                assert states(daemon) == {one.address: "up", **dict.fromkeys(names, "down")}
                assert flood(port, 50, ns=namespace).answers == {"one": 50}
                config["proxies"]["p"]["servers"].append("master9.test:6443")
                assert len(daemon.reload(config)) == 1
                daemon.send(signal.SIGTERM)
                assert daemon.process.wait(10 * FACTOR) == 0
    finally:
        namespace.close()


def test_the_machines_own_etc_hosts_is_not_touched() -> None:
    """What the tests above mount is seen by their daemon alone."""
    with Named(one_proxy(["here.test:1"]), {"127.0.0.1": "here.test"}) as daemon:
        assert "here.test" in Path(f"/proc/{daemon.pid}/root/etc/hosts").read_text()
        assert "here.test" not in Path("/etc/hosts").read_text()
