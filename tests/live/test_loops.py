"""A server that is this proxy: found behind a name, and among the addresses of the machine."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from lbproxy.checks import loops
from lbproxy.config.model import Address
from tests.support.clients import connect, flood, receive_line
from tests.support.daemon import Daemon, one_proxy
from tests.support.need import need
from tests.support.netns import Namespace
from tests.support.ports import free_port
from tests.support.servers import Echo
from tests.support.wait import until


@pytest.mark.parametrize(
    ("dialled", "listen", "back"),
    [
        ("127.0.0.1", Address("127.0.0.1", 7), True),
        ("127.0.0.1", Address("127.0.0.1", 8), False),
        ("127.0.0.2", Address("127.0.0.1", 7), False),
        ("127.0.0.2", Address("0.0.0.0", 7), True),
        ("0.0.0.0", Address("127.0.0.1", 7), True),
        ("10.4.6.21", Address("0.0.0.0", 7), False),
        ("127.0.0.1", Address("::", 7), False),
        ("::1", Address("::", 7), True),
    ],
)
def test_what_leads_back_is_known_by_where_it_listens(dialled: str, listen: Address, back: bool) -> None:
    """IPv6 listeners are for IPv6 alone, and the kernel takes 0.0.0.0 for loopback."""
    endpoint = (socket.AF_INET6, (dialled, 7, 0, 0)) if ":" in dialled else (socket.AF_INET, (dialled, 7))
    assert loops.leads_back(endpoint, [listen]) is back


def test_an_address_of_this_machine_leads_back_when_it_listens_on_all() -> None:
    """Whatever the interface; nothing is sent to find out."""
    need("netns", "ip")
    node = Namespace()
    try:
        node.ip("address", "add", "10.4.6.21/24", "dev", "lo")
        with node.inside():
            for host, back in (("10.4.6.21", True), ("10.4.6.22", False), ("192.0.2.1", False)):
                assert loops.leads_back((socket.AF_INET, (host, 7)), [Address("0.0.0.0", 7)]) is back
    finally:
        node.close()


def test_a_server_that_leads_back_is_not_dialled_and_said_once() -> None:
    """One client would use up every descriptor, since each connection makes the next."""
    need("hostname")
    port = free_port()
    with Echo("one") as one:
        back = {"name": "back", "address": f"{socket.gethostname()}:{port}"}
        if not socket.gethostbyname(socket.gethostname()).startswith("127."):
            back["address"] = f"{socket.gethostbyname(socket.gethostname())}:{port}"
        health = {"type": "tcp", "interval": "1s"}
        with Daemon(one_proxy([back, one], f"0.0.0.0:{port}", health=health)) as daemon:
            assert flood(port, 20).answers == {"one": 20}
            server = daemon.servers()["back"]
            assert server["state"] == "down"
            assert "leads back to this proxy" in server["reason"]
            assert daemon.reload() == ["no change"]
            until(lambda: "no change" in daemon.log, "a later line")
            assert daemon.log.count("leads back to this proxy") == 1
            assert daemon.fds() < 60


@pytest.mark.parametrize("workers", [1, 2])
def test_an_address_that_comes_to_this_machine_later_is_known_by_its_connections(workers: int) -> None:
    """A virtual one that moves here: what is dialled there comes in as a client. One circle is made, and no other."""
    need("netns", "ip")
    node, port = Namespace(), free_port()
    try:
        with Echo("one", ns=node) as one:
            servers = [{"name": "back", "address": f"10.4.6.21:{port}"}, {"address": one.address, "backup": True}]
            with Daemon({**one_proxy(servers, f"0.0.0.0:{port}"), "workers": workers}, node) as daemon:
                node.ip("address", "add", "10.4.6.21/24", "dev", "lo")
                assert flood(port, 20, ns=node).answers == {"one": 20}
                assert "it leads back to this proxy" in daemon.servers()["back"]["reason"]
                until(lambda: "it leads back to this proxy" in daemon.log)
                until(lambda: daemon.fds() < 60, "the circle is gone")
                daemon.reload()
                until(lambda: "no change" in daemon.log, "a later line")
                assert daemon.log.count("it leads back to this proxy") == 1
    finally:
        node.close()


@pytest.mark.parametrize("workers", [1, 2])
def test_an_address_that_is_translated_on_the_way_is_known_by_its_connections(workers: int) -> None:
    """A service's address, say, that the firewall redirects here."""
    need("netns", "ip", "nft")
    node, port = Namespace(), free_port()
    try:
        node.ip("address", "add", "10.4.6.1/24", "dev", "lo")
        node.run("nft", "add table n; add chain n c { type nat hook output priority -100; }; "
                 f"add rule n c ip daddr 10.4.6.99 tcp dport 443 redirect to :{port}")  # fmt: skip
        with Echo("one", ns=node) as one:
            servers = [{"name": "back", "address": "10.4.6.99:443"}, {"address": one.address, "backup": True}]
            with Daemon({**one_proxy(servers, f"0.0.0.0:{port}"), "workers": workers}, node) as daemon:
                assert flood(port, 20, ns=node).answers == {"one": 20}
                assert "it leads back to this proxy" in daemon.servers()["back"]["reason"]
                until(lambda: daemon.fds() < 60, "the circle is gone")
    finally:
        node.close()


def test_a_local_port_that_serves_a_client_and_the_proxy_is_no_circle() -> None:
    """Clients and servers on one machine, or a proxy on the node's own address: each has the same few ports."""
    need("netns", "ip")
    node = Namespace()
    try:
        with node.inside():
            Path("/proc/sys/net/ipv4/ip_local_port_range").write_text("20000 20299")
        with Echo("one", ns=node) as one, Daemon(one_proxy([one]), node) as daemon, ExitStack() as stack:
            clients = [stack.enter_context(connect(daemon.port, ns=node)) for _ in range(100)]
            assert {receive_line(client) for client in clients} == {"one"}
            until(lambda: len(daemon.conns()) == 100)
            assert "leads back" not in daemon.log
    finally:
        node.close()
