"""One direction of a connection on real sockets: copy, splice, and the ways from one to the other."""

from __future__ import annotations

import errno
import fcntl
import os
import random
import socket
import stat
import sys
import termios
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lbproxy.net import pipes
from lbproxy.net.contract import BUFFER
from lbproxy.relay import flow as flows
from lbproxy.relay import mode as modes
from lbproxy.relay.duplex import BROKEN, ENDING, OPEN, RESET, SHUT
from lbproxy.relay.flow import IDLE, MORE, TURNED, Flow
from tests.support.wait import until
from tests.unit.relay.hand import Bench, reset, stuff, take

BULK = random.Random(1).randbytes(3 * 1024 * 1024)


class Stream:
    """A flow between two connections, pumped by hand: what is sent at `head` arrives at `tail`."""

    def __init__(self, bench: Bench, narrow: bool = False) -> None:
        small = 16 * 1024 if narrow else 0
        self.head, src = bench.pair()
        self.tail, dst = bench.pair(receive_buffer=small, send_buffer=small)
        self.src, self.dst = src, dst
        self.flow = Flow(bench.poller, src.fileno(), dst.fileno())

    def pump(self, thorough: bool = False) -> int:
        """Have the flow hear of an edge and run until it is done with it."""
        self.flow.readable = self.flow.state == OPEN
        self.flow.thorough = self.flow.thorough or thorough
        while (result := self.flow.pump()) == MORE:
            pass
        return result

    def carry(self, data: bytes) -> bytes:
        """Send all of `data` and return what arrives."""
        got = bytearray()
        sent = 0

        def some() -> bool:
            nonlocal sent
            before = sent, len(got)
            sent += stuff(self.head, data[sent : sent + 500_000])
            self.pump()
            got.extend(take(self.tail))
            return (sent, len(got)) != before

        while sent < len(data) or len(got) < sent:
            until(some, f"stuck after {len(got)} of {sent}")  # at once, but for the kernel's ACK timer
        return bytes(got)


class Splices:
    """Counts the calls of os.splice and can refuse them: `refuse` names the side, `source` or `destination`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, refuse: str = "", number: int = errno.EINVAL) -> None:
        self.calls = 0
        self._refuse = refuse
        self._number = number
        self._real = os.splice
        monkeypatch.setattr(os, "splice", self.splice)

    def splice(self, src: int, dst: int, count: int, *, flags: int) -> int:
        """Stand in for os.splice."""
        self.calls += 1
        assert not flags & os.SPLICE_F_MORE, "corks"
        assert flags & os.SPLICE_F_NONBLOCK, "blocks"
        side = "destination" if stat.S_ISFIFO(os.fstat(src).st_mode) else "source"
        if side == self._refuse:
            raise OSError(self._number, os.strerror(self._number))
        return self._real(src, dst, count, flags=flags)


@pytest.fixture
def stream(bench: Bench) -> Stream:
    """Make a flow with roomy buffers."""
    return Stream(bench)


@pytest.fixture
def narrow(bench: Bench) -> Stream:
    """Make a flow whose destination soon takes no more."""
    return Stream(bench, narrow=True)


def test_a_small_message_is_copied_and_leaves_nothing_behind(stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    """One recv and one send; an idle flow holds no buffer and no pipe."""
    splices = Splices(monkeypatch)
    stream.head.send(b"hello")
    assert stream.pump() == IDLE
    assert (take(stream.tail), stream.flow.moved, splices.calls) == (b"hello", 5, 0)
    assert not stream.flow.readable
    assert not stream.flow.blocked()


def test_a_short_read_means_drained_and_costs_no_second_one(stream: Stream) -> None:
    """Under edge triggering more will be told of; after a hang-up it will not, so then everything is read."""
    stream.head.send(b"one")
    stream.head.shutdown(socket.SHUT_WR)
    assert stream.pump() == IDLE
    assert stream.flow.state == OPEN
    assert stream.pump(thorough=True) == TURNED
    assert stream.flow.state == SHUT


def test_bulk_is_spliced_and_what_follows_is_copied_again(stream: Stream) -> None:
    """A full buffer switches to splice, a turn that moves little switches back; the bytes do not notice."""
    for _ in range(2):
        assert stream.flow.mode == modes.COPY
        assert stream.carry(BULK) == BULK
        assert stream.flow.mode == modes.SPLICE
        stream.carry(b"the last by splice")
    assert stream.carry(b"copied") == b"copied"
    assert stream.flow.mode == modes.COPY
    assert stream.flow.moved == 2 * len(BULK) + 2 * 18 + 6


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EPERM, errno.ENOSYS])
@pytest.mark.parametrize("side", ["source", "destination"])
def test_where_splice_is_refused_everything_is_copied(
    stream: Stream, monkeypatch: pytest.MonkeyPatch, side: str, number: int
) -> None:
    """No error, be it by seccomp: what is in the pipe by then goes on, and splice is never asked again."""
    splices = Splices(monkeypatch, side, number)
    assert stream.carry(BULK) == BULK
    calls = splices.calls
    assert calls <= 2
    assert stream.carry(BULK) == BULK
    assert splices.calls == calls
    assert (stream.flow.moved, stream.flow.blocked()) == (2 * len(BULK), False)


def test_a_destination_that_takes_no_splice_is_written_to(bench: Bench, tmp_path: Path) -> None:
    """A file opened to append is one: what was spliced from the source by then is taken out of the pipe again."""
    head, src = bench.pair()
    with (tmp_path / "sink").open("ab") as sink:
        flow = Flow(bench.poller, src.fileno(), sink.fileno())
        sent = 0
        while sent < len(BULK):
            sent += stuff(head, BULK[sent : sent + 500_000])
            flow.readable = True
            while flow.pump() == MORE:
                pass
    assert flow.mode == modes.COPY_ONLY
    assert (tmp_path / "sink").read_bytes() == BULK
    assert flow.moved == len(BULK)


def test_a_source_that_gives_no_splice_is_read(bench: Bench) -> None:
    """As most files of /proc are."""
    tail, dst = bench.pair()
    with Path("/proc/self/environ").open("rb", buffering=0) as source:
        flow = Flow(bench.poller, source.fileno(), dst.fileno())
        flow.mode, flow.readable = modes.SPLICE, True
        assert flow.pump() == MORE
        assert flow.mode == modes.COPY_ONLY
        flow.thorough = True
        assert flow.pump() == TURNED
    assert flow.state == SHUT
    assert take(tail) == Path("/proc/self/environ").read_bytes()


def test_without_a_pipe_bulk_is_copied(stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    """Descriptors may run out at any time; that slows a transfer down and does not end it."""

    def full(_: int) -> tuple[int, int]:
        raise OSError(errno.EMFILE, "too many open files")

    monkeypatch.setattr(os, "pipe2", full)
    assert stream.carry(BULK) == BULK


def test_one_page_pipes_carry_bulk(narrow: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel grants no more above fs.pipe-user-pages-soft."""
    monkeypatch.setattr(pipes, "SIZE", 4096)
    assert narrow.carry(BULK[:500_000]) == BULK[:500_000]


def test_a_pipe_full_of_small_pieces_is_not_a_drained_source(stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    """EAGAIN from splice may mean either; with bytes in the pipe it is asked again once they are gone."""
    monkeypatch.setattr(pipes, "SIZE", 4096)
    flow = stream.flow
    stream.head.setblocking(True)
    stream.carry(BULK[: 2 * BUFFER])
    flow.mode = modes.SPLICE
    for at in range(1000):
        stream.head.send(BULK[at : at + 1])
    assert stream.pump() == IDLE
    assert take(stream.tail) == BULK[:1000]


def test_a_budget_ends_a_turn(stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much there is, a flow asks to be called again so that others come in between."""
    for by_splice in (True, False):
        if not by_splice:
            Splices(monkeypatch, "source")
        monkeypatch.setattr(flows, "BUDGET", BUFFER)
        sent = stuff(stream.head, BULK)
        assert sent > 6 * BUFFER
        before = stream.flow.moved
        stream.flow.readable = True
        turns = 1
        while stream.flow.pump() == MORE:
            turns += 1
            assert stream.flow.moved - before <= turns * (pipes.SIZE + BUFFER)
            take(stream.tail)
        assert turns > 2
        take(stream.tail)


@pytest.mark.parametrize("spliced", [False, True])
def test_a_reader_that_stands_still_holds_the_sender_back(narrow: Stream, spliced: bool) -> None:
    """At most a buffer or a pipe is kept here; the rest waits in the kernel and all of it arrives later."""
    narrow.flow.mode = modes.SPLICE if spliced else modes.COPY_ONLY
    sent = 0
    while part := stuff(narrow.head, BULK[sent:]):
        sent += part
        assert narrow.pump() == IDLE
    assert narrow.flow.mode == (modes.PIPED if spliced else modes.REST_ONLY)
    held = narrow.flow.take()
    assert 0 < len(held) <= (pipes.SIZE if spliced else BUFFER)
    narrow.flow.preload(held)
    got = bytearray()
    while len(got) < sent:
        got += take(narrow.tail)
        narrow.pump()
    assert bytes(got) == BULK[:sent]
    assert not narrow.flow.blocked()


@pytest.mark.parametrize("spliced", [False, True])
def test_the_end_is_passed_on_after_the_last_byte(narrow: Stream, spliced: bool) -> None:
    """With bytes still to be written the direction is not yet shut."""
    narrow.flow.mode = modes.SPLICE if spliced else modes.COPY_ONLY
    data = BULK[:200_000]
    narrow.carry(BULK[:BUFFER])
    assert stuff(narrow.head, data) == len(data)
    narrow.head.shutdown(socket.SHUT_WR)
    assert narrow.pump(thorough=True) == IDLE
    assert narrow.flow.state in (OPEN, ENDING)
    got = bytearray()
    while narrow.flow.state != SHUT:
        assert len(got) < len(data)
        got += take(narrow.tail)
        narrow.pump()
    got += take(narrow.tail)
    assert bytes(got) == data
    assert not narrow.flow.blocked()


@pytest.mark.parametrize("size", [10, BUFFER, 500_000])
def test_a_reset_comes_after_the_bytes_before_it(stream: Stream, size: int) -> None:
    """The source is read to its end, and the end is no clean one."""
    stuff(stream.head, BULK[:size])
    reset(stream.head)
    arrived = int.from_bytes(fcntl.ioctl(stream.src, termios.FIONREAD, bytes(4)), sys.byteorder)
    assert stream.pump(thorough=True) == TURNED
    assert stream.flow.state == RESET
    assert stream.flow.error == errno.ECONNRESET
    assert arrived
    assert take(stream.tail) == BULK[:arrived]
    assert not stream.flow.blocked()


@pytest.mark.parametrize("size", [10, 500_000])
def test_a_destination_that_has_gone_breaks_the_direction(stream: Stream, size: int) -> None:
    """Nothing is held for it any more, and nothing more is read."""
    stuff(stream.head, BULK[:size])
    reset(stream.tail)
    assert stream.pump() == TURNED
    assert stream.flow.state == BROKEN
    assert stream.flow.error in (errno.EPIPE, errno.ECONNRESET)
    assert not stream.flow.blocked()
    assert not stream.flow.readable


@pytest.mark.parametrize("spliced", [False, True])
@pytest.mark.parametrize("fin", [False, True])
def test_urgent_data_is_skipped_and_everything_around_it_arrives(stream: Stream, spliced: bool, fin: bool) -> None:
    """The urgent byte itself has no place in the stream (RFC 6093); it must neither stop nor cut it."""
    if spliced:
        stream.carry(BULK[: 2 * BUFFER])
        stream.flow.mode = modes.SPLICE
    stream.head.send(b"before")
    stream.head.send(b"!", socket.MSG_OOB)
    stream.head.send(b"behind")
    if fin:
        stream.head.shutdown(socket.SHUT_WR)
    assert stream.pump(thorough=True) == (TURNED if fin else IDLE)
    assert take(stream.tail) == b"beforebehind"
    assert stream.flow.state == (SHUT if fin else OPEN)


def test_preloaded_bytes_go_first(stream: Stream) -> None:
    """A header, or what a former owner has read already."""
    stream.flow.preload(b"PROXY ")
    assert stream.flow.blocked()
    stream.head.send(b"TCP4")
    stream.pump()
    assert (take(stream.tail), stream.flow.moved) == (b"PROXY TCP4", 10)


def test_release_gives_back_what_is_held(narrow: Stream) -> None:
    """A pipe with bytes in it is closed, not lent to the next."""
    while stuff(narrow.head, BULK) > 0:
        narrow.pump()
    assert narrow.flow.blocked()
    narrow.flow.release()
    assert not narrow.flow.blocked()
    assert narrow.flow.take() == b""


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sizes=st.lists(st.one_of(st.integers(1, 100), st.integers(BUFFER - 1, 4 * BUFFER)), max_size=12),
    reads=st.lists(st.booleans(), max_size=12),
    end=st.booleans(),
)
def test_whatever_the_pieces_the_bytes_arrive_in_order(
    bench: Bench, sizes: list[int], reads: list[bool], end: bool
) -> None:
    """Small and large pieces, a reader that pauses, switches between copy and splice at any point."""
    stream = Stream(bench, narrow=True)
    sent = 0
    got = bytearray()
    for at, size in enumerate(sizes):
        sent += stuff(stream.head, BULK[sent : sent + size])
        stream.pump()
        if at < len(reads) and reads[at]:
            got += take(stream.tail)
    if end:
        stream.head.shutdown(socket.SHUT_WR)
    stream.pump(thorough=end)
    while len(got) < sent or stream.flow.blocked():
        got += take(stream.tail)
        stream.pump()
    assert bytes(got) == BULK[:sent]
    assert stream.flow.moved == sent
    stream.pump()
    assert stream.flow.state == (SHUT if end else OPEN)
    for sock in (stream.head, stream.src, stream.tail, stream.dst):
        sock.close()
