"""A client and a server with a link between them: every way in which it can go on and end."""

from __future__ import annotations

import errno
import random
import select
import socket
from itertools import product

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lbproxy.net.contract import BUFFER
from lbproxy.net.poller import IN
from lbproxy.relay import flow as flows
from lbproxy.relay import link as links
from lbproxy.relay.flow import Flow
from lbproxy.relay.link import (
    AT_REST,
    CLIENT_FIN,
    CLIENT_RST,
    END,
    ENDED,
    ERROR,
    FREEZE,
    RUNNING,
    SERVER_FIN,
    SERVER_RST,
    SERVER_TIMEOUT,
    START,
    Link,
)
from lbproxy.relay.mode import SPLICE
from tests.support.wait import FACTOR
from tests.unit.relay.hand import Bench, ended, reset, stuff, take

UP = random.Random(2).randbytes(2 * 1024 * 1024)
DOWN = random.Random(3).randbytes(2 * 1024 * 1024)


class Owner:
    """Hears of the end."""

    def __init__(self) -> None:
        self.reasons: list[str] = []

    def ended(self, reason: str) -> None:
        """Write the reason down."""
        self.reasons.append(reason)


class Relay:
    """`client` and `server` are the far ends. `narrow` names the one that takes little: `client`, `server` or both."""

    def __init__(self, bench: Bench, narrow: str = "") -> None:
        self.bench = bench
        self.loop = bench.loop
        self.poller = bench.poller
        self.owner = Owner()
        near = {}
        for side in ("client", "server"):
            small = 16 * 1024 if side in narrow else 0
            far, near[side] = bench.pair(receive_buffer=small, send_buffer=small)
            setattr(self, side, far)
        self.near_client, self.near_server = near["client"], near["server"]
        self.link = Link(bench.poller, self.owner, near["client"], near["server"])
        for sock in near.values():
            bench.poller.add(sock.fileno(), self.link)
        self.link.start(0, 0)
        self.loop.settle()

    client: socket.socket
    server: socket.socket

    @property
    def over(self) -> list[str]:
        """The reasons of the end; at most one."""
        assert len(self.owner.reasons) <= 1
        return self.owner.reasons

    def fill(self, source: socket.socket, data: bytes) -> int:
        """Send until everything on the way is full; returns how much that took."""
        sent = 0
        while part := stuff(source, data[sent:]):
            sent += part
            self.loop.settle()
        return sent

    def drain(self, sink: socket.socket, size: int) -> bytes:
        """Read `size` bytes."""
        got = bytearray()

        def more() -> bool:
            got.extend(take(sink))
            return len(got) >= size

        self.loop.until(more, f"{size} bytes")
        return bytes(got)

    def closed(self) -> bool:
        """Whether both of our sockets are."""
        return self.near_client.fileno() == -1 and self.near_server.fileno() == -1


@pytest.fixture
def relay(bench: Bench) -> Relay:
    """Make a link with roomy buffers."""
    return Relay(bench)


def test_the_states_are_these() -> None:
    """A link runs or rests, and ends once; it can only end while it runs."""
    answers = {
        (AT_REST, START): RUNNING,
        (RUNNING, FREEZE): AT_REST,
        (RUNNING, END): ENDED,
    }
    for state, event in product((AT_REST, RUNNING, ENDED), (START, FREEZE, END)):
        assert links.TABLE.rows.get(state | event) == answers.get((state, event))
    assert len(links.TABLE.rows) == len(answers)


@pytest.mark.parametrize("bulk", [False, True])
def test_what_was_frozen_goes_on_where_it_was(bench: Bench, bulk: bool) -> None:
    """Bytes in memory or in a pipe come to whoever goes on, and nothing moves or is cut meanwhile."""
    relay = Relay(bench, "server")
    link = relay.link
    if bulk:
        link.up.mode = SPLICE
    sent = relay.fill(relay.client, UP[:1_000_000])
    rests = link.freeze()
    assert (link.state, bool(rests[0]), rests[1]) == (AT_REST, True, b"")
    moved = link.up.moved
    relay.server.send(b"answer")
    link.abort("not now")
    relay.loop.settle()
    assert (link.up.moved, link.down.moved, relay.over) == (moved, 0, [])
    link.thaw(rests)
    assert link.state == RUNNING
    assert relay.drain(relay.server, sent) == UP[:sent]
    assert take(relay.client) == b"answer"


def test_bytes_go_both_ways_at_once(relay: Relay) -> None:
    """Neither direction waits for the other."""
    got_up, got_down = bytearray(), bytearray()
    sent_up = sent_down = 0
    while len(got_up) < len(UP) or len(got_down) < len(DOWN):
        sent_up += stuff(relay.client, UP[sent_up : sent_up + 300_000])
        sent_down += stuff(relay.server, DOWN[sent_down : sent_down + 70_000])
        relay.loop.step()
        got_up += take(relay.server)
        got_down += take(relay.client)
    assert (bytes(got_up), bytes(got_down)) == (UP, DOWN)
    assert (relay.link.up.moved, relay.link.down.moved) == (len(UP), len(DOWN))
    assert relay.over == []


@pytest.mark.parametrize("first", ["client", "server"])
def test_a_half_close_is_passed_on_and_the_other_way_lives_on(relay: Relay, first: str) -> None:
    """FIN comes after the last byte before it; the connection ends well when the other side has sent its own."""
    one, other = (relay.client, relay.server) if first == "client" else (relay.server, relay.client)
    one.send(b"the request")
    one.shutdown(socket.SHUT_WR)
    relay.loop.settle()
    assert (take(other), ended(other), relay.over) == (b"the request", "fin", [])
    sent = relay.fill(other, DOWN)
    assert relay.drain(one, sent) == DOWN[:sent]
    other.close()
    relay.loop.settle()
    assert relay.over == [CLIENT_FIN if first == "client" else SERVER_FIN]
    assert ended(one) == "fin"
    assert relay.closed()


def test_an_answer_is_whole_although_the_client_reads_it_late(bench: Bench) -> None:
    """The client has sent FIN, the server has answered and closed: what waits here is still delivered, and then FIN."""
    relay = Relay(bench, "client")
    relay.client.shutdown(socket.SHUT_WR)
    relay.loop.settle()
    sent = relay.fill(relay.server, DOWN)
    relay.server.close()
    relay.loop.settle()
    assert relay.over == []
    assert relay.drain(relay.client, sent) == DOWN[:sent]
    relay.loop.until(lambda: relay.over)
    assert relay.over == [CLIENT_FIN]
    assert ended(relay.client) == "fin"


@pytest.mark.parametrize("which", ["client", "server"])
@pytest.mark.parametrize("before", [0, 100, 300_000])
def test_a_reset_is_passed_on_as_a_reset(relay: Relay, which: str, before: int) -> None:
    """Never as a clean end, which would hide that something is missing."""
    one, other = (relay.client, relay.server) if which == "client" else (relay.server, relay.client)
    stuff(one, UP[:before])
    reset(one)
    relay.loop.settle()
    assert UP.startswith(take_until_error(other))
    assert relay.over == [CLIENT_RST if which == "client" else SERVER_RST]
    assert relay.closed()


def take_until_error(sock: socket.socket) -> bytes:
    """Return the bytes before a reset; assert that there is one."""
    got = b""
    with pytest.raises((ConnectionResetError, BrokenPipeError)):  # noqa: PT012 (the bytes before it count)
        while True:
            data = sock.recv(1 << 16)
            assert data, "a clean end"
            got += data
    return got


def test_a_reset_is_passed_on_while_bytes_the_other_way_wait(bench: Bench) -> None:
    """The server has reset; what it said before may be read, but then there is an error and no end."""
    relay = Relay(bench, "client")
    sent = relay.fill(relay.server, DOWN)
    assert relay.link.down.blocked()
    reset(relay.server)
    relay.loop.settle()
    got = bytearray()
    with pytest.raises((ConnectionResetError, BrokenPipeError)):  # noqa: PT012
        while True:
            relay.loop.settle()
            try:
                data = relay.client.recv(1 << 16)
            except BlockingIOError:
                relay.loop.step(0.005)
                continue
            assert data, "a clean end"
            got += data
    assert DOWN[:sent].startswith(bytes(got))
    assert relay.over == [SERVER_RST]


def test_a_client_that_has_gone_is_noticed_although_the_server_does_not_read(bench: Bench) -> None:
    """Nobody is there for the answer, so nothing is kept for a server that stands still."""
    relay = Relay(bench, "server")
    relay.fill(relay.client, UP)
    assert relay.link.up.blocked()
    reset(relay.client)
    relay.loop.settle()
    assert relay.over == [CLIENT_RST]
    assert relay.closed()


def test_an_early_answer_arrives_although_the_server_reads_no_more(relay: Relay) -> None:
    """EPIPE on the way up leaves what the server said before it went; the end is a reset, since bytes were lost."""
    relay.server.send(b"413 too large")
    relay.client.send(b"some")
    relay.loop.settle()
    relay.server.send(b", really")
    relay.server.close()  # with a byte unread: the kernel sends a reset
    relay.client.send(b"more")
    relay.loop.settle()
    relay.client.setblocking(True)
    assert take_until_error(relay.client) == b"413 too large, really"
    assert relay.over == [SERVER_RST]


def test_an_early_answer_is_flushed_although_the_client_reads_late(bench: Bench) -> None:
    """The server has sent everything and FIN, and reads no more: the client may still have all that waits here."""
    relay = Relay(bench, "client")
    sent = relay.fill(relay.server, DOWN)
    relay.server.shutdown(socket.SHUT_WR)
    relay.loop.settle()
    assert relay.link.down.blocked()
    relay.client.send(b"x")
    relay.loop.settle()
    relay.server.close()  # with a byte unread
    relay.client.send(b"y")
    relay.loop.settle()
    relay.client.send(b"z")
    relay.loop.settle()
    assert relay.over == []
    before = relay.link.down.moved
    got = bytearray()

    def most() -> bool:
        try:
            got.extend(take(relay.client))
        except ConnectionResetError:
            return True
        return bool(relay.over)

    relay.loop.until(most)
    assert DOWN[:sent].startswith(bytes(got))
    assert len(got) > before
    relay.loop.settle()
    assert relay.over == [SERVER_RST]


@pytest.mark.parametrize("which", ["client", "server"])
def test_an_end_that_goes_after_its_fin_does_not_leave_an_idle_link(relay: Relay, which: str) -> None:
    """Nothing is read or written on such a link, so only the reset itself can tell."""
    one, other = (relay.client, relay.server) if which == "client" else (relay.server, relay.client)
    one.shutdown(socket.SHUT_WR)
    relay.loop.settle()
    assert relay.over == []
    reset(one)
    relay.loop.settle()
    assert relay.over == [CLIENT_RST if which == "client" else SERVER_RST]
    other.setblocking(True)
    take_until_fin_or_error(other)


def take_until_fin_or_error(sock: socket.socket) -> None:
    """Assert that the stream has ended one way or the other."""
    try:
        assert sock.recv(1) == b""
    except ConnectionResetError:
        pass


@pytest.mark.parametrize("which", ["client", "server"])
def test_a_fin_and_a_reset_in_one_batch_do_not_leave_an_idle_link(relay: Relay, which: str) -> None:
    """The two come as one edge; the reset must not be forgotten for the FIN."""
    one = relay.client if which == "client" else relay.server
    one.shutdown(socket.SHUT_WR)
    reset(one)
    relay.loop.settle()
    assert relay.over == [CLIENT_RST if which == "client" else SERVER_RST]
    assert relay.closed()


def test_a_hang_up_after_both_ends_is_none(bench: Bench) -> None:
    """The server has ended first, then the client, whose last bytes the server takes late: they all arrive."""
    relay = Relay(bench, "server")
    relay.server.shutdown(socket.SHUT_WR)
    relay.loop.settle()
    assert ended(relay.client) == "fin"
    sent = relay.fill(relay.client, UP)
    relay.client.close()
    relay.loop.settle()
    assert relay.over == []
    assert relay.drain(relay.server, sent) == UP[:sent]
    relay.loop.until(lambda: relay.over)
    assert (relay.over, ended(relay.server)) == ([SERVER_FIN], "fin")


@pytest.mark.parametrize("bulk", [False, True])
def test_urgent_data_is_no_error(relay: Relay, bulk: bool) -> None:
    """It is skipped, also at the end of a stream, and what follows it arrives."""
    if bulk:
        sent = relay.fill(relay.client, UP[: 4 * BUFFER])
        assert len(relay.drain(relay.server, sent)) == sent
        relay.link.up.mode = SPLICE
    relay.client.send(b"a")
    relay.client.send(b"!", socket.MSG_OOB)
    relay.loop.settle()
    relay.client.send(b"b")
    relay.loop.settle()
    relay.client.send(b"?", socket.MSG_OOB)
    relay.client.send(b"c")
    relay.client.shutdown(socket.SHUT_WR)
    relay.loop.settle()
    assert (take(relay.server), ended(relay.server)) == (b"abc", "fin")
    relay.server.send(b"answer")
    relay.loop.settle()
    assert take(relay.client) == b"answer"


def test_what_a_former_owner_left_is_acted_on(bench: Bench) -> None:
    """Events that were told before the link took over come as `start`'s arguments and not again."""
    client, near_client = bench.pair()
    server, near_server = bench.pair()
    client.send(b"early")
    owner = Owner()
    link = Link(bench.poller, owner, near_client, near_server)
    for sock in (near_client, near_server):
        bench.poller.add(sock.fileno(), link)
    link.up.preload(b"first, ")
    link.start(IN, 0)
    assert take(server) == b"first, early"


@pytest.mark.parametrize("call", ["abort", "crashed"])
def test_an_abort_resets_both_sides_and_is_told_once(relay: Relay, call: str) -> None:
    """Whoever reads knows that this was no end of the other's."""
    if call == "abort":
        relay.link.abort("because")
        relay.link.abort("again")
    else:
        relay.link.crashed()
    relay.loop.settle()
    assert relay.over == ["because" if call == "abort" else ERROR]
    assert (ended(relay.client), ended(relay.server)) == ("rst", "rst")
    assert relay.closed()


@pytest.mark.plain
def test_a_bug_in_one_link_leaves_the_others_alone(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """It costs the connection in which it was met, with a reset."""
    bad, good = Relay(bench), Relay(bench)
    real = Flow.pump

    def pump(flow: Flow) -> int:
        if flow is bad.link.up:
            raise RuntimeError("a bug")
        return real(flow)

    monkeypatch.setattr(Flow, "pump", pump)
    bad.client.send(b"x")
    good.client.send(b"x")
    bench.loop.settle()
    assert (bad.over, good.over, take(good.server)) == ([ERROR], [], b"x")
    assert (ended(bad.client), ended(bad.server)) == ("rst", "rst")


def test_a_silent_server_is_told_from_one_that_reset(relay: Relay) -> None:
    """Keepalive and TCP_USER_TIMEOUT end a connection with ETIMEDOUT."""
    relay.link.down.state = links.RESET
    relay.link.down.error = errno.ETIMEDOUT
    assert relay.link._failure() == SERVER_TIMEOUT
    relay.link.down.error = errno.ECONNRESET
    assert relay.link._failure() == SERVER_RST


def test_a_silent_server_is_found_by_a_write_too(bench: Bench) -> None:
    """The error is told once: to the write of a client who speaks first, and the read finds a mere end."""
    client, near_client = bench.pair()
    _, near_server = bench.pair(receive_buffer=16 * 1024, send_buffer=16 * 1024)
    owner = Owner()
    link = Link(bench.poller, owner, near_client, near_server)
    near_server.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 100)
    while stuff(near_server, UP):
        pass
    broken = select.poll()
    broken.register(near_server, 0)
    assert broken.poll(10_000 * FACTOR), "a server that reads nothing has not been given up"
    client.send(b"x")
    for sock in (near_client, near_server):
        bench.poller.add(sock.fileno(), link)
    link.start(IN, 0)
    bench.loop.settle()
    assert owner.reasons == [SERVER_TIMEOUT]


def test_a_watch_is_at_rest_between_two_messages(relay: Relay) -> None:
    """Only the server speaks on it, every second for weeks; one on which the client has just spoken is in use."""
    relay.client.send(b"watch")
    relay.loop.settle()
    assert not relay.link.at_rest(1.0)
    relay.loop.until(lambda: relay.link.at_rest(1.0))
    relay.server.send(b"event")
    relay.loop.settle()
    relay.loop.until(lambda: relay.link.at_rest(1.0))
    assert relay.link.idle() < 1.0
    relay.client.send(b"again")
    relay.loop.settle()
    assert not relay.link.at_rest(1.0)


def test_bulk_both_ways_takes_one_place_in_the_queue(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often its flows use up their budgets, a link has its turn as often as any other."""
    monkeypatch.setattr(flows, "BUDGET", BUFFER)
    stuff(relay.client, UP)
    stuff(relay.server, DOWN)
    places = []

    def seen() -> bool:
        places.append(relay.poller._run_queue.count(relay.link))
        take(relay.client)
        take(relay.server)
        return len(places) >= 10 and {0, 1} <= set(places)

    relay.loop.until(seen)
    assert set(places) == {0, 1}


@pytest.mark.parametrize("how", ["abort", "freeze"])
def test_a_link_that_is_over_or_frozen_does_not_take_the_turn_it_waits_for(relay: Relay, how: str) -> None:
    """Its descriptors may be somebody else's by then, or another process's to read."""
    stuff(relay.client, bytes(3_000_000))
    relay.loop.step()
    assert relay.link in relay.poller._run_queue
    if how == "abort":
        relay.link.abort("cut")
    else:
        assert relay.link.freeze()[1] == b""
    moved = relay.link.up.moved
    near, far = relay.bench.pair(), relay.bench.pair()  # with the numbers of what was closed
    for sock in (*near, *far):
        stuff(sock, b"not yours")
    relay.loop.settle()
    assert (relay.link.up.moved, relay.link.up.blocked()) == (moved, False)
    assert [take(sock) for sock in (*near, *far)] == [b"not yours"] * 4
    assert relay.over == (["cut"] if how == "abort" else [])
    if how == "freeze":
        relay.link.thaw((b"", b""))


@pytest.mark.plain
def test_idle_time_is_that_of_the_side_that_moved_last(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel knows it; a socket that has been reset meanwhile is for its reads to tell."""
    relay.client.send(b"x")
    relay.loop.settle()
    times = iter((7.0, 3.0))
    with monkeypatch.context() as patch:
        patch.setattr(links, "quiet", lambda _: next(times))
        assert relay.link.idle() == 3.0
    assert 0.0 <= relay.link.idle() <= 60.0
    relay.link.abort("gone")
    relay.loop.settle()
    assert relay.link.idle() == 0.0


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["send", "send bulk", "read", "fin", "rst", "turn"]), st.sampled_from(["client", "server"])
    ),
    max_size=25,
)


class End:
    """What one far end has done and seen."""

    def __init__(self, sock: socket.socket, source: bytes) -> None:
        self.sock = sock
        self.source = source
        self.sent = 0
        self.did = ""
        self.got = bytearray()
        self.saw = ""

    def send(self, size: int) -> None:
        """Send that many of the next bytes, or what goes."""
        try:
            self.sent += stuff(self.sock, self.source[self.sent : self.sent + size])
        except OSError:
            self.did = "error"
            self.saw = "rst"  # told here, so not told to the next read

    def read(self) -> None:
        """Read what is there."""
        while self.did != "rst" and not self.saw:
            try:
                data = self.sock.recv(1 << 16)
            except BlockingIOError:
                return
            except OSError:
                self.saw = "rst"
            else:
                self.got += data
                self.saw = "" if data else "fin"

    def do(self, what: str) -> None:
        """Do one step of the story."""
        if what == "read":
            self.read()
        elif self.did:
            pass
        elif what.startswith("send"):
            self.send(200_000 if what == "send bulk" else 50)
        elif what == "rst":
            reset(self.sock)
            self.did = "rst"
        else:
            try:
                self.sock.shutdown(socket.SHUT_WR)
                self.did = "fin"
            except OSError:
                self.did = "error"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS, narrow=st.sampled_from(["", "client", "server", "client server"]))
def test_whatever_the_two_do_nobody_sees_a_clean_end_too_early(
    bench: Bench, steps: list[tuple[str, str]], narrow: str
) -> None:
    """Bytes arrive in order; FIN arrives only after all of them, and only if the other side sent FIN."""
    relay = Relay(bench, narrow)
    ends = {"client": End(relay.client, UP), "server": End(relay.server, DOWN)}
    for what, side in steps:
        if what == "turn":
            relay.loop.step()
        else:
            ends[side].do(what)
    idle = 0
    while idle < 3:
        before = [len(end.got) for end in ends.values()]
        busy = relay.loop.step(0.001)
        for end in ends.values():
            end.read()
        idle = 0 if busy or before != [len(end.got) for end in ends.values()] else idle + 1
    for end, other in (tuple(ends.values()), tuple(reversed(ends.values()))):
        assert other.source.startswith(bytes(end.got))
        if end.saw == "fin":
            assert other.did == "fin"
            assert len(end.got) == other.sent
        if other.did == "fin" and end.did in ("", "fin"):
            assert end.saw == "fin"
        if other.did == "rst" and end.did == "":
            assert end.saw == "rst"
    if "rst" in [end.did for end in ends.values()] or [end.did for end in ends.values()] == ["fin", "fin"]:
        assert relay.over
        assert relay.closed()
    relay.link.abort("end of the test")
    relay.client.close()
    relay.server.close()
