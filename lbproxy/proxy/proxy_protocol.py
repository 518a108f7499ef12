"""The PROXY protocol header that tells a server who its client is: versions 1 and 2 of haproxy's proxy-protocol.txt."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, Literal

from lbproxy.net.contract import SocketAddress

_INET: Final = (2, 10)
"""AF_INET and AF_INET6 of Linux."""
_SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
_LOCAL: Final = b"\x20"
_PROXY: Final = b"\x21"
_TCP4: Final = b"\x11"
_TCP6: Final = b"\x21"


def header(version: Literal["v1", "v2"], src: SocketAddress, dst: SocketAddress, family: int) -> bytes:
    """Return the header for a client at `src` that connected to `dst`, both socket addresses of `family`.

    IPv4 in IPv6 (::ffff:a.b.c.d) is written as IPv4. A family other than IPv4 and IPv6 has no addresses to tell:
    UNKNOWN in version 1, LOCAL in version 2, and the server uses those of the connection it sees.
    """
    if family not in _INET:
        return no_header(version)
    hosts = _hosts(src[0], dst[0])
    if version == "v1":
        kind = "TCP4" if hosts[0].version == 4 else "TCP6"
        return f"PROXY {kind} {hosts[0]} {hosts[1]} {src[1]} {dst[1]}\r\n".encode()
    addresses = hosts[0].packed + hosts[1].packed + struct.pack("!HH", src[1], dst[1])
    kind_byte = _TCP4 if hosts[0].version == 4 else _TCP6
    return _SIGNATURE + _PROXY + kind_byte + struct.pack("!H", len(addresses)) + addresses


def no_header(version: Literal["v1", "v2"]) -> bytes:
    """Return the header of a connection without a client, such as a check: the server uses the addresses it sees."""
    return b"PROXY UNKNOWN\r\n" if version == "v1" else _SIGNATURE + _LOCAL + b"\0" + b"\0\0"


def _hosts(src: str, dst: str) -> tuple[IPv4Address, IPv4Address] | tuple[IPv6Address, IPv6Address]:
    """Return both addresses in one version; the zone of a link-local one means nothing elsewhere and is left out."""
    one, other = ip_address(src.partition("%")[0]), ip_address(dst.partition("%")[0])
    if isinstance(one, IPv4Address) and isinstance(other, IPv4Address):
        return one, other
    six = _wide(one), _wide(other)
    four = six[0].ipv4_mapped, six[1].ipv4_mapped
    if four[0] is not None and four[1] is not None:
        return four[0], four[1]
    return six


def _wide(address: IPv4Address | IPv6Address) -> IPv6Address:
    return address if isinstance(address, IPv6Address) else IPv6Address(f"::ffff:{address}")
