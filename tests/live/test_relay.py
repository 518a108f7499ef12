"""Through a running daemon: what one end sends is what the other gets, and how it ends is how it ended."""

from __future__ import annotations

import hashlib
import random
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.support import daemon as daemons
from tests.support.clients import connect, flood, receive, receive_all, receive_line, turned_away
from tests.support.daemon import Daemon
from tests.support.ports import free_port
from tests.support.servers import Echo, Resetting, Sink, Source, pattern, reset
from tests.support.wait import FACTOR, until

MODES = pytest.mark.parametrize("first_byte", [0, 3], ids=["relayed at once", "first byte awaited"])


def one_proxy(servers: Any, **settings: Any) -> dict[str, Any]:
    """Return the usual configuration, its file not watched: that would cost half a second at each stop."""
    return {**daemons.one_proxy(servers, **settings), "watch": False}


class Backend:
    """A listening socket whose connections the test plays itself."""

    def __init__(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", free_port()), backlog=512)
        self.socket.settimeout(10 * FACTOR)
        self.address = f"127.0.0.1:{self.socket.getsockname()[1]}"

    def accept(self) -> socket.socket:
        """Return the next connection."""
        found, _ = self.socket.accept()
        found.settimeout(10 * FACTOR)
        return found


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """Close what a test opens."""
    with ExitStack() as stack:
        yield stack


Pair = tuple[socket.socket, socket.socket]


def played(stack: ExitStack, **settings: Any) -> tuple[Daemon, Callable[[], Pair]]:
    """Start a daemon in front of a server that the test plays; returns it and what makes a client and its server."""
    backend = Backend()
    stack.enter_context(backend.socket)
    daemon = stack.enter_context(Daemon({**one_proxy([backend], **settings), "log": {"access": True}}))

    def meet() -> Pair:
        client = stack.enter_context(connect(daemon.port))
        return client, stack.enter_context(backend.accept())

    return daemon, meet


def send_in_pieces(sock: socket.socket, size: int, seed: int) -> None:
    """Send `size` bytes of the pattern in pieces from one byte to a megabyte."""
    rng = random.Random(seed)
    sent = 0
    while sent < size:
        piece = min(size - sent, rng.choice((1, 100, 4096, 65536, rng.randrange(1, 1 << 20))))
        sock.sendall(pattern(sent, piece))
        sent += piece


def check(sock: socket.socket, size: int) -> None:
    """Read exactly the first `size` bytes of the pattern and compare the digests."""
    got, want = hashlib.sha256(), hashlib.sha256()
    at = 0
    while at < size:
        data = sock.recv(min(1 << 18, size - at))
        assert data, f"the end after {at} of {size} bytes"
        got.update(data)
        want.update(pattern(at, len(data)))
        at += len(data)
    assert got.digest() == want.digest()


def together(*jobs: Callable[[], None]) -> None:
    """Run the jobs side by side; the first failure is raised."""
    errors: list[BaseException] = []

    def run(job: Callable[[], None]) -> None:
        try:
            job()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def finish(sock: socket.socket) -> str:
    """Say how the stream ends, with nothing left in it."""
    try:
        assert sock.recv(1) == b"", "there were bytes left"
    except ConnectionResetError:
        return "rst"
    return "fin"


@MODES
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_both_ways_at_once_everything_arrives_as_it_was_sent(stack: ExitStack, first_byte: int, seed: int) -> None:
    """Pieces of any size, each way its own, in one connection; then both ends end well."""
    daemon, meet = played(stack, first_byte_timeout=first_byte)
    client, server = meet()
    rng = random.Random(seed)
    up, down = rng.randrange(1, 12 << 20), rng.randrange(1, 12 << 20)
    together(
        lambda: send_in_pieces(client, up, seed), lambda: check(server, up),
        lambda: send_in_pieces(server, down, seed + 100), lambda: check(client, down),
    )  # fmt: skip
    client.shutdown(socket.SHUT_WR)
    assert finish(server) == "fin"
    server.close()
    assert finish(client) == "fin"
    until(lambda: daemon.conns() == [], "the connection is over")
    [counted] = daemon.servers().values()
    assert (counted["bytes_in_total"], counted["bytes_out_total"], counted["connections"]) == (up, down, 0)


@MODES
def test_a_thousand_single_bytes_arrive_in_order(stack: ExitStack, first_byte: int) -> None:
    """Ping-pong of one byte, as an interactive session has it."""
    echo = stack.enter_context(Echo())
    daemon = stack.enter_context(Daemon(one_proxy([echo], first_byte_timeout=first_byte)))
    client = stack.enter_context(connect(daemon.port))
    for at in range(1000):
        client.send(bytes([at % 256]))
        assert client.recv(10) == bytes([at % 256])


@MODES
@pytest.mark.parametrize("first", ["client", "server"])
def test_a_half_close_leaves_the_other_way_open(stack: ExitStack, first: str, first_byte: int) -> None:
    """Megabytes still go the other way after it."""
    _, meet = played(stack, first_byte_timeout=first_byte)
    client, server = meet()
    one, other = (client, server) if first == "client" else (server, client)
    one.sendall(b"the last words")
    one.shutdown(socket.SHUT_WR)
    assert receive_all(other) == b"the last words"
    size = 5 << 20
    together(lambda: send_in_pieces(other, size, 7), lambda: check(one, size))
    other.close()
    assert finish(one) == "fin"


@MODES
def test_a_client_that_half_closes_gets_its_whole_answer(stack: ExitStack, first_byte: int) -> None:
    """The answer is only made after the client's end, and carries what it is made of."""
    sink = stack.enter_context(Sink())
    daemon = stack.enter_context(Daemon(one_proxy([sink], first_byte_timeout=first_byte)))
    for size in (1, 100_000, 3_000_000):
        client = stack.enter_context(connect(daemon.port))
        data = pattern(0, size)
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        assert receive_all(client) == f"{size} {hashlib.sha256(data).hexdigest()}\n".encode()


@MODES
@pytest.mark.parametrize("which", ["client", "server"])
@pytest.mark.parametrize("before", [1, 3_000_000])
def test_a_reset_arrives_as_a_reset(stack: ExitStack, which: str, before: int, first_byte: int) -> None:
    """Never as a clean end, in the middle of bulk and after one byte."""
    daemon, meet = played(stack, first_byte_timeout=first_byte)
    client, server = meet()
    one, other = (client, server) if which == "client" else (server, client)
    one.sendall(pattern(0, before)[:1])
    assert other.recv(1) == pattern(0, 1)
    if before > 1:
        together(lambda: one.sendall(pattern(1, before)), lambda: check_from(other, 1, before))
    reset(one)
    assert finish(other) == "rst"
    until(lambda: daemon.conns() == [], "the connection is over")
    assert [server["connections"] for server in daemon.servers().values()] == [0]


def check_from(sock: socket.socket, at: int, size: int) -> None:
    """Read `size` bytes of the pattern from `at`."""
    assert receive(sock, size) == pattern(at, size)


def test_a_reader_that_stands_still_holds_the_sender_back_and_loses_nothing(stack: ExitStack) -> None:
    """The daemon's memory does not grow with what waits; afterwards everything is there."""
    source = stack.enter_context(Source(64 << 20))
    daemon = stack.enter_context(Daemon(one_proxy([source])))
    client = stack.enter_context(connect(daemon.port))
    assert receive(client, 1000) == pattern(0, 1000)
    moved = -1

    def stands() -> bool:
        nonlocal moved
        before, moved = moved, daemon.conns()[0]["bytes_out"]
        return before == moved and moved > 0

    until(stands, "the stream stands still")
    rss = daemon.rss()
    other = stack.enter_context(connect(daemon.port))
    assert receive(other, 1000) == pattern(0, 1000)
    at = 1000
    digest, want = hashlib.sha256(), hashlib.sha256()
    while data := client.recv(1 << 18):
        digest.update(data)
        want.update(pattern(at, len(data)))
        at += len(data)
        if at == len(data) + 1000:
            client.shutdown(socket.SHUT_WR)
    assert at == 64 << 20
    assert digest.digest() == want.digest()
    assert daemon.rss() - rss < 8 << 20


@MODES
def test_urgent_data_does_not_disturb(stack: ExitStack, first_byte: int) -> None:
    """It has no place in the stream; what is around it arrives."""
    _, meet = played(stack, first_byte_timeout=first_byte)
    client, server = meet()
    for size in (1, 100, 200_000, 10, 300_000, 1):
        client.sendall(pattern(0, size))
        client.send(b"!", socket.MSG_OOB)
        assert receive(server, size) == pattern(0, size)  # before the next: a second one makes the first ordinary data
    client.sendall(b"the end")
    client.shutdown(socket.SHUT_WR)
    assert receive_all(server) == b"the end"


@MODES
def test_a_server_that_speaks_first_is_heard(first_byte: int) -> None:
    """Nothing is waited for from the client."""
    with Echo("m1") as echo, Daemon(one_proxy([echo], first_byte_timeout=first_byte)) as daemon:
        assert flood(daemon.port, 200).answers == {"m1": 200}


@MODES
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_the_server_learns_the_clients_address(stack: ExitStack, version: str, first_byte: int) -> None:
    """The PROXY header is the first that it gets, and says what the daemon's own conns say."""
    daemon, meet = played(stack, proxy_protocol=version, first_byte_timeout=first_byte)
    client, server = meet()
    client.sendall(b"GET\n")
    port = client.getsockname()[1]
    if version == "v1":
        assert receive_line(server) == f"PROXY TCP4 127.0.0.1 127.0.0.1 {port} {daemon.port}\r"
    else:
        header = receive(server, 28)
        assert header[:16] == b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"
        assert header[16:24] == bytes([127, 0, 0, 1]) * 2
        assert header[24:] == port.to_bytes(2, "big") + daemon.port.to_bytes(2, "big")
    assert receive_line(server) == "GET"
    assert [conn["client"] for conn in daemon.conns()] == [f"127.0.0.1:{port}"]


@MODES
def test_an_idle_connection_is_reset_and_a_busy_one_is_not(stack: ExitStack, first_byte: int) -> None:
    """Whichever way its bytes go."""
    daemon, meet = played(stack, idle_timeout="500ms", first_byte_timeout=first_byte)
    idle, idle_server = meet()
    idle.send(b"x")
    assert idle_server.recv(1) == b"x"
    busy, busy_server = meet()
    ended = threading.Event()

    def talk() -> None:
        while not ended.wait(0.05):
            busy_server.send(b"y")
            assert busy.recv(1) == b"y"

    def wait() -> None:
        try:
            assert (finish(idle), finish(idle_server)) == ("rst", "rst")
        finally:
            ended.set()

    together(talk, wait)
    assert len(daemon.conns()) == 1


def test_a_client_that_leaves_while_connecting_is_forgotten(stack: ExitStack) -> None:
    """Nobody goes on connecting for it. One that has only ended its side may still want to listen."""
    full = stack.enter_context(socket.create_server(("127.0.0.1", free_port()), backlog=0))
    stack.enter_context(connect(full.getsockname()[1]))
    address = f"127.0.0.1:{full.getsockname()[1]}"
    settings = {"connect_timeout": "30s", "connect_deadline": "60s"}
    daemon = stack.enter_context(Daemon(one_proxy([address], **settings)))
    client = connect(daemon.port)
    until(lambda: [s["connections"] for s in daemon.servers().values()] == [1], "it is being connected")
    reset(client)
    until(lambda: [s["connections"] for s in daemon.servers().values()] == [0], "it is forgotten")
    assert daemon.status()["proxies"]["p"]["connections"] == 0


def test_after_the_connect_deadline_the_client_is_reset(stack: ExitStack) -> None:
    """With every server silent it learns soon that it cannot be served."""
    full = stack.enter_context(socket.create_server(("127.0.0.1", free_port()), backlog=0))
    stack.enter_context(connect(full.getsockname()[1]))
    address = f"127.0.0.1:{full.getsockname()[1]}"
    daemon = stack.enter_context(Daemon(one_proxy([address], connect_timeout="300ms", connect_deadline="300ms")))
    assert turned_away(daemon.port)
    until(lambda: "no answer" in daemon.log)  # written by a thread, a moment later


def test_more_than_max_connections_are_rejected(stack: ExitStack) -> None:
    """With a reset, at once; a place that gets free is given again."""
    echo = stack.enter_context(Echo("m1"))
    daemon = stack.enter_context(Daemon(one_proxy([echo], max_connections=3)))
    inside = [stack.enter_context(connect(daemon.port)) for _ in range(3)]
    assert [receive_line(client) for client in inside] == ["m1"] * 3
    assert flood(daemon.port, 5).answers == {}
    inside[0].close()
    until(lambda: flood(daemon.port, 1).answers, "a place is free")


def test_max_conns_of_a_server_sends_the_others_elsewhere(stack: ExitStack) -> None:
    """And when every server is full the client is rejected."""
    with Echo("m1") as m1, Echo("m2") as m2:
        servers = [{"address": m1.address, "max_conns": 2}, {"address": m2.address, "max_conns": 3}]
        daemon = stack.enter_context(Daemon(one_proxy(servers)))
        inside = [stack.enter_context(connect(daemon.port)) for _ in range(5)]
        assert sorted(receive_line(client) for client in inside) == ["m1", "m1", "m2", "m2", "m2"]
        assert flood(daemon.port, 1).answers == {}
        inside[0].close()
        until(lambda: flood(daemon.port, 1).answers, "a place is free")


@MODES
def test_a_server_that_resets_what_it_accepts_gets_few_clients(stack: ExitStack, first_byte: int) -> None:
    """It has always the fewest connections, which must not make it the favourite."""
    with Resetting() as bad, Echo("good") as good:
        daemon = stack.enter_context(Daemon(one_proxy([bad, good], first_byte_timeout=first_byte)))
        tally = flood(daemon.port, 200, at_once=4)
        assert tally.answers["good"] >= (200 if first_byte else 190)
        assert bad.accepted <= 10


def test_with_64_descriptors_and_200_clients_it_lives_and_serves_again(stack: ExitStack) -> None:
    """Clients that cannot be afforded wait; nothing spins, the CLI is answered, and afterwards all is well."""
    with Echo("m1") as echo:
        daemon = stack.enter_context(Daemon(one_proxy([echo]), nofile=64))
        clients = [connect(daemon.port) for _ in range(200)]
        try:
            served = until(lambda: daemon.status()["proxies"]["p"]["connections"], "some are served")
            assert 5 <= served < 32
            used = daemon.cpu_seconds()
            assert receive_line(clients[0]) == "m1"
            threading.Event().wait(0.5)
            assert daemon.cpu_seconds() - used < 0.25
            for client in clients[:50]:
                client.close()
            assert receive_line(clients[55]) == "m1"
        finally:
            for client in clients:
                client.close()
        until(lambda: daemon.conns() == [], "all have left")
        assert flood(daemon.port, 100, at_once=8).answers == {"m1": 100}
        until(lambda: "out of file descriptors" in daemon.log)


def test_a_bulk_stream_does_not_starve_small_ones(stack: ExitStack) -> None:
    """While one client loads as fast as it can, hundreds of short connections are served."""
    with Source() as source, Echo("m1") as echo:
        proxies = {**one_proxy([source])["proxies"]}
        proxies["small"] = one_proxy([echo])["proxies"]["p"]
        daemon = stack.enter_context(Daemon({"proxies": proxies, "watch": False}))
        bulk = stack.enter_context(connect(daemon.port))
        small = int(str(daemon.config["proxies"]["small"]["listen"][0]).rpartition(":")[2])
        ended = threading.Event()

        def load() -> None:
            while not ended.is_set():
                assert bulk.recv(1 << 20)

        def serve() -> None:
            try:
                assert flood(small, 300).answers == {"m1": 300}
            finally:
                ended.set()

        together(load, serve)


def test_a_dead_server_lets_go_although_traffic_noticed_before_the_checks(stack: ExitStack) -> None:
    """Refused clients make it suspect at once; that must not keep the checks' finding from cutting what is open."""
    with Echo("m2") as other:
        backend = Backend()
        health = {"type": "tcp", "interval": "300ms", "timeout": "200ms"}
        servers = [backend.address, {"address": other.address, "backup": True}]
        daemon = stack.enter_context(Daemon(one_proxy(servers, health=health)))
        client = stack.enter_context(connect(daemon.port))
        server = backend.accept()
        while server.getpeername() and client.send(b"x") and server.recv(1) != b"x":
            server = backend.accept()  # that one was a check
        stack.callback(server.close)
        backend.socket.close()
        assert set(flood(daemon.port, 5).answers) == {"m2"}
        assert finish(client) == "rst"
        assert finish(server) == "rst"


def test_nothing_is_left_of_a_thousand_connections() -> None:
    """Neither descriptors nor counted connections."""
    with Echo("m1") as m1, Echo("m2") as m2, Daemon(one_proxy([m1, m2])) as daemon:
        assert not flood(daemon.port, 50).errors
        until(lambda: daemon.conns() == [], "all have left")
        before = daemon.fds()
        tally = flood(daemon.port, 1000)
        assert (sum(tally.answers.values()), tally.errors) == (1000, [])
        until(lambda: daemon.conns() == [], "all have left")
        assert daemon.fds() == before
        assert [server["connections"] for server in daemon.servers().values()] == [0, 0]


def test_an_upload_to_a_server_that_reads_nothing_for_long_is_whole_in_the_end(stack: ExitStack) -> None:
    """It acknowledges each probe of its closed window: slow, not gone. TCP_USER_TIMEOUT would have cut it."""
    size = 8 << 20
    daemon, pair = played(stack, tcp_user_timeout="500ms", first_byte_timeout=0)
    client, server = pair()
    sending = threading.Thread(target=client.sendall, args=(pattern(0, size),))
    sending.start()
    until(lambda: daemon.conns()[0]["idle_seconds"] > 3, "nothing has moved for six times as long", 30)
    assert receive(server, size) == pattern(0, size)
    sending.join()
