"""Servers that are host names, with an /etc/hosts and name servers of the test's own in a mount namespace."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.clients import connect, flood, greeting, receive_line
from tests.support.daemon import Daemon, one_proxy
from tests.support.need import need
from tests.support.netns import Namespace
from tests.support.ports import free_port
from tests.support.servers import Echo
from tests.support.wait import FACTOR, until

MOUNT = 'for file in hosts nsswitch.conf resolv.conf; do mount --bind "$0/$file" "/etc/$file"; done; exec "$@"'


class Named(Daemon):
    """A daemon that sees other files in /etc: `hosts` by address, and `dns` as its only name server."""

    def __init__(self, config: Mapping[str, Any], hosts: Mapping[str, str], dns: str = "", ns: Any = None) -> None:
        super().__init__(config, ns)
        self._hosts = hosts
        self._dns = dns

    def prepare(self) -> None:
        """Run in a mount namespace of its own; the machine's files are not touched."""
        need("mounts", "unshare", "mount")
        super().prepare()
        self.write(self._hosts)
        (self.dir / "nsswitch.conf").write_text("hosts: files dns\n" if self._dns else "hosts: files\n")
        (self.dir / "resolv.conf").write_text(f"nameserver {self._dns}\n" if self._dns else "")
        self.command = ["unshare", "--mount", "sh", "-ec", MOUNT, str(self.dir), *self.command]

    def write(self, hosts: Mapping[str, str]) -> None:
        """Write /etc/hosts, in place, as a bind mount wants it: `hosts` are names by address."""
        (self.dir / "hosts").write_text("".join(f"{address} {name}\n" for address, name in hosts.items()))


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
        with connect(alone) as client, pytest.raises(ConnectionResetError):
            receive_line(client)
        assert "cannot look up later.test" in daemon.log
        daemon.write({"127.0.0.12": "later.test"})
        config["proxies"]["p"]["connect_timeout"] = "500ms"
        daemon.reload({**config, "proxies": {"p": config["proxies"]["p"]}})
        daemon.reload(config)  # q is new and is looked up at once
        assert greeting(alone) == "two"


def test_a_name_that_is_gone_takes_its_server_down(echoes: list[Echo]) -> None:
    """Its connections stay; new ones go elsewhere."""
    one, _ = echoes
    named = f"gone.test:{one.port}"
    config = one_proxy([named, {"address": one.address, "backup": True}])
    with Named(config, {"127.0.0.12": "gone.test"}) as daemon, connect(daemon.port) as client:
        assert receive_line(client) == "two"
        daemon.write({"127.0.0.1": "localhost"})
        echoes[1].cut()  # a server that breaks off connections is looked up again
        until(lambda: flood(daemon.port, 1) and echoes[1].stop() is None and states(daemon)[named] == "down")
        until(lambda: daemon.servers()[named]["reason"] == "its name does not resolve")
        assert greeting(daemon.port) == "one"


def test_every_address_of_a_name_is_tried(echoes: list[Echo]) -> None:
    """One of two is closed: each client is served, and what worked last comes first."""
    one, two = echoes
    named = f"both.test:{one.port}"
    with Named(one_proxy([named]), {"127.0.0.11": "both.test", "127.0.0.12": "both.test"}) as daemon:
        for stopped, other in ((one, "two"), (two, "one")):
            stopped.stop()
            tally = flood(daemon.port, 20)
            assert (tally.answers, tally.errors) == ({other: 20}, [])
            assert states(daemon) == {named: "up"}
            stopped.start()


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
