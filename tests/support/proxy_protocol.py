"""The PROXY header as others read it: a parser written from the specification."""

from __future__ import annotations

import socket
from ipaddress import ip_address
from typing import Any


def parse(data: bytes) -> tuple[str, Any, int, Any, int] | None:
    """Read a header of either version to its end: family, source, port, destination, port; None for no addresses."""
    if data.startswith(b"PROXY "):
        assert len(data) <= 107
        assert data.endswith(b"\r\n")
        words = data[:-2].decode("ascii").split(" ")
        if words == ["PROXY", "UNKNOWN"]:
            return None
        _, kind, src, dst, src_port, dst_port = words
        family = {"TCP4": socket.AF_INET, "TCP6": socket.AF_INET6}[kind]
        for port in (src_port, dst_port):
            assert port == str(int(port))
        sides = [ip_address(socket.inet_pton(family, side)) for side in (src, dst)]
        return kind, sides[0], int(src_port), sides[1], int(dst_port)
    assert data[:12] == bytes.fromhex("0d0a0d0a000d0a515549540a")
    command, family_byte, length, rest = data[12], data[13], int.from_bytes(data[14:16], "big"), data[16:]
    assert len(rest) == length
    if command == 0x20:
        assert (family_byte, rest) == (0, b"")
        return None
    assert command == 0x21
    kind, size = {0x11: ("TCP4", 4), 0x21: ("TCP6", 16)}[family_byte]
    assert length == 2 * size + 4
    ports = [int.from_bytes(rest[at : at + 2], "big") for at in (2 * size, 2 * size + 2)]
    return kind, ip_address(rest[:size]), ports[0], ip_address(rest[size : 2 * size]), ports[1]
