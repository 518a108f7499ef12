"""Addresses to listen on that this machine does not have, or not yet."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Iterator
from pathlib import Path
from socket import SocketType

import pytest

from lbproxy.config.model import Address
from lbproxy.errors import BindError
from lbproxy.process.absent import Absent
from tests.support.clients import greeting
from tests.support.daemon import Daemon, one_proxy
from tests.support.need import need
from tests.support.netns import Namespace
from tests.support.ports import free_port, free_ports, listening
from tests.support.servers import Echo
from tests.support.wait import until

NOWHERE = "192.0.2.1"


async def nobody(_: dict[Address, SocketType]) -> None:
    """Take what has arrived, which nothing should have."""
    raise AssertionError


@pytest.fixture
def node() -> Iterator[Namespace]:
    """Make a network without IPv6."""
    need("netns", "ip")
    made = Namespace()
    with made.inside():
        Path("/proc/sys/net/ipv6/conf/all/disable_ipv6").write_text("1")
    yield made
    made.close()


def test_all_addresses_are_bound_or_none() -> None:
    """The error names the proxy and the address that was to blame."""
    first, last = free_ports(2)
    absent = Absent(nobody)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        middle = Address("127.0.0.1", taken.getsockname()[1])
        wanted = {Address("127.0.0.1", first): "p", middle: "q", Address("127.0.0.1", last): "r"}
        with pytest.raises(BindError, match=rf"^q: cannot listen on {middle}: Address already in use$"):
            absent.bind(wanted, ())
        assert not listening() & {first, last}
    bound, complaints = absent.bind(wanted, ())
    assert (list(bound), complaints) == (list(wanted), [])
    for sock in bound.values():
        sock.close()


def test_an_address_that_is_not_there_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    """Reloads that have to do with something else do not repeat it."""
    here, nowhere = Address("127.0.0.1", free_port()), Address(NOWHERE, 1)
    absent = Absent(nobody)
    bound, complaints = absent.bind({here: "p", nowhere: "p"}, ())
    with contextlib.closing(bound[here]):
        assert list(bound) == [here]
        why = "Cannot assign requested address; trying again, the rest is served"
        assert complaints == [f"p: cannot listen on {nowhere}: {why}"]
        assert absent.bind({here: "p", nowhere: "p"}, [here]) == ({}, [])
        assert list(absent.addresses) == [nowhere]
        assert absent.bind({here: "p"}, [here]) == ({}, [])
        assert not absent.addresses
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_with_no_address_there_is_nothing_to_serve() -> None:
    """Then the start fails, or the reload is refused."""
    absent = Absent(nobody)
    with pytest.raises(BindError, match="Cannot assign requested address"):
        absent.bind({Address(NOWHERE, 1): "p", Address(NOWHERE, 2): "q"}, ())
    assert not absent.addresses


def test_an_address_that_another_one_has_taken_meanwhile_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The address has come, and with it the program that was there before: that is no end of the trying."""
    monkeypatch.setattr("lbproxy.process.absent._AGAIN", 0.01)
    here = Address("127.0.0.1", free_port())
    came: list[Address] = []

    async def arrived(bound: dict[Address, SocketType]) -> None:
        for address, sock in bound.items():
            came.append(address)
            sock.close()

    async def main() -> None:
        absent = Absent(arrived)
        absent._waiting = {here: "p"}
        waiting = asyncio.create_task(absent.wait())
        with socket.create_server((here.host, here.port)):
            await asyncio.sleep(0.05)
            assert not came
        while not came:
            await asyncio.sleep(0.01)
        assert not absent.addresses
        waiting.cancel()

    asyncio.run(main())


class Waiting(Daemon):
    """A daemon that is told to wait for its port."""

    def prepare(self) -> None:
        super().prepare()
        self.command.append("--wait-for-port")


@pytest.mark.parametrize("workers", [1, 2])
def test_told_to_wait_for_its_port_it_takes_it_once_it_is_free(workers: int) -> None:
    """Without systemd, which is the reason to wait otherwise: it runs meanwhile, and says so once."""
    with Echo("one") as one, socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with Waiting({**one_proxy([one], address), "workers": workers}) as daemon:
            assert daemon.status()["proxies"]["p"]["listen"] == []
            taken.close()
            until(lambda: daemon.status()["proxies"]["p"]["listen"] == [address], "it has the port")
            assert greeting(daemon.port) == "one"
            until(lambda: f"listening on {address}, which could not be had until " in daemon.log)
            assert daemon.log.count(f"cannot listen on {address}: Address already in use") == 1


@pytest.mark.parametrize("workers", [1, 2])
def test_what_is_there_is_served_and_the_rest_once_it_comes(node: Namespace, workers: int) -> None:
    """IPv6 is off on the node, and keepalived brings an address later."""
    port = free_port()
    server = Echo("one")
    config = one_proxy([server], f"127.0.0.1:{port}")
    config["proxies"]["p"]["listen"] += [f"[::1]:{port}", f"{NOWHERE}:{port}"]
    with contextlib.ExitStack() as stack:
        with node.inside():
            stack.enter_context(server)
        daemon = stack.enter_context(Daemon({**config, "workers": workers}, ns=node))
        assert greeting(port, ns=node) == "one"
        assert daemon.status()["proxies"]["p"]["listen"] == [f"127.0.0.1:{port}"]
        node.ip("address", "add", f"{NOWHERE}/32", "dev", "lo")
        until(lambda: len(daemon.status()["proxies"]["p"]["listen"]) == 2)
        assert greeting(port, NOWHERE, ns=node) == "one"
        assert daemon.reload() == ["no change"]
        until(lambda: "no change" in daemon.log, "a later line")
        assert daemon.log.count(f"cannot listen on [::1]:{port}: Cannot assign requested address") == 1
        assert f"listening on 127.0.0.1:{port} for 1 servers" in daemon.log
