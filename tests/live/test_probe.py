"""What a probe makes of every kind of server: real ones on loopback, well and ill-behaved."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sized
from pathlib import Path
from typing import Any, Self

import pytest
import trustme
import uvloop

from lbproxy import __version__
from lbproxy.balance.checked import CheckResult
from lbproxy.balance.server import Endpoint
from lbproxy.balance.state import State
from lbproxy.checks.answer import NotAsked
from lbproxy.checks.probe import Probe
from lbproxy.config.model import HealthConfig
from lbproxy.errors import LbproxyError
from lbproxy.proxy.proxy_protocol import no_header
from tests.support import certs as certificates
from tests.support.certs import Certs
from tests.support.nginx import NginxServer
from tests.support.ports import free_port
from tests.support.servers import Echo, Hung, Resetting, Server
from tests.support.wait import FACTOR, until

READY = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
QUICK = 0.3 * FACTOR
"""A timeout that is meant to be run into."""


@pytest.fixture(autouse=True, scope="module")
def _libuv() -> None:
    """Have libuv make the one pipe that it keeps for as long as the process lives."""
    uvloop.new_event_loop().close()


class Api(Server):
    """An HTTP server that answers each request with what `behave` writes (by default: 200) and notes the requests."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(tls=tls)
        self.requests: list[bytes] = []
        self.answer = READY
        self.behave: Callable[[asyncio.StreamWriter], Awaitable[None]] = self._answer

    async def _answer(self, writer: asyncio.StreamWriter) -> None:
        writer.write(self.answer)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer until the client's EOF, or until `behave` has closed the connection."""
        while not writer.is_closing():
            self.requests.append(await reader.readuntil(b"\r\n\r\n"))
            await self.behave(writer)
            await writer.drain()


class Blocking:
    """A TLS server on a plain blocking socket, one connection after another: its alerts do reach the client.

    It answers the first read with READY, then reads to the client's end; a deaf one never says goodbye. `farewells`
    counts the streams that ended with a close_notify and without a question.
    """

    def __init__(self, tls: ssl.SSLContext, deaf: bool = False) -> None:
        self._tls = tls
        self._deaf = deaf
        self._held: list[socket.socket] = []
        self.farewells = 0

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(10 * FACTOR)
        self._listener.close()
        for sock in self._held:
            sock.close()
        assert not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            try:
                sock = self._listener.accept()[0]
            except OSError:
                return
            sock.settimeout(10 * FACTOR)
            with contextlib.suppress(OSError):
                sock = self._tls.wrap_socket(sock, server_side=True, suppress_ragged_eofs=False)
                if not self._deaf and sock.recv(4096):
                    sock.sendall(READY)
                    sock.recv(4096)
                elif not self._deaf:
                    self.farewells += 1
            if self._deaf:
                self._held.append(sock)
            else:
                sock.close()


def endpoint(port: int) -> tuple[int, tuple[Any, ...]]:
    """Return where a server of this machine is asked."""
    return socket.AF_INET, ("127.0.0.1", port)


def fds() -> set[str]:
    """Return the open descriptors and what each is, without the spare one that each loop of libuv holds."""
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # the one that lists the directory
            found.add(f"{entry.name} {entry.readlink()}")
    return {each for each in found if not each.endswith(" /dev/null")}


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run `main` as the daemon would, and see that it leaves no task, no descriptor and no complaint of the loop."""
    complaints = []

    async def watched() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: complaints.append(context))
        before = fds()
        await main()
        end = loop.time() + 5 * FACTOR
        while len(fds()) > len(before) and loop.time() < end:  # the servers' ends are counted as well
            await asyncio.sleep(0.01)
        assert len(fds()) <= len(before), fds() - before
        assert asyncio.all_tasks() == {asyncio.current_task()}

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(watched())
    assert complaints == []


def asked(health: HealthConfig, port: int, host: str = "", times: int = 1) -> CheckResult:
    """Ask the server on `port` a few times and return the last answer."""
    answers: list[CheckResult | NotAsked] = []

    async def main() -> None:
        with contextlib.closing(Probe(health, host or f"127.0.0.1:{port}")) as probe:
            answers.extend([await probe.ask(endpoint(port)) for _ in range(times)])

    run(main)
    answer = answers[-1]
    assert isinstance(answer, CheckResult)
    return answer


def answer(status: str, body: str = "") -> bytes:
    """Return an HTTP answer."""
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (READY, CheckResult(State.UP, "200: ready", "ok")),
        (answer("204 No Content"), CheckResult(State.UP, "204: ready", "ok")),
        (b"HTTP/1.0 200 OK\r\n\r\nok", CheckResult(State.UP, "200: ready", "ok")),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + READY, CheckResult(State.UP, "200: ready", "ok")),
        (answer("500 Oops", "[-]etcd failed\n"), CheckResult(State.SICK, "500: [-]etcd failed", "http_500")),
        (answer("403 Forbidden"), CheckResult(State.UP, "403: alive, forbids the question", "http_403", sure=False)),
    ],
)
@pytest.mark.parametrize("kind", ["http", "https"])
def test_an_answer_is_read_whole_and_judged(kind: str, reply: bytes, expected: CheckResult, certs: Certs) -> None:
    """With a body or without, with an end of its own or the connection's."""
    with Api(certs.server_context() if kind == "https" else None) as server:
        server.answer = reply

        async def behave(writer: asyncio.StreamWriter) -> None:
            writer.write(reply)
            if reply.startswith(b"HTTP/1.0"):
                writer.close()

        server.behave = behave
        assert asked(HealthConfig(type=kind), server.port, times=2) == expected  # type: ignore[arg-type]


def test_the_connection_is_kept_and_made_anew_when_asked_to() -> None:
    """One connection for many questions, and now and then a fresh one."""
    with Api() as server:

        async def main() -> None:
            with contextlib.closing(Probe(HealthConfig(type="http", path="/livez?x=1"), "m1.example:6443")) as probe:
                for fresh in (True, False, False, True, False):
                    assert (await probe.ask(endpoint(server.port), fresh)) == CheckResult(State.UP, "200: ready", "ok")

        run(main)
        assert server.accepted == 2
        assert set(server.requests) == {
            f"GET /livez?x=1 HTTP/1.1\r\nHost: m1.example:6443\r\nUser-Agent: lbproxy/{__version__}\r\n"
            "Accept: */*\r\nConnection: keep-alive\r\n\r\n".encode()
        }


def test_another_address_gets_a_connection_of_its_own() -> None:
    """The kept connection answers for its own address only."""
    with Api() as one, Api() as other:

        async def main() -> None:
            with contextlib.closing(Probe(HealthConfig(type="http"), "m1.example:6443")) as probe:
                for server in (one, other, other):
                    await probe.ask(endpoint(server.port))

        run(main)
        assert (len(one.requests), len(other.requests), other.accepted) == (1, 2, 1)


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("how", ["close", "reset", "close on request", "restart"])
def test_a_kept_connection_that_the_server_has_closed_is_no_failure(how: str, tls: bool, certs: Certs) -> None:
    """A server may close an idle connection at any time, and so does one that has been restarted."""
    with Api(certs.server_context() if tls else None) as server:

        async def closing(writer: asyncio.StreamWriter) -> None:
            if how == "close on request" and len(server.requests) == 2:
                writer.close()
                return
            writer.write(READY)
            if how == "close":
                writer.close()

        server.behave = closing

        async def main() -> None:
            with contextlib.closing(Probe(HealthConfig(type="https" if tls else "http"), "m1.example:6443")) as probe:
                for _ in range(2):
                    assert await probe.ask(endpoint(server.port)) == CheckResult(State.UP, "200: ready", "ok")
                    if how == "reset":
                        server.cut()
                    if how == "restart" and server.accepted == 1:
                        server.stop()
                        server.start()

        run(main)
        assert server.accepted == 2


def test_a_fresh_connection_closed_without_an_answer_is_a_failure() -> None:
    """Once is enough: a server that only ever closes is down, and is not asked over and over."""
    with Api() as server:

        async def closing(writer: asyncio.StreamWriter) -> None:
            if len(server.requests) == 1:
                writer.write(READY)
            else:
                writer.close()

        server.behave = closing
        expected = CheckResult(State.DOWN, "closed without an answer", "closed")
        assert asked(HealthConfig(type="http"), server.port, times=2) == expected
        assert len(server.requests) == 3


@pytest.mark.parametrize("beginning", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n"])
def test_a_trickle_is_no_answer(beginning: bytes) -> None:
    """A byte now and then does not extend the time, in the head or in the body."""
    with Api() as server:

        async def trickle(writer: asyncio.StreamWriter) -> None:
            writer.write(beginning)
            for byte in READY + bytes(400):
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0.02)

        server.behave = trickle
        got = asked(HealthConfig(type="http", timeout=QUICK), server.port)
        assert got == CheckResult(State.SICK, f"no answer within {QUICK:g}s (HTTP)", "timeout")


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("status", [200, 500])
def test_of_a_huge_body_only_the_beginning_is_read(status: int, tls: bool, certs: Certs) -> None:
    """The status counts, the connection is given up, and memory stays as it is."""
    size = 100 << 20
    sent = 0
    with Api(certs.server_context() if tls else None) as server:

        async def flood(writer: asyncio.StreamWriter) -> None:
            nonlocal sent
            writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: {size}\r\n\r\n[-]etcd failed\n".encode())
            for _ in range(size >> 16):
                writer.write(bytes(1 << 16))
                await writer.drain()
                await asyncio.sleep(0)  # else asyncio's TLS never hears that the client has gone
                sent += 1 << 16

        server.behave = flood
        got = asked(HealthConfig(type="https" if tls else "http", timeout=10 * FACTOR), server.port, times=2)
        assert got.state is (State.UP if status == 200 else State.SICK)
        assert server.accepted == 2
    assert sent < size // 2


def test_an_endless_preamble_is_no_answer() -> None:
    """Interim answers without end are cut off like everything else."""
    with Api() as server:
        server.answer = b"HTTP/1.1 102 Processing\r\n\r\n" * 10_000
        got = asked(HealthConfig(type="http"), server.port)
        assert got == CheckResult(State.DOWN, "no end of what is not an answer", "closed")


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "no HTTP answer: illegal status line: bytearray(b'SSH-2.0-OpenSSH_9.2')"),
        (b"\x15\x03\x01\0\2\2\x28\r\n\r\n", "no HTTP answer: illegal "),
        (b"x" * 100_000, "no HTTP answer: "),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -3\r\n\r\n", "no HTTP answer: bad Content-Length"),
    ],
)
def test_garbage_is_no_answer(reply: bytes, reason: str) -> None:
    """Another protocol on the port is no API server; what it says is shown in one short line of ASCII."""
    with Api() as server:
        server.answer = reply
        got = asked(HealthConfig(type="http"), server.port)
        assert (got.state, got.kind) == (State.DOWN, "protocol")
        assert got.reason.startswith(reason)
        assert len(got.reason) < 160
        assert got.reason.isprintable()


@pytest.mark.parametrize("kind", ["tcp", "tls", "http", "https"])
def test_a_closed_port_is_refused(kind: str) -> None:
    """Nobody listens."""
    expected = CheckResult(State.DOWN, "connection refused", "refused")
    assert asked(HealthConfig(type=kind), free_port()) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["tcp", "tls", "http", "https"])
def test_a_server_that_does_not_take_the_connection_times_out(kind: str) -> None:
    """A full accept queue drops the SYN, as a firewall does."""
    with socket.socket() as listener, contextlib.ExitStack() as fill:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        for _ in range(3):
            sock = fill.enter_context(socket.socket())
            sock.setblocking(False)
            sock.connect_ex(("127.0.0.1", port))
        got = asked(HealthConfig(type=kind, timeout=QUICK), port)  # type: ignore[arg-type]
    assert got == CheckResult(State.DOWN, f"no answer within {QUICK:g}s (connect)", "timeout")


@pytest.mark.parametrize(
    ("kind", "state", "stage"),
    [("tls", State.DOWN, "TLS handshake"), ("https", State.DOWN, "TLS handshake"), ("http", State.SICK, "HTTP")],
)
def test_a_server_that_never_answers_times_out(kind: str, state: State, stage: str) -> None:
    """The kernel of a stopped process accepts, and that is all; without TLS nothing tells it from one that is slow."""
    with Hung() as server:
        got = asked(HealthConfig(type=kind, timeout=QUICK), server.port)  # type: ignore[arg-type]
    assert got == CheckResult(state, f"no answer within {QUICK:g}s ({stage})", "timeout")


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("kept", [False, True])
def test_an_answer_that_is_late_makes_a_server_sick_and_not_down(tls: bool, kept: bool, certs: Certs) -> None:
    """/readyz waits for etcd while all else works: what is open there is worth keeping, on every node at once."""
    late = threading.Event()
    with Api(tls=certs.server_context() if tls else None) as server:

        async def behave(writer: asyncio.StreamWriter) -> None:
            while late.is_set() and not writer.is_closing():
                await asyncio.sleep(0.02)
            writer.write(READY)

        async def main() -> None:
            server.behave = behave
            health = HealthConfig(type="https" if tls else "http", timeout=QUICK)
            with contextlib.closing(Probe(health, server.address)) as probe:
                if kept:
                    assert await probe.ask(endpoint(server.port)) == CheckResult(State.UP, "200: ready", "ok")
                late.set()
                expected = CheckResult(State.SICK, f"no answer within {QUICK:g}s (HTTP)", "timeout")
                assert await probe.ask(endpoint(server.port)) == expected
                late.clear()
                assert await probe.ask(endpoint(server.port)) == CheckResult(State.UP, "200: ready", "ok")

        run(main)


def test_an_answer_in_the_second_half_of_the_time_still_counts() -> None:
    """The connection that is made beside it is no new question."""
    with Api() as server:

        async def main() -> None:
            with contextlib.closing(Probe(HealthConfig(type="http", timeout=QUICK * 10), server.address)) as probe:
                for seconds in (0.0, QUICK * 6):

                    async def behave(writer: asyncio.StreamWriter, seconds: float = seconds) -> None:
                        await asyncio.sleep(seconds)
                        writer.write(READY)

                    server.behave = behave
                    assert await probe.ask(endpoint(server.port)) == CheckResult(State.UP, "200: ready", "ok")

        run(main)
        assert len(server.requests) == 2


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("tls", [False, True])
def test_a_server_that_wants_a_proxy_header_gets_one_of_a_check_too(version: str, tls: bool, certs: Certs) -> None:
    """It closes every connection without one; there is no client to tell of, so it says so."""
    preface = no_header(version)  # type: ignore[arg-type]
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            conn = listener.accept()[0]
            with conn:
                heads.append(conn.recv(len(preface)))
                wrapped = certs.server_context().wrap_socket(conn, server_side=True) if tls else conn
                with wrapped:
                    wrapped.recv(4096)
                    wrapped.sendall(READY)
                    wrapped.recv(1)

        heads: list[bytes] = []
        thread = threading.Thread(target=serve)
        thread.start()

        async def main() -> None:
            health = HealthConfig(type="https" if tls else "http", timeout=10 * FACTOR)
            port = listener.getsockname()[1]
            with contextlib.closing(Probe(health, f"127.0.0.1:{port}", preface)) as probe:
                assert await probe.ask(endpoint(port)) == CheckResult(State.UP, "200: ready", "ok")

        try:
            run(main)
        finally:
            thread.join()
    assert heads == [preface]


def test_certificates_that_change_on_disk_are_read_again(
    certs: Certs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rotation must not find every master down; a file that cannot be used yet leaves what was read before."""
    monkeypatch.setattr("lbproxy.checks.secure._EVERY", 0.0)
    monkeypatch.setattr("lbproxy.checks.secure._MOMENT", 10 * FACTOR)
    other = certificates.make(tmp_path)
    ca = tmp_path / "bundle.pem"
    ca.write_bytes(certs.ca.read_bytes())
    old, new = NginxServer("old", certs), NginxServer("new", other)
    with old, new:

        async def main() -> None:
            health = HealthConfig(verify=True, ca_file=str(ca), server_name="localhost", timeout=10 * FACTOR)
            with contextlib.closing(Probe(health, "localhost:1")) as probe:
                up = CheckResult(State.UP, "200: ready", "ok")
                assert await probe.ask(endpoint(old.port)) == up
                assert (await probe.ask(endpoint(new.port), fresh=True)) != up
                ca.write_text("half a certi")
                assert await probe.ask(endpoint(old.port), fresh=True) == up
                ca.write_bytes(certs.ca.read_bytes() + other.ca.read_bytes())
                assert await probe.ask(endpoint(new.port)) == up
                assert await probe.ask(endpoint(old.port)) == up

        run(main)


def test_a_late_answer_that_decides_nothing_costs_the_server_no_new_connection(certs: Certs) -> None:
    """It is waited for, and the server asked again when it has come: a handshake is what makes late servers later."""
    late = threading.Event()
    with Api(tls=certs.server_context()) as server:

        async def behave(writer: asyncio.StreamWriter) -> None:
            while late.is_set() and not writer.is_closing():
                await asyncio.sleep(0.02)
            writer.write(READY)

        async def main() -> None:
            server.behave = behave
            with contextlib.closing(Probe(HealthConfig(timeout=QUICK), server.address)) as probe:
                up = CheckResult(State.UP, "200: ready", "ok")
                assert await probe.ask(endpoint(server.port)) == up
                late.set()
                for _ in range(3):
                    got = await probe.ask(endpoint(server.port), decides=False)
                    assert got == CheckResult(State.DOWN, f"no answer within {QUICK:g}s (HTTP)", "timeout")
                late.clear()
                assert await probe.ask(endpoint(server.port), decides=False) == up

        run(main)
        assert server.accepted == 1
        assert len(server.requests) == 3, "the late answer was heard, and is not the answer to the question after it"


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
    writer.close()


@contextlib.asynccontextmanager
async def door(port: int, lets_in: Callable[[int], Awaitable[bool]]) -> AsyncIterator[tuple[Endpoint, Sized]]:
    """Stand before a server, to which those come that `lets_in` says of, by their number; yields all that have come."""
    came: list[asyncio.StreamWriter] = []

    async def open_to(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.append(writer)
        if await lets_in(len(came)):
            near, far = await asyncio.open_connection("127.0.0.1", port)
            await asyncio.gather(_pump(reader, far), _pump(near, writer))

    front = await asyncio.start_server(open_to, "127.0.0.1", 0)
    try:
        yield endpoint(front.sockets[0].getsockname()[1]), came
    finally:
        for writer in came:
            writer.close()
        front.close()
        await front.wait_closed()


def test_a_server_is_sick_at_worst_where_only_a_new_connection_is_late(certs: Certs) -> None:
    """A queue of handshakes: what is open there works, and is asked first."""

    async def the_first(number: int) -> bool:
        return number == 1

    with Api(tls=certs.server_context()) as server:

        async def main() -> None:
            async with door(server.port, the_first) as (where, came):
                with contextlib.closing(Probe(HealthConfig(timeout=QUICK), server.address)) as probe:
                    up = CheckResult(State.UP, "200: ready", "ok")
                    assert await probe.ask(where) == up
                    why = f"no answer within {QUICK:g}s (TLS handshake)"
                    assert await probe.ask(where, fresh=True) == CheckResult(State.SICK, why, "timeout")
                    assert await probe.ask(where) == up
                assert (len(came), server.accepted) == (2, 1)

        run(main)


def test_a_handshake_that_is_late_is_gone_on_with_and_not_begun_anew(certs: Certs) -> None:
    """Of a hundred that wait in a queue each would otherwise be followed by another one every two seconds."""
    opened = asyncio.Event()

    async def later(number: int) -> bool:
        return await opened.wait()

    with Api(tls=certs.server_context()) as server:

        async def main() -> None:
            async with door(server.port, later) as (where, came):
                with contextlib.closing(Probe(HealthConfig(timeout=QUICK), server.address)) as probe:
                    for _ in range(2):
                        why = f"no answer within {QUICK:g}s (TLS handshake)"
                        assert await probe.ask(where) == CheckResult(State.DOWN, why, "timeout")
                    opened.set()
                    assert await probe.ask(where) == CheckResult(State.UP, "200: ready", "ok")
                assert (len(came), server.accepted) == (1, 1)

        run(main)


def test_a_handshake_whose_server_has_gone_meanwhile_is_begun_anew(certs: Certs) -> None:
    """Who is there now is asked, in the same question."""
    port = free_port()

    async def hung(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.append(writer)

    async def well(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(READY)
        await reader.read()
        writer.close()

    held: list[asyncio.StreamWriter] = []

    async def main() -> None:
        with contextlib.closing(Probe(HealthConfig(timeout=QUICK), f"127.0.0.1:{port}")) as probe:
            before = await asyncio.start_server(hung, "127.0.0.1", port)
            assert (await probe.ask(endpoint(port))).kind == "timeout"  # type: ignore[union-attr]
            for writer in held:
                writer.close()
            before.close()
            await before.wait_closed()
            now = await asyncio.start_server(well, "127.0.0.1", port, ssl=certs.server_context())
            assert await probe.ask(endpoint(port)) == CheckResult(State.UP, "200: ready", "ok")
        now.close()
        await now.wait_closed()

    run(main)


def test_a_stopped_nginx_is_down_and_comes_back(certs: Certs) -> None:
    """Also over the kept connection, which its kernel still acknowledges."""
    with NginxServer("m1", certs) as server:

        async def main() -> None:
            health = HealthConfig(timeout=QUICK * 2)
            with contextlib.closing(Probe(health, server.address)) as probe:
                assert await probe.ask(endpoint(server.port)) == CheckResult(State.UP, "200: ready", "ok")
                server.freeze()
                for _ in range(2):
                    got = await probe.ask(endpoint(server.port))
                    why = f"no answer within {health.timeout:g}s (TLS handshake)"
                    assert got == CheckResult(State.DOWN, why, "timeout")
                server.thaw()
                assert await probe.ask(endpoint(server.port)) == CheckResult(State.UP, "200: ready", "ok")

        run(main)


@pytest.mark.parametrize("after_data", [False, True])
def test_a_reset_is_down(after_data: bool) -> None:
    """Accepted and reset, at once or on our first byte."""
    with Resetting(after_data) as server:
        for kind in ("http", "https"):
            got = asked(HealthConfig(type=kind), server.port)  # type: ignore[arg-type]
            assert (got.state, got.reason) == (State.DOWN, "connection reset by peer")


def test_tls_trouble_is_named(certs: Certs) -> None:
    """An alert, a port without TLS and a close within the handshake each have a reason of their own."""
    alerting = certs.server_context()
    alerting.sni_callback = lambda *_: ssl.ALERT_DESCRIPTION_INTERNAL_ERROR

    class Closing(Server):
        async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(1000)

    with Blocking(alerting) as alert, Echo("SSH-2.0-x") as plain, Closing() as closing:
        for server, reason in (
            (alert, "TLS: tlsv1 alert internal error"),
            (plain, "TLS: wrong version number"),
            (closing, "TLS: closed during the handshake"),
        ):
            for kind in ("tls", "https"):
                got = asked(HealthConfig(type=kind), server.port, f"localhost:{server.port}")  # type: ignore[arg-type]
                assert got == CheckResult(State.DOWN, reason, "tls")


def test_http_asked_of_a_tls_port_is_down(certs: Certs) -> None:
    """A wrong `type` shows."""
    with Api(certs.server_context()) as server:
        assert asked(HealthConfig(type="http"), server.port).state is State.DOWN


def test_a_certificate_is_verified_only_when_configured(certs: Certs, tmp_path: Path) -> None:
    """By default any certificate will do; with `verify`, CA and name must fit."""
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "other.pem"))
    right, wrong = str(certs.ca), str(tmp_path / "other.pem")
    with Api(certs.server_context()) as server:

        def reason(name: str = "127.0.0.1", **keys: Any) -> str:
            got = asked(HealthConfig(**keys), server.port, f"{name}:{server.port}")
            assert (got.state, got.kind) in ((State.UP, "ok"), (State.DOWN, "tls"))
            return got.reason

        assert reason() == "200: ready"
        assert reason(ca_file=wrong) == "200: ready"
        assert reason(verify=True, ca_file=right) == "200: ready"
        assert reason("localhost", verify=True, ca_file=right) == "200: ready"
        assert reason("m1.example", verify=True, ca_file=right, server_name="localhost") == "200: ready"
        assert reason(verify=True, ca_file=wrong) == "TLS: unable to get local issuer certificate"
        assert reason(verify=True) == "TLS: unable to get local issuer certificate"
        assert "hostname mismatch" in reason("m1.example", verify=True, ca_file=right)
        assert "not valid for '10.9.9.9'" in reason("10.9.9.9", verify=True, ca_file=right)


def test_a_client_certificate_is_shown(certs: Certs) -> None:
    """A server that insists on one is down to a probe without."""
    context = certs.server_context()
    context.load_verify_locations(certs.ca)
    context.verify_mode = ssl.CERT_REQUIRED
    with Blocking(context) as server:
        with_one = HealthConfig(cert_file=str(certs.client), key_file=str(certs.client))
        assert asked(with_one, server.port).state is State.UP
        assert asked(HealthConfig(), server.port) == CheckResult(
            State.DOWN, "TLS: tlsv13 alert certificate required", "tls"
        )


@pytest.mark.parametrize(
    ("host", "server_name", "sent"),
    [
        ("m1.example:6443", None, "m1.example"),
        ("127.0.0.1:6443", None, None),
        ("[::1]:6443", None, None),
        ("127.0.0.1:6443", "api.example", "api.example"),
    ],
)
def test_the_server_name_is_the_configured_one_or_the_host_s(
    host: str, server_name: str | None, sent: str | None, certs: Certs
) -> None:
    """An IP address is no name to send (RFC 6066)."""
    seen: list[str | None] = []
    context = certs.server_context()
    context.sni_callback = lambda _, name, __: seen.append(name)
    with Api(context) as server:
        assert asked(HealthConfig(type="tls", server_name=server_name), server.port, host).state is State.UP
    assert seen == [sent]


def test_files_that_cannot_be_used_are_named(certs: Certs, tmp_path: Path) -> None:
    """A probe that could never work is refused when it is made."""
    nothing, garbage = tmp_path / "nothing.pem", tmp_path / "garbage.pem"
    garbage.write_text("no certificate")
    locked = tmp_path / "locked.pem"
    locked.write_text("-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAA=\n-----END ENCRYPTED PRIVATE KEY-----\n")
    cases: list[tuple[dict[str, str], str]] = [
        ({"ca_file": str(nothing)}, f"health.ca_file {nothing}: no such file or directory"),
        ({"ca_file": str(garbage)}, f"health.ca_file {garbage}: no certificate or crl found"),
        ({"cert_file": str(certs.ca), "key_file": str(nothing)}, f"key_file {nothing}: no such file or directory"),
        ({"cert_file": str(certs.client), "key_file": str(certs.server)}, "key values mismatch"),
        ({"cert_file": str(certs.client), "key_file": str(locked)}, f"key_file {locked}: "),
        ({"server_name": ".example"}, "health.server_name .example: "),
    ]
    for keys, text in cases:
        with pytest.raises(LbproxyError) as error:
            Probe(HealthConfig(**keys), "m1.example:6443")  # type: ignore[arg-type]
        assert text in str(error.value)
        assert "\n" not in str(error.value)


def test_a_tcp_question_is_not_seen_by_the_server_s_program() -> None:
    """So an apiserver has no failed handshake to log; a late one may slip through on a busy machine."""
    with Echo() as server:
        assert asked(HealthConfig(type="tcp"), server.port, times=20) == CheckResult(State.UP, "port open", "ok")
        assert server.accepted <= 10


def test_a_tls_question_ends_with_a_close_notify(certs: Certs) -> None:
    """The server sees a whole handshake and a clean end of the stream."""
    with Blocking(certs.server_context()) as server:

        async def main() -> None:
            with contextlib.closing(Probe(HealthConfig(type="tls"), "m1.example:6443")) as probe:
                for number in (1, 2, 3):
                    got = await probe.ask(endpoint(server.port))
                    assert got == CheckResult(State.UP, "TLS handshake done", "ok")
                    until(lambda: server.farewells == number, "a clean end of the stream")  # noqa: B023  # now

        run(main)


def test_a_server_that_ignores_the_close_notify_holds_nothing_up(certs: Certs) -> None:
    """Our descriptor is closed with the next question at the latest."""
    with Blocking(certs.server_context(), deaf=True) as server:

        async def main() -> None:
            before = fds()
            with contextlib.closing(Probe(HealthConfig(type="tls"), "m1.example:6443")) as probe:
                for _ in range(3):
                    got = await probe.ask(endpoint(server.port))
                    assert got == CheckResult(State.UP, "TLS handshake done", "ok")
            assert len(fds()) <= len(before) + 3, "more than the server's own ends are open"

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main())


@pytest.mark.parametrize("kind", ["tcp", "tls", "http", "https"])
def test_a_cancelled_question_leaves_nothing(kind: str, certs: Certs) -> None:
    """At whatever stage it is: connecting, shaking hands, waiting, done."""
    with Hung() as hung, Api(None if kind == "http" else certs.server_context()) as live:

        async def main() -> None:
            health = HealthConfig(type=kind, timeout=10)  # type: ignore[arg-type]
            with contextlib.closing(Probe(health, "m1.example:6443")) as probe:
                for turns in range(120):
                    port = hung.port if turns % 3 == 0 else live.port
                    asking = asyncio.create_task(probe.ask(endpoint(port), fresh=turns % 2 == 0))
                    for _ in range(turns):
                        await asyncio.sleep(0)
                    asking.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await asking
            # Once this one is served, the server has accepted all those before it, and `run` sees its ends of them.
            with contextlib.closing(
                Probe(HealthConfig(type="http" if kind == "http" else "https"), "m1:6443")
            ) as probe:
                assert await probe.ask(endpoint(live.port)) == CheckResult(State.UP, "200: ready", "ok")

        run(main)


def test_want_of_descriptors_here_says_nothing_of_the_server() -> None:
    """Else a proxy that has run out of descriptors would declare every server dead and cut all it has."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    async def main() -> None:
        with contextlib.closing(Probe(HealthConfig(type="http"), f"127.0.0.1:{server.port}")) as probe:
            resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
            try:
                got = await probe.ask(endpoint(server.port))
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            assert got == NotAsked("too many open files")
            assert await probe.ask(endpoint(server.port)) == CheckResult(State.UP, "200: ready", "ok")

    with Api() as server:
        run(main)
