"""Targets for what one process says to the next, or to another one beside it."""

from __future__ import annotations

import asyncio
import json
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from lbproxy.errors import HandoverError
from lbproxy.handover import messages, parcel, sets
from lbproxy.process.events import MOST, ROOM, Events
from lbproxy.status.shapes import Event
from lbproxy.workers import wire
from tests.fuzz.target import Run, Target, always, file, looped, pieces

_KINDS = (messages.Hello, messages.Ready, messages.Refused, messages.Connections, messages.Have, messages.Go)


def _manifest(data: bytes) -> None:
    """What is understood is understood again, field by field."""
    for kind in _KINDS:
        try:
            message = messages.decode(data, kind)
        except HandoverError:
            continue
        else:
            assert messages.decode(messages.encode(message), kind) == message
            for value in (getattr(message, name) for name in message.__slots__):
                assert isinstance(value, int | str)


@contextmanager
def _parcels() -> Iterator[Run]:
    """Each descriptor that came is a connection's or closed, the latter if the message is refused."""
    with file() as it:
        it.holding(b"bytes")

        def run(data: bytes) -> None:
            fds = [os.dup(it.fd) for _ in range(data[0] & 7 if data else 0)]
            message = data[1:] if data[:1] >= b"\x80" else bytes([parcel.VERSION]) + zlib.compress(data[1:], 1)
            owned: set[int] = set()
            try:
                found, state = parcel.decode(message, fds)
                owned = {fd for each in found for fd in (each.client_fd, each.server_fd) if fd >= 0}
                _again(found, state)
            finally:
                still = {fd for fd in fds if _is_open(fd)}
                for fd in still:
                    os.close(fd)
                assert still == owned

        yield run


def _again(found: list[parcel.Parcel], state: parcel.ProcessState | None) -> None:
    """See that what has come can be told on."""
    if state is not None:
        assert parcel.decode(parcel.encode_state(state), []) == ([], state)
    whole = parcel.encode(found)
    assert whole[0] == parcel.VERSION


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def _names(data: bytes) -> None:
    """A name in the fd store is a set's, or it is not; the number and the part make it again."""
    name = data.decode(errors="replace")
    found = sets.parse(name)
    if found is not None:
        assert sets.parse(sets.name_of(*found)) == found


@contextmanager
def _events() -> Iterator[Run]:
    """What another process has left there is read as far as it can be, and no more of it kept than may be."""
    with file() as it:

        def run(data: bytes) -> None:
            it.holding(data)
            first, second = Events(), Events()
            first.keep_in(it.fd)
            assert len(first.all()) <= MOST
            assert os.fstat(it.fd).st_size <= ROOM
            first.leave()
            second.keep_in(it.fd)
            assert list(map(_shown, second.all())) == list(map(_shown, first.all()))

        yield run


def _shown(event: Event) -> list[str]:
    """Return what a file can hold of it."""
    return [str(value).encode(errors="replace").decode() for value in event.values()]


async def _wire(data: bytes) -> None:
    """Messages of any content arrive whole in however many pieces; one that breaks off is no message.

    Bytes that are none are not tried: they are pickled, and go from a process to its own child and back alone.
    """
    text = data.decode(errors="replace")
    sent: list[wire.Call | wire.Line] = [
        wire.Call(len(data), text[:8], (data, text), 2),
        wire.Line(20, text[8:16], text, 1.5),
    ]
    whole = b"".join(map(wire.packed, sent))
    reader = asyncio.StreamReader()
    for piece in pieces(whole):
        reader.feed_data(piece)
    reader.feed_eof()
    assert [await wire.receive(reader, wire.Call, wire.Line) for _ in sent] == sent
    broken = asyncio.StreamReader()
    broken.feed_data(pieces(whole)[0])
    broken.feed_eof()
    try:
        assert await wire.receive(broken, wire.Call) == sent[0]
    except asyncio.IncompleteReadError:
        assert len(pieces(whole)[0]) < len(wire.packed(sent[0]))


_ROW = ["cs", 1, 2, "api", "m1", "10.4.6.11:6443", ["127.0.0.1", 4242], 12.5, 10, 20, ""]
_PARCELS = json.dumps({"parcels": [_ROW, ["cfud", *_ROW[1:4], "", "", *_ROW[6:]]]}).encode()
_STATE = json.dumps({"state": {"drained": ["m1"], "carrier": 3, "sets": ["set-7.marks"]}}).encode()
_EVENT = b'{"ts": "2026-01-01T00:00:00.000Z", "level": "info", "logger": "app", "msg": "serving"}\n'
_WORDS = (b'"parcels":', b'"state":', b'"drained":', b'"carrier":', b'"sets":', b'"cs"', b'"c"', b'"f"', b"null",
          b"1e999", b"[", b"]", b"{", b"}")  # fmt: skip

TARGETS = (
    Target(
        "manifest",
        ("handover.messages",),
        always(_manifest),
        (
            *map(messages.encode, (messages.Hello(1, "0.1.0", True), messages.Ready("0.1.0", 7), messages.Refused("no"),
                                   messages.Connections(), messages.Have(), messages.Go())),
            b'{"message": "hello", "handover": [], "version": {}, "marks": 1e9}',
            b"[" * 3000,
        ),
        words=(b'"message":', b'"hello"', b'"ready"', b'"refused"', b'"pid":', b'"why":', b"null", b"1e999"),
    ),
    Target(
        "parcels",
        ("handover.parcel",),
        _parcels,
        (
            b"\x06" + _PARCELS,
            b"\x02" + json.dumps({"parcels": [_ROW]}).encode(),
            b"\x00" + _STATE,
            b"\x80" + parcel.encode([]),
            b"\x00" + b"[" * 3000,
        ),
        (HandoverError,),
        words=_WORDS,
    ),
    Target("fd-names", ("handover.sets",), always(_names), (b"set-7.marks", b"set-7.carrier-3", b"set-\xd9\xa3.x"),
           words=(b"set-", b".", b"carrier-")),
    Target("events", ("process.events",), _events, (_EVENT * 3, _EVENT[:-5] + b"\n" + _EVENT, b"[" * 3000 + b"\n"),
           words=(b'"ts":', b'"level":', b'"logger":', b'"msg":', b"\n", b"null", b"{", b"}")),
    Target("wire", ("workers.wire",), looped(_wire), (b"", b"stop", bytes(range(256)))),
)  # fmt: skip
