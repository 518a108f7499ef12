"""Targets for what opens a connection: a ClientHello, a certificate, the PROXY header."""

from __future__ import annotations

import math
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Literal

from lbproxy.checks.certificate import expiry
from lbproxy.proxy.clienthello import LIMIT, Hello, classify
from lbproxy.proxy.proxy_protocol import header
from tests.fuzz.target import Target, always, pieces
from tests.support.proxy_protocol import parse

_INET, _INET6 = 2, 10


def _hello(data: bytes) -> None:
    """What is no ClientHello does not become one by more bytes, and one that is whole was a beginning before."""
    arrived = b""
    said = Hello.PARTIAL
    for piece in pieces(data):
        arrived += piece
        before, said = said, classify(arrived)
        assert before is Hello.PARTIAL or said is Hello.OTHER
    assert classify(data) is said
    if said is Hello.COMPLETE:
        assert len(data) <= LIMIT
        assert classify(data[:-1]) is Hello.PARTIAL
        assert classify(data + b"\x16") is Hello.OTHER


def _client_hello(*extensions: tuple[int, bytes], record: int = LIMIT) -> bytes:
    """Return one, in records of so many bytes."""
    told = b"".join(kind.to_bytes(2, "big") + len(text).to_bytes(2, "big") + text for kind, text in extensions)
    body = b"\x03\x03" + bytes(32) + b"\0" + b"\0\x02\x13\x01" + b"\x01\0" + len(told).to_bytes(2, "big") + told
    message = b"\x01" + len(body).to_bytes(3, "big") + body
    parts = [message[at : at + record] for at in range(0, len(message), record)]
    return b"".join(b"\x16\x03\x01" + len(part).to_bytes(2, "big") + part for part in parts)


def _expiry(data: bytes) -> None:
    """Whatever a server shows, it is a time."""
    assert math.isfinite(expiry(data))


def _der(tag: int, content: bytes) -> bytes:
    return bytes([tag, 0x82]) + len(content).to_bytes(2, "big") + content


def _certificate(*times: bytes, tag: int) -> bytes:
    validity = b"".join(_der(tag, time) for time in times)
    fields = _der(0xA0, b"\x02\x01\x02") + _der(2, b"\x01") + _der(0x30, b"") + _der(0x30, b"issuer")
    return _der(0x30, _der(0x30, fields + _der(0x30, validity)))


def _header(data: bytes) -> None:
    """Whoever parses it has both addresses and both ports, whichever family they were of."""
    data = data.ljust(40, b"\0")
    version: Literal["v1", "v2"] = "v2" if data[0] & 1 else "v1"
    ports = int.from_bytes(data[1:3], "big"), int.from_bytes(data[3:5], "big")
    hosts: tuple[IPv4Address | IPv6Address, ...]
    if data[0] & 2:
        hosts, family = (IPv6Address(data[5:21]), IPv6Address(data[21:37])), _INET6
    else:
        hosts, family = (IPv4Address(data[5:9]), IPv4Address(data[9:13])), _INET
    zone = "%eth0" if data[0] & 6 == 6 else ""
    got = parse(header(version, (f"{hosts[0]}{zone}", ports[0]), (str(hosts[1]), ports[1]), family))
    assert got is not None
    _, src, src_port, dst, dst_port = got
    assert (src_port, dst_port) == ports
    assert [_wide(src), _wide(dst)] == [_wide(each) for each in hosts]


def _wide(host: IPv4Address | IPv6Address) -> IPv6Address:
    return host if isinstance(host, IPv6Address) else IPv6Address(f"::ffff:{host}")


_MAPPED = ip_address("::ffff:10.4.6.11").packed

TARGETS = (
    Target(
        "clienthello",
        ("proxy.clienthello",),
        always(_hello),
        (
            _client_hello((0, b"kubernetes.default.svc"), (43, b"\x02\x03\x04")),
            _client_hello((42, b"")),
            _client_hello((0, b"x" * 40), record=7),
            _client_hello()[:-3],
            b"GET / HTTP/1.1\r\n",
        ),
    ),
    Target(
        "certificate",
        ("checks.certificate",),
        always(_expiry),
        (
            _certificate(b"250101000000Z", b"350101000000Z", tag=0x17),
            _certificate(b"20250101000000Z", b"20550101000000Z", tag=0x18),
        ),
    ),
    Target(
        "proxy-header",
        ("proxy.proxy_protocol",),
        always(_header),
        (
            bytes([0]) + bytes(range(1, 13)),
            bytes([3]) + bytes(range(1, 37)),
            bytes([2]) + bytes(4) + _MAPPED + _MAPPED,
            bytes([7]) + bytes(4) + _MAPPED + bytes(range(16)),
        ),
        longest=40,
    ),
)
