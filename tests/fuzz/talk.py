"""Targets for talk: requests to the admin endpoint and to the control socket, and the answers to checks."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

import h11

from lbproxy.balance.checked import CheckResult
from lbproxy.checks.probe import Probe
from lbproxy.config.model import HealthConfig
from lbproxy.errors import ControlError, NoDaemonError
from lbproxy.status import commands
from lbproxy.status.client import understood
from lbproxy.status.control import REQUEST_LIMIT, ControlServer
from lbproxy.status.http import HEADER_LIMIT, Conversation, Reply, Request
from lbproxy.status.serving import Clients, Serve
from lbproxy.tasks import Tasks
from tests.fuzz.target import Run, Target, always, chance, looped, pieces

_TURNS = 3
"""Of the loop, until a client's bytes have been read."""
_SOME = 4
"""Of so many inputs one is tried in pieces too."""
_DATE = re.compile(rb"Date: [^\r]*")


class _Heard(asyncio.Transport):
    """What a server has written to its client."""

    def __init__(self) -> None:
        super().__init__()
        self.data = bytearray()
        self._over = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.data += data

    def write_eof(self) -> None:
        pass

    def is_closing(self) -> bool:
        return self._over

    def abort(self) -> None:
        self._over = True

    def close(self) -> None:
        self._over = True

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass


async def _said(serve: Serve, parts: list[bytes], limit: int) -> bytes:
    """Return all that a client hears that says `parts`, and no more after them."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit, loop)
    heard = _Heard()
    writer = asyncio.StreamWriter(heard, asyncio.StreamReaderProtocol(reader, loop=loop), reader, loop)
    serving = loop.create_task(serve(reader, writer))
    for part in parts:
        reader.feed_data(part)
        for _ in range(_TURNS):
            await asyncio.sleep(0)
    reader.feed_eof()
    await serving
    heard.abort()
    return bytes(heard.data)


async def _echo(request: Request) -> Reply:
    if request.method not in ("GET", "HEAD"):
        return Reply(405, b"no\n")  # as the admin endpoint does: to say yes to CONNECT would end HTTP
    return Reply(200, f"{request.method} {request.path}".encode())


async def _conversation(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await Conversation(reader, writer, _echo, Clients(_conversation, Tasks(), "client", 1)).run()


async def _admin(data: bytes) -> None:
    """Each answer is whole HTTP, and it is the same however the request arrives."""
    heard = await _said(_conversation, [data], HEADER_LIMIT)
    client = h11.Connection(h11.CLIENT)
    client.receive_data(heard)
    while client.trailing_data[0]:
        client.send(h11.Request(method="HEAD" if _is_head(client) else "GET", target="/", headers=[("Host", "x")]))
        client.send(h11.EndOfMessage())
        while not isinstance(event := client.next_event(), h11.EndOfMessage):
            assert isinstance(event, h11.Response | h11.Data)
        if client.their_state is not h11.DONE:
            break
        client.start_next_cycle()
    if chance(data, _SOME) == 0:
        cut = await _said(_conversation, pieces(data), HEADER_LIMIT)
        assert _DATE.sub(b"", cut) == _DATE.sub(b"", heard)


def _is_head(client: h11.Connection) -> bool:
    """Whether there is a head without a body, though it has a length: then the next one follows, or nothing."""
    head, _, rest = client.trailing_data[0].partition(b"\r\n\r\n")
    return b"\r\nContent-Length: 0\r\n" not in head and (not rest or rest.startswith(b"HTTP/1.1 "))


async def _ok(arguments: Mapping[str, object]) -> object:
    return {"ok": True, "of": sorted(arguments)}


def _bound() -> Mapping[str, commands.Handler]:
    every = (commands.STATUS, commands.DRAIN, commands.REBALANCE)
    return dict(command.bind(_ok) for command in every)  # type: ignore[attr-defined]


async def _control(data: bytes) -> None:
    """One line of JSON is answered with one, the same however it arrives."""
    server = ControlServer("/nowhere", _bound, Tasks())
    heard = await _said(server._serve, [data], REQUEST_LIMIT)
    if chance(data, _SOME) == 0:
        assert heard == await _said(server._serve, pieces(data), REQUEST_LIMIT)
    if b"\n" not in data:
        assert not heard
        return
    answer = json.loads(heard)
    assert heard.count(b"\n") == 1
    assert not answer.get("error", "").endswith("log says why")
    assert answer.keys() in ({"error"}, {"ok", "of"})


def _asked(data: bytes) -> None:
    """What is no answer of a daemon's says so."""
    assert "error" not in understood(data, "/nowhere")


@contextmanager
def _check() -> Iterator[Run]:
    """Any answer says how the server is, in a few words; cut in pieces it says the same."""
    loop = asyncio.new_event_loop()
    with tempfile.TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX) as listener:
        place = f"{directory}/s"
        listener.bind(place)
        listener.listen()
        listener.setblocking(False)
        health = HealthConfig(type="http", path="/readyz", timeout=60.0)

        async def ask(parts: list[bytes]) -> CheckResult:
            probe = Probe(health, "api.example:6443")
            asking = loop.create_task(probe.ask((socket.AF_UNIX, place)))  # type: ignore[arg-type]
            await asyncio.sleep(0)
            sock, _ = listener.accept()
            with sock:
                sock.setblocking(False)
                await loop.sock_recv(sock, 4096)
                with suppress(BrokenPipeError):  # what has come was enough
                    for part in parts:
                        sock.send(part)
                        await asyncio.sleep(0)
                    sock.shutdown(socket.SHUT_WR)
                found = await asking
            probe.close()
            assert isinstance(found, CheckResult)
            return found

        def run(data: bytes) -> None:
            found = loop.run_until_complete(ask([data]))
            assert len(found.reason) < 250
            assert found.reason.isascii()
            assert found.reason.isprintable()
            if chance(data, _SOME) == 0:
                cut = loop.run_until_complete(ask(pieces(data)))
                assert (cut.state, cut.kind) == (found.state, found.kind)

        try:
            yield run
        finally:
            loop.close()


_GET = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
_POST = b"POST /a?b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
_HTTP = (b"HTTP/1.0", b"HTTP/1.1", b"\r\n", b"\r\n\r\n", b"HEAD ", b"CONNECT ", b"Connection: close", b"Upgrade: h2c",
         b"Expect: 100-continue", b"Content-Length: 3", b"Transfer-Encoding: chunked", b"Host: x", b"101 ", b"503 ",
         b"204 ", b"[-]shutdown failed", b"\r\n0\r\n\r\n")  # fmt: skip
_READY = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
_SICK = b"HTTP/1.1 500 Internal Server Error\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n[-]etcd failed\n\r\n0\r\n\r\n"

TARGETS = (
    Target(
        "admin",
        ("status.http",),
        looped(_admin),
        (
            _GET,
            _GET.replace(b"GET", b"HEAD") + _GET,
            _POST + _GET,
            _POST.replace(b"\r\n\r\n3", b"\r\nExpect: 100-continue\r\n\r\n3"),
            b"GET / HTTP/1.0\r\n\r\n",
            b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\nabc",
        ),
        words=_HTTP,
    ),
    Target(
        "control",
        ("status.control", "status.commands"),
        looped(_control),
        (
            b'{"command": "status"}\n',
            b'{"command": "drain", "server": "m3", "force": true}\nmore',
            b'{"command": "rebalance", "dry_run": "yes"}\n',
            b"[" * 3000 + b"\n",
        ),
        words=(b'"command":', b'"server":', b'"dry_run":', b'"drain"', b'"\\ud800"', b"null", b"{", b"}", b"\n"),
    ),
    Target(
        "control-answer",
        ("status.client",),
        always(_asked),
        (b'{"ok": true}\n', b'{"error": "no such server"}\n', b"[1]", b'"error"', b'{"error": 1}', b"[" * 3000),
        (ControlError, NoDaemonError),
        words=(b'"error":', b"null", b"{", b"}", b"[", b"]"),
    ),
    Target(
        "check",
        ("checks.probe", "checks.answer", "checks.stream"),
        _check,
        (
            _READY,
            _SICK,
            b"HTTP/1.1 100 Continue\r\n\r\n" + _READY,
            b"HTTP/1.1 403 \r\n\r\n",
            b"\x15\x03\x01\0\x02\x02\x16",
        ),
        words=_HTTP,
    ),
)
