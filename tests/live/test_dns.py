"""Servers from name servers of the test's own."""

from __future__ import annotations

import pytest

from lbproxy.sources import dns
from tests.live.heard import Heard, follow, until
from tests.support.names import NameServer, reply


def test_srv_records_are_followed_over_udp_and_tcp() -> None:
    """Of what does not fit into a datagram nothing is lost, and no answer takes a server away."""
    few = [(0, 1, 6443, "m1.example")]
    many = [(0, 1, 6443, f"master-{n}.of-a-long-name.example") for n in range(20)]
    with NameServer(lambda asked: reply(asked, few)) as server:

        async def then(heard: Heard) -> None:
            await until(lambda: bool(heard.told))

        heard = follow(lambda heard: dns.follow("_https._tcp.example", heard, [server.where]), then)
        assert heard.told == [["m1.example:6443"]]
        server.answer = lambda asked: reply(asked, many)
        assert len(dns.ask("_https._tcp.example", [server.where])) == 20
        assert server.asked == ["udp", "udp", "tcp"]


def test_the_next_name_server_is_asked_when_one_has_no_answer() -> None:
    """One that refuses, one whose answer is to another question and then is garbage, and one that knows."""

    def lies(asked: bytes) -> bytes:
        return asked[:2] + b"\x81\x80" + b"\0\1\0\1\0\0\0\0" + asked[12:] + b"\xc0"

    with (
        NameServer(lambda asked: reply(asked, [], 5)) as refuses,
        NameServer(lies) as confused,
        NameServer(lambda asked: reply(asked, [(0, 1, 1, "m.example")])) as knows,
    ):
        found = dns.ask("_https._tcp.example", [refuses.where, confused.where, knows.where])
        assert [str(server.address) for server in found] == ["m.example:1"]
        with pytest.raises(ValueError, match="breaks off"):
            dns.ask("_https._tcp.example", [confused.where])


def test_each_address_of_a_name_is_a_server() -> None:
    """By the machine's own resolver."""

    async def then(heard: Heard) -> None:
        await until(lambda: bool(heard.told))

    heard = follow(lambda heard: dns.follow("localhost:6443", heard), then)
    assert "127.0.0.1:6443" in heard.told[0]


def test_name_servers_are_the_first_three_of_resolv_conf() -> None:
    """As the C library has it; without any it is this machine."""
    text = "# x\nnameserver 10.0.0.1\n nameserver fe80::1%eth0 \nsearch a\nnameserver\nnameserver a\nnameserver b\n"
    assert dns.name_servers(text) == [("10.0.0.1", 53), ("fe80::1", 53), ("a", 53)]
    assert dns.name_servers("") == [("127.0.0.1", 53)]
