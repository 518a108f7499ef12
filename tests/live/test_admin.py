"""Rules of the admin endpoint, asked by curl and by clients that behave badly."""

from __future__ import annotations

import asyncio
import json
import logging
import select
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import pytest
import uvloop
from prometheus_client.parser import text_string_to_metric_families

from lbproxy.balance.histogram import LIFE, Seconds
from lbproxy.config.model import Address
from lbproxy.status import admin, http
from lbproxy.status.admin import AdminServer
from lbproxy.status.pages import Pages
from lbproxy.status.render import status_json
from lbproxy.status.shapes import Event
from lbproxy.status.snapshot import ConnectionView, ProxyView, ReloadView, Snapshot
from lbproxy.tasks import Tasks
from tests.support.clients import connect
from tests.support.need import need
from tests.support.ports import free_port
from tests.support.wait import FACTOR, until
from tests.unit.status.test_render import server

uvloop.new_event_loop().close()  # libuv keeps a pipe from its first loop on, which no test is to be blamed for

GET = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"


def state(servers: int = 1, **up: str) -> Snapshot:
    """Return a process with a proxy for each of `up`, whose servers are all in the state given for it."""
    return Snapshot(
        version="1.2.3",
        form="compiled",
        python="3.11.2",
        pid=1,
        uptime_seconds=1.0,
        generation=1,
        config=ReloadView(file="f"),
        loop_lag_seconds=0.0,
        proxies=tuple(
            ProxyView(
                name=name,
                listen=("127.0.0.1:6443",),
                connections=0,
                connecting=0,
                connections_total=0,
                max_connections=0,
                rejected={},
                closed={},
                lived_seconds=Seconds(LIFE).view(),
                servers=tuple(server(f"<m{n}>", state=now) for n in range(servers)),
            )
            for name, now in up.items()
        ),
    )


class Daemon:
    """An admin server in a loop of its own, and the snapshot it shows, which a test may replace at any time."""

    def __init__(self) -> None:
        self.now = state(a="up")
        self.port = free_port()
        self.tasks = Tasks()
        self.server = AdminServer(Address("127.0.0.1", self.port), Pages(self), self.tasks)
        self.loop = uvloop.new_event_loop()

    async def snapshot(self) -> Snapshot:
        """Return what the test wants to be seen; no proxy at all stands for a data plane that hangs."""
        if not self.now.proxies:
            await asyncio.sleep(3600)
        return self.now

    async def connections(self) -> list[ConnectionView]:
        """Return one."""
        return [ConnectionView(proxy="a", server="m0", client="127.0.0.1:1", age_seconds=1.0, idle_seconds=1.0,
                               bytes_in=1, bytes_out=1)]  # fmt: skip

    def events(self) -> list[Event]:
        """Return one."""
        return [{"ts": "2026-11-27T03:12:00.123Z", "level": "info", "logger": "proxy", "msg": "m0 is up"}]

    def run(self, coro: Any) -> None:
        """Run `coro` in the server's loop until it is done."""
        asyncio.run_coroutine_threadsafe(coro, self.loop).result(10 * FACTOR)


@contextmanager
def running(daemon: Daemon) -> Iterator[Daemon]:
    """Run `daemon` from here to the end of the block."""
    thread = threading.Thread(target=daemon.loop.run_forever, name="admin loop")
    thread.start()
    try:
        daemon.run(daemon.server.start())
        yield daemon
    finally:
        daemon.run(daemon.server.stop())
        daemon.run(daemon.tasks.cancel())
        daemon.loop.call_soon_threadsafe(daemon.loop.stop)
        thread.join()
        daemon.loop.close()


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    """Run an admin server for the test."""
    with running(Daemon()) as daemon:
        yield daemon


def curl(daemon: Daemon, path: str, *options: str) -> tuple[int, str, str]:
    """Ask for `path`; returns the status, the head and the body."""
    need("curl")
    done = subprocess.run(
        [
            "curl",
            "-sS",
            "--noproxy",
            "*",
            "--max-time",
            "10",
            "-D",
            "/dev/stderr",
            *options,
            f"http://127.0.0.1:{daemon.port}{path}",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stderr.split()[1]), done.stderr, done.stdout


def raw(daemon: Daemon, request: bytes) -> bytes:
    """Send `request` as it is, and return everything until the server closes; a reset is an error."""
    with connect(daemon.port) as sock:
        sock.sendall(request)
        return everything(sock)


def everything(sock: socket.socket) -> bytes:
    """Return what comes until the peer closes."""
    answer = b""
    while chunk := sock.recv(65536):
        answer += chunk
    return answer


def quiet(daemon: Daemon) -> None:
    """Wait until the server has nobody connected, and check that it still answers."""
    until(lambda: not daemon.server._clients, "every connection gone")
    assert curl(daemon, "/livez")[::2] == (200, "ok\n")


def test_metrics_are_what_prometheus_reads(daemon: Daemon) -> None:
    """The page parses, and its type says which format it has."""
    status, head, body = curl(daemon, "/metrics")
    assert status == 200
    assert "text/plain; version=0.0.4" in head
    assert "lbproxy_server_up" in {family.name for family in text_string_to_metric_families(body)}


def test_status_is_the_json_of_the_cli(daemon: Daemon) -> None:
    """`/status` and `lbproxy status --json` are the same document."""
    status, head, body = curl(daemon, "/status")
    assert status == 200
    assert "application/json" in head
    assert json.loads(body) == status_json(daemon.now)


def test_conns_and_events_are_the_json_of_the_cli(daemon: Daemon) -> None:
    """What the page shows besides: the same documents as `lbproxy conns --json` and `lbproxy events --json`."""
    status, head, body = curl(daemon, "/conns")
    assert (status, [each["client"] for each in json.loads(body)]) == (200, ["127.0.0.1:1"])
    assert "application/json" in head
    assert json.loads(curl(daemon, "/events")[2]) == daemon.events()


def test_live_and_health_do_not_ask_the_data_plane(daemon: Daemon) -> None:
    """They say that the loop turns, whatever state the servers are in."""
    for daemon.now in (state(a="down"), state()):
        assert curl(daemon, "/livez")[::2] == (200, "ok\n")
        assert curl(daemon, "/healthz")[::2] == (200, "ok\n")


def test_ready_names_the_proxies_without_a_usable_server(daemon: Daemon) -> None:
    """200 while each proxy has one server that takes connections, else 503 with the names of those that have none."""
    daemon.now = state(a="up", b="unchecked")
    assert curl(daemon, "/readyz")[::2] == (200, "ok\n")
    daemon.now = state(a="up", b="down", c="draining")
    assert curl(daemon, "/readyz")[::2] == (503, "b: no usable server\nc: no usable server\n")


def test_the_page_is_html_and_escaped(daemon: Daemon) -> None:
    """A person gets a page in which a name is text and not markup."""
    status, head, body = curl(daemon, "/")
    assert status == 200
    assert "text/html" in head
    assert "&lt;m0&gt;" in body
    assert "<m0>" not in body


def test_a_data_plane_that_does_not_answer_is_not_waited_for(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    """What needs a snapshot is 503 after a while."""
    monkeypatch.setattr(admin, "SNAPSHOT_TIMEOUT", 0.3)
    daemon.now = state()
    assert [curl(daemon, path)[0] for path in ("/readyz", "/status", "/metrics", "/")] == [503] * 4


def test_a_bug_while_rendering_is_a_500_and_logged(daemon: Daemon, caplog: pytest.LogCaptureFixture) -> None:
    """The connection gets an answer without details, the log has them, and the server lives on."""
    proxy = daemon.now.proxies[0]
    daemon.now = replace(daemon.now, proxies=(replace(proxy, servers=(None,)),))  # type: ignore[arg-type]
    status, _, body = curl(daemon, "/status")
    assert status == 500
    assert "Error" not in body
    assert "AttributeError" in caplog.text
    assert curl(daemon, "/livez")[0] == 200


@pytest.mark.parametrize("path", ["/", "/metrics", "/livez", "/status", "/nothing"])
def test_head_has_the_head_of_get_and_no_body(daemon: Daemon, path: str) -> None:
    """HEAD says how long the answer would be, and the connection stays usable."""
    method = f"HEAD {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    last = b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    head, _, rest = raw(daemon, method + last).partition(b"\r\n\r\n")
    length = len(curl(daemon, path)[2].encode())
    assert f"content-length: {length}".encode() in head.lower()
    assert rest.startswith(b"HTTP/1.1 200 OK\r\n")


def test_a_bad_request_for_a_head_is_refused_without_a_body(daemon: Daemon, caplog: pytest.LogCaptureFixture) -> None:
    """Where the method is known by then; found by fuzzing: the refusal was a traceback, and nobody was answered."""
    bad = b" /livez HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r3\r\n\r\n"
    head, _, rest = raw(daemon, b"HEAD" + bad).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert not rest
    assert raw(daemon, b"GET" + bad).endswith(b"\r\n\r\nbad request\n")
    assert raw(daemon, b"HEAD /\x01" + bad).endswith(b"\r\n\r\nbad request\n")
    assert not caplog.records


def test_unknown_paths_are_404_and_say_what_there_is(daemon: Daemon) -> None:
    """A query is ignored, a path is not; the answer helps."""
    assert curl(daemon, "/livez?verbose=1")[0] == 200
    status, _, body = curl(daemon, "/livez/etcd")
    assert status == 404
    assert "/readyz" in body


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "FROB"])
def test_other_methods_are_405_with_allow(daemon: Daemon, method: str) -> None:
    """Nothing can be changed here, and the answer names what is allowed."""
    status, head, _ = curl(daemon, "/livez", "-X", method)
    assert status == 405
    assert "\nallow: get, head\n" in head.lower().replace("\r", "")


def test_one_connection_serves_many_requests(daemon: Daemon) -> None:
    """Connections are kept alive, with a body on the request too."""
    with connect(daemon.port) as sock:
        for _ in range(3):
            sock.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello")
            answer = b""
            while not answer.endswith(b"\r\n\r\nok\n"):
                answer += sock.recv(4096)
            assert answer.startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize(
    "last", [b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", b"GET /livez HTTP/1.0\r\n\r\n"]
)
def test_a_client_that_wants_no_more_is_closed(daemon: Daemon, last: bytes) -> None:
    """After `Connection: close` and HTTP/1.0 the answer ends with the connection."""
    assert raw(daemon, last).endswith(b"\r\n\r\nok\n")


def test_a_client_that_has_closed_its_side_gets_its_answer(daemon: Daemon) -> None:
    """Sending EOF after the request is how `nc -N` asks."""
    with connect(daemon.port) as sock:
        sock.sendall(GET)
        sock.shutdown(socket.SHUT_WR)
        assert everything(sock).endswith(b"\r\n\r\nok\n")


def test_pipelined_requests_are_answered_in_order(daemon: Daemon) -> None:
    """Many requests in one packet get as many answers, each to its own."""
    paths = [b"/livez", b"/nothing", b"/readyz", b"/status"] * 50
    ask = b"".join(b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % path for path in paths)
    answer = raw(daemon, ask + b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert [int(part[:3]) for part in answer.split(b"HTTP/1.1 ")[1:]] == [200, 404, 200, 200] * 50 + [200]


def test_a_body_has_a_limit(daemon: Daemon) -> None:
    """A body up to the limit is ignored, one above it is refused, chunked or not; none is asked for with a 100."""
    assert curl(daemon, "/livez", "-d", "x" * http.BODY_LIMIT)[0] == 405
    assert curl(daemon, "/livez", "-d", "x" * (http.BODY_LIMIT + 1))[0] == 413
    assert curl(daemon, "/livez", "-H", "Transfer-Encoding: chunked", "-d", "x" * (http.BODY_LIMIT + 1))[0] == 413
    waiting = b"POST /livez HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 9999999\r\n\r\n"
    assert raw(daemon, waiting).startswith(b"HTTP/1.1 405 ")
    quiet(daemon)


def test_a_huge_head_is_431(daemon: Daemon) -> None:
    """A head is refused once it is over the limit, and the refusal arrives although the client goes on sending."""
    assert curl(daemon, "/livez", "-H", f"X: {'x' * 7000}")[0] == 200
    for size in (12_000, 90_000):
        assert curl(daemon, "/livez", "-H", f"X: {'x' * size}")[0] == 431
    assert raw(daemon, b"GET /" + b"a" * 200_000).startswith(b"HTTP/1.1 431 ")
    quiet(daemon)


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
        b"hello\r\n\r\n",
        b"\x00" * 5000,
        b"GET /\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
def test_garbage_is_refused_and_closed(daemon: Daemon, garbage: bytes) -> None:
    """What is not HTTP gets a 4xx and the end of the connection."""
    assert raw(daemon, garbage).startswith(b"HTTP/1.1 4")
    quiet(daemon)


def test_connect_is_not_a_tunnel(daemon: Daemon) -> None:
    """Nothing is ever dialled for a client."""
    ask = b"CONNECT 127.0.0.1:1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    assert raw(daemon, ask).startswith(b"HTTP/1.1 404 ")


def test_a_slow_head_is_408(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole request has a time limit, which each further byte does not renew."""
    monkeypatch.setattr(http, "REQUEST_TIMEOUT", 0.3)
    with connect(daemon.port) as sock:
        sock.settimeout(0.02)
        answer = b""
        for n in range(1000):
            try:
                sock.sendall(GET[n : n + 1] if n < 20 else b"x")
                answer = sock.recv(4096)
            except TimeoutError:
                continue
            break
        assert answer.startswith(b"HTTP/1.1 408 ")
    monkeypatch.undo()
    quiet(daemon)


def test_silence_is_closed(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that only connects is closed soon; one that has been answered is closed when it stays idle for long."""
    monkeypatch.setattr(http, "REQUEST_TIMEOUT", 0.3)
    with connect(daemon.port) as sock, connect(daemon.port) as answered:
        answered.sendall(GET)
        assert answered.recv(4096).startswith(b"HTTP/1.1 200 ")
        assert everything(sock) == b""
        assert len(daemon.server._clients) == 1
    monkeypatch.setattr(http, "IDLE_TIMEOUT", 0.1)
    assert raw(daemon, GET).endswith(b"ok\n")
    monkeypatch.undo()
    quiet(daemon)


def test_a_peer_that_does_not_read_is_cut(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that nobody takes is dropped with the connection, and costs no memory after that."""
    monkeypatch.setattr(http, "REQUEST_TIMEOUT", 1.0)
    daemon.now = state(servers=500, a="up")
    with connect(daemon.port) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 100)
        until(lambda: daemon.server._clients, "connected")
        quiet(daemon)


def test_a_peer_that_leaves_in_the_middle_does_no_harm(daemon: Daemon) -> None:
    """A reset before, within and after a request is nothing to anybody else."""
    daemon.now = state(servers=500, a="up")
    for request in (
        b"",
        GET[:15],
        GET[:-2],
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\nabc",
        GET * 100,
        b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 20,
    ):
        with connect(daemon.port) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.sendall(request)
    quiet(daemon)


def test_connections_that_are_kept_lock_nobody_out(daemon: Daemon) -> None:
    """Scrapers keep theirs for half a minute; the kubelet's probe comes anew, and must not find the port refusing."""
    with ExitStack() as stack:
        kept = [stack.enter_context(connect(daemon.port)) for _ in range(admin.MAX_CONNECTIONS)]
        for sock in kept:
            sock.sendall(GET)
            assert sock.recv(4096).startswith(b"HTTP/1.1 200 ")
        assert curl(daemon, "/livez")[::2] == (200, "ok\n")
        until(lambda: _closed(kept[0]), "who has rested for longest has made room")
        assert not any(map(_closed, kept[1:]))
    quiet(daemon)


def test_the_number_of_connections_is_limited(daemon: Daemon) -> None:
    """Of 200 connections 64 are kept and the others closed at once; when they have gone, new ones are served."""
    with ExitStack() as stack:
        socks = [stack.enter_context(connect(daemon.port)) for _ in range(200)]
        until(lambda: sum(map(_closed, socks)) == 200 - admin.MAX_CONNECTIONS, "the surplus closed")
        assert len(daemon.server._clients) == admin.MAX_CONNECTIONS
        kept = next(sock for sock in socks if not _closed(sock))
        kept.sendall(GET)
        assert kept.recv(4096).startswith(b"HTTP/1.1 200 ")
    quiet(daemon)


def _closed(sock: socket.socket) -> bool:
    """Tell whether the peer has closed `sock`, which has nothing to read otherwise."""
    if not select.select([sock], [], [], 0)[0]:
        return False
    try:
        return sock.recv(1, socket.MSG_PEEK) == b""
    except ConnectionResetError:
        return True


def test_stopping_closes_the_port_and_every_connection(daemon: Daemon) -> None:
    """Idle and half-asked connections do not hold up the end, and stopping twice is harmless."""
    with connect(daemon.port) as idle, connect(daemon.port) as asking:
        asking.sendall(GET[:10])
        until(lambda: len(daemon.server._clients) == 2, "both connected")
        daemon.run(daemon.server.stop())
        assert everything(idle) == b""
        assert _closed(asking)
    with pytest.raises(ConnectionRefusedError):
        connect(daemon.port)


def test_a_port_in_use_is_one_warning_and_served_once_it_is_free(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not being able to bind fails nothing: it is said once and tried again until it works."""
    monkeypatch.setattr(admin, "RETRY_SECONDS", 0.02)
    caplog.set_level(logging.INFO)
    daemon = Daemon()
    with socket.create_server(("127.0.0.1", daemon.port)) as occupant, running(daemon):
        with connect(daemon.port):
            occupant.accept()[0].close()
        occupant.close()
        until(lambda: "listening on" in caplog.text, "bound")
        assert curl(daemon, "/livez")[0] == 200
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert f"cannot listen on 127.0.0.1:{daemon.port}: address already in use" in warnings[0].lower()


def test_stopping_ends_the_attempts_to_bind(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that never got its port goes away like any other."""
    daemon = Daemon()
    with socket.create_server(("127.0.0.1", daemon.port)), running(daemon):
        daemon.run(daemon.server.stop())
        assert not daemon.tasks._running
