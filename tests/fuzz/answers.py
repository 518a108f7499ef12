"""Targets for answers: of name servers, and of API servers that say who else there is."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from ipaddress import ip_address

import h11

from lbproxy.checks.stream import Stream
from lbproxy.sources import srv
from lbproxy.sources.api import Answer, StatusError
from lbproxy.sources.slices import GoneError, Slices
from tests.fuzz.target import Target, always, chance, looped, pieces

_ASKED = srv.question("_https._tcp.api.example", 7)
_MOST_SERVERS = 1000


def _dns(data: bytes) -> None:
    """An answer is servers that can be configured, and not without end."""
    srv.answers(_ASKED, data)
    found = srv.servers(data)
    assert len(found) <= _MOST_SERVERS
    for server in found:
        assert 1 <= server.weight <= 1000
        assert 1 <= server.address.port <= 65535


def _record(priority: int, target: bytes, port: int = 6443, kind: int = 33) -> bytes:
    text = struct.pack("!3H", priority, 5, port) + target
    return b"\xc0\x0c" + struct.pack("!2HIH", kind, 1, 30, len(text)) + text


def _answer(*records: bytes, flags: int = 0x8180, questions: int = 1) -> bytes:
    return struct.pack("!6H", 7, flags, questions, len(records), 0, 0) + _ASKED[12:] + b"".join(records)


def _slices(data: bytes) -> None:
    """A list, then a line for each event: what cannot be believed changes nothing, and the rest is IP addresses."""
    slices = Slices()
    for number, line in enumerate(data.split(b"\n")):
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            continue
        before = slices.addresses(), slices.version
        try:
            if number:
                slices.changed(event)
            else:
                slices.listed(event)
        except (ValueError, GoneError):
            assert (slices.addresses(), slices.version) == before
        places = slices.addresses()
        assert len(set(places)) == len(places)
        for place in places:
            ip_address(place.host)
            assert 1 <= place.port <= 65535


async def _watch(data: bytes) -> None:
    """What is heard does not hang on how it arrives."""
    heard = await _heard([data])
    if chance(data, 4) == 0:
        assert await _heard(pieces(data)) == heard


async def _heard(parts: list[bytes]) -> tuple[list[str], str]:
    """Return the lines of an answer that comes in `parts`, and what it ended with."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    stream = Stream(ours)
    lines: list[str] = []
    try:
        http = h11.Connection(h11.CLIENT)
        http.send(h11.Request(method="GET", target="/", headers=[("Host", "x")]))
        http.send(h11.EndOfMessage())
        answer = Answer(stream, http)
        reading = asyncio.ensure_future(_read(answer, lines))
        for part in parts:
            theirs.send(part)
            await asyncio.sleep(0)
        theirs.close()
        return lines, await reading
    finally:
        stream.close()
        theirs.close()


async def _read(answer: Answer, lines: list[str]) -> str:
    try:
        await answer.begin()
        lines += [repr(line) async for line in answer.lines(60)]
    except StatusError as error:
        return f"status {error.status}"
    except (OSError, h11.ProtocolError, ValueError) as error:
        return type(error).__name__
    return "the end"


def _slice(name: str, *ips: str, **more: object) -> dict[str, object]:
    endpoints = [{"addresses": [ip], "conditions": {"ready": True}} for ip in ips]
    return {"metadata": {"name": name, "resourceVersion": "7"}, "addressType": "IPv4", "endpoints": endpoints,
            "ports": [{"name": "https", "port": 6443, "protocol": "TCP"}], **more}  # fmt: skip


_LIST = json.dumps({"metadata": {"resourceVersion": "1"}, "items": [_slice("a", "10.4.6.11", "10.4.6.12")]}).encode()
_SIX = _slice("b", "fd00::11", addressType="IPv6")
_EVENTS = [
    json.dumps({"type": kind, "object": one}).encode()
    for kind, one in (("ADDED", _SIX), ("MODIFIED", _slice("a")), ("BOOKMARK", {"metadata": {"resourceVersion": "9"}}),
                      ("DELETED", _SIX), ("ERROR", {"code": 410}), ("ERROR", {"message": "no"}))
]  # fmt: skip
_LINES = b"\n".join([_LIST, *_EVENTS])
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
_CHUNKED = _HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"".join(
    b"%x\r\n%s\r\n" % (len(part), part) for part in pieces(_LINES)
) + b"0\r\n\r\n"  # fmt: skip
_WORDS = (b'"type":', b'"object":', b'"metadata":', b'"ERROR"', b'"ADDED"', b'"endpoints":', b'"addresses":',
          b'"ports":', b'"port":', b'"addressType":', b'"IPv6"', b'"items":', b"null", b"1e999", b"{}",
          b"[]", b"\n")  # fmt: skip
_HTTP = (b"HTTP/1.1 ", b"\r\n", b"Transfer-Encoding: chunked", b"Content-Length: ", b"100 Continue", b"101 ", b"204 ")

TARGETS = (
    Target(
        "dns",
        ("sources.srv",),
        always(_dns),
        (
            _answer(_record(1, b"\x02m1\xc0\x18"), _record(2, b"\x02m2\x07example\0")),
            _answer(_record(0, b"\0"), _record(1, b"\x00", kind=5)),
            _answer(flags=0x8380),
            _answer(flags=0x8183),
            _answer(_record(1, b"\xc0\x0c")) + b"\xc0\xff",
        ),
        (ValueError,),
        words=(b"\xc0\x0c", b"\0\x21\0\x01", b"\x3f" + b"a" * 63),
        longest=16384,
    ),
    Target("slices", ("sources.slices",), always(_slices), (_LINES, _LIST + b"\n" + b"\n".join(_EVENTS[::-1])),
           words=_WORDS),
    Target("watch", ("sources.api",), looped(_watch),
           (_CHUNKED, _HEAD + b"\r\n" + _LINES, b"HTTP/1.1 410 Gone\r\n\r\n"),
           words=(*_WORDS, *_HTTP)),
)  # fmt: skip
