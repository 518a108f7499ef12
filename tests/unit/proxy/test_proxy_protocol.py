"""The PROXY header as others read it: a parser written from the specification, nginx and HAProxy."""

from __future__ import annotations

import socket
from ipaddress import ip_address
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbproxy.proxy.proxy_protocol import header
from tests.support.child import Child
from tests.support.clients import connect, receive_all
from tests.support.need import STREAM_MODULE, find, need
from tests.support.ports import free_port
from tests.support.proxy_protocol import parse

Version = Literal["v1", "v2"]
V4 = st.tuples(st.ip_addresses(v=4).map(str), st.integers(0, 65535))
Side = tuple[str, int, int, int]
V6_HOSTS = st.ip_addresses(v=6).filter(lambda host: host.ipv4_mapped is None).map(str)
V6 = st.tuples(V6_HOSTS, st.integers(0, 65535), st.integers(0, 2**20 - 1), st.integers(0, 9))
VERSIONS = st.sampled_from(["v1", "v2"])


@given(VERSIONS, V4, V4)
def test_ipv4_is_told_as_it_is(version: Version, src: tuple[str, int], dst: tuple[str, int]) -> None:
    """Whoever parses it gets back both addresses and both ports."""
    got = parse(header(version, src, dst, socket.AF_INET))
    assert got == ("TCP4", ip_address(src[0]), src[1], ip_address(dst[0]), dst[1])


@given(VERSIONS, V6, V6)
def test_ipv6_is_told_as_it_is(version: Version, src: Side, dst: Side) -> None:
    """Flow label and scope are left out, they mean nothing to the server."""
    got = parse(header(version, src, dst, socket.AF_INET6))
    assert got == ("TCP6", ip_address(src[0]), src[1], ip_address(dst[0]), dst[1])


@given(VERSIONS, V4, V4)
def test_ipv4_within_ipv6_is_told_as_ipv4(version: Version, src: tuple[str, int], dst: tuple[str, int]) -> None:
    """A listener on [::] sees IPv4 clients as ::ffff:a.b.c.d, which no access list has."""
    mapped = [(f"::ffff:{host}", port, 0, 0) for host, port in (src, dst)]
    assert header(version, *mapped, socket.AF_INET6) == header(version, src, dst, socket.AF_INET)


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_one_mapped_address_alone_stays_ipv6(version: Version) -> None:
    """Both sides are told in one family."""
    got = parse(header(version, ("::ffff:10.0.0.1", 1, 0, 0), ("fe80::1%eth0", 2, 0, 3), socket.AF_INET6))
    assert got == ("TCP6", ip_address("::ffff:10.0.0.1"), 1, ip_address("fe80::1"), 2)


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_family_without_such_addresses_is_unknown(version: Version) -> None:
    """The server goes by the addresses of the connection itself."""
    assert parse(header(version, ("", 0), ("", 0), socket.AF_UNIX)) is None


def test_the_longest_header_of_version_1_fits_a_receiver_s_buffer() -> None:
    """The specification allows 107 bytes."""
    longest = ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 65535, 0, 0)
    assert len(header("v1", longest, longest, socket.AF_INET6)) <= 107


class Nginx(Child):
    """nginx that answers with the addresses it was told."""

    def prepare(self) -> None:
        """Write nginx.conf."""
        need("nginx", "nginx-stream")
        self.ports = [free_port()]
        file = self.dir / "nginx.conf"
        file.write_text(
            f"load_module {STREAM_MODULE}; daemon off; error_log stderr; pid {self.dir}/nginx.pid; events {{}}"
            f"stream {{ server {{ listen 127.0.0.1:{self.ports[0]} proxy_protocol;"
            'return "$proxy_protocol_addr $proxy_protocol_port $proxy_protocol_server_addr '
            '$proxy_protocol_server_port"; } }'
        )
        self.command = [find("nginx") or "nginx", "-e", "stderr", "-p", str(self.dir), "-c", str(file)]


class HAProxy(Child):
    """HAProxy that answers with the addresses it was told."""

    def prepare(self) -> None:
        """Write haproxy.cfg."""
        need("haproxy")
        self.ports = [free_port()]
        file = self.dir / "haproxy.cfg"
        file.write_text(
            "defaults\n  mode http\n  timeout client 5s\n  timeout server 5s\n  timeout connect 5s\n"
            f"frontend f\n  bind 127.0.0.1:{self.ports[0]} accept-proxy\n"
            "  http-request return status 200 content-type text/plain"
            ' lf-string "%[src] %[src_port] %[dst] %[dst_port]"\n'
        )
        self.command = [find("haproxy") or "haproxy", "-db", "-f", str(file)]


PAIRS = [
    (("192.0.2.7", 40000), ("127.0.0.1", 6443), socket.AF_INET),
    (("2001:db8::7", 40000, 0, 0), ("::1", 6443, 0, 0), socket.AF_INET6),
    (("::ffff:192.0.2.7", 40000, 0, 0), ("::ffff:127.0.0.1", 6443, 0, 0), socket.AF_INET6),
]


@pytest.mark.parametrize("program", [Nginx, HAProxy])
def test_real_servers_understand_it(program: type[Child]) -> None:
    """HAProxy (`accept-proxy`) and nginx (`listen ... proxy_protocol`) name the client that they were told."""
    versions: tuple[Version, ...] = ("v1", "v2")
    with program() as server:
        for version in versions:
            for src, dst, family in PAIRS:
                with connect(server.ports[0]) as sock:
                    sock.sendall(header(version, src, dst, family))
                    sock.sendall(b"GET / HTTP/1.0\r\n\r\n" if program is HAProxy else b"")
                    answer = receive_all(sock).decode().split("\r\n\r\n")[-1]
                plain = [str(host).removeprefix("::ffff:") for host in (src[0], dst[0])]
                assert answer == f"{plain[0]} 40000 {plain[1]} 6443"
