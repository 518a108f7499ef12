"""Turns by splice: how each of them ends, and what is in the pipe then."""

from __future__ import annotations

import errno
import socket
from pathlib import Path

import pytest

from lbproxy.relay.bulk import DESTINATION_FAILED, SOURCE_FAILED, Bulk
from lbproxy.relay.mode import BLOCKED, EMPTIED, LITTLE, NOT_FROM, NOT_TO
from tests.support.wait import until
from tests.unit.relay.hand import Bench, reset, stuff, take

BUDGET = 64 * 1024
MUCH = bytes(range(256)) * 4096


class Way:
    """A `Bulk` between two connections: what is sent at `head` arrives at `tail`."""

    def __init__(self, bench: Bench, narrow: bool = False) -> None:
        small = 16 * 1024 if narrow else 0
        self.head, self._src = bench.pair()
        self.tail, self._dst = bench.pair(receive_buffer=small, send_buffer=small)
        self.bulk = Bulk(bench.poller.pipes, self._src.fileno(), self._dst.fileno())

    def turn(self, thorough: bool = False) -> int:
        """Have a turn with a source that may be readable."""
        return self.bulk.turn(True, thorough, BUDGET)

    def stuff(self) -> int:
        """Have the destination take no more; returns how many bytes that took."""
        stuffed = 0
        while part := stuff(self._dst, MUCH):
            stuffed += part
        return stuffed


@pytest.fixture
def way(bench: Bench) -> Way:
    """Make a way that is clear."""
    return Way(bench)


@pytest.mark.parametrize(("size", "event"), [(0, LITTLE), (100, LITTLE), (30_000, EMPTIED)])
def test_a_drained_source_ends_a_turn(way: Way, size: int, event: int) -> None:
    """Whether splice was worth it, the number of bytes says."""
    way.head.sendall(MUCH[:size])
    assert way.turn() == event
    assert (way.bulk.moved, way.bulk.readable, len(take(way.tail))) == (size, False, size)


def test_a_budget_ends_a_turn_with_nothing_in_the_pipe(way: Way) -> None:
    """Who waits for his next turn holds no descriptors."""
    sent = stuff(way.head, MUCH)
    assert way.turn() == EMPTIED
    assert BUDGET <= way.bulk.moved < sent
    assert way.bulk.readable
    assert way.bulk.take() == b""


def test_a_destination_that_takes_no_more_ends_a_turn_with_the_rest_in_the_pipe(bench: Bench) -> None:
    """It goes on with it, or somebody else takes it out."""
    way = Way(bench, narrow=True)
    stuffed = way.stuff()
    way.head.sendall(MUCH[:5_000])
    assert way.turn() == BLOCKED
    assert (way.bulk.moved, way.bulk.readable) == (0, True)
    got = bytearray()
    until(lambda: got.extend(take(way.tail)) or len(got) == stuffed)
    assert way.turn() == EMPTIED
    assert take(way.tail) == MUCH[:5_000]


def test_what_is_in_the_pipe_can_be_taken_out_or_dropped(bench: Bench) -> None:
    """Taken, another process writes it; dropped, it is lost, and no other flow gets the pipe with it."""
    for how in ("take", "drop"):
        way = Way(bench, narrow=True)
        way.stuff()
        way.head.sendall(b"the rest")
        assert way.turn() == BLOCKED
        assert getattr(way.bulk, how)() == (b"the rest" if how == "take" else None)
        assert way.bulk.take() == b""
        pipe = bench.poller.pipes.borrow()
        assert pipe is not None
        assert pipe.held == 0
        bench.poller.pipes.give_back(pipe)


@pytest.mark.parametrize("what", ["fin", "urgent"])
def test_where_splice_stops_copy_goes_on(way: Way, what: str) -> None:
    """At the end and at urgent data; what comes before is spliced."""
    way.head.sendall(b"before")
    if what == "fin":
        way.head.shutdown(socket.SHUT_WR)
    else:
        way.head.send(b"!", socket.MSG_OOB)
    assert way.turn(thorough=True) == LITTLE
    assert way.bulk.readable
    assert take(way.tail) == b"before"


def test_a_source_that_gives_no_splice_says_so(bench: Bench) -> None:
    """Most files of /proc are such ones."""
    _, dst = bench.pair()
    with Path("/proc/self/environ").open("rb", buffering=0) as source:
        bulk = Bulk(bench.poller.pipes, source.fileno(), dst.fileno())
        assert bulk.turn(True, False, BUDGET) == NOT_FROM
        assert bulk.readable


def test_a_destination_that_takes_no_splice_says_so(bench: Bench, tmp_path: Path) -> None:
    """A file opened to append is one; what has been read by then is not lost."""
    head, src = bench.pair()
    head.sendall(b"read already")
    with (tmp_path / "sink").open("ab") as sink:
        bulk = Bulk(bench.poller.pipes, src.fileno(), sink.fileno())
        assert bulk.turn(True, False, BUDGET) == NOT_TO
    assert bulk.take() == b"read already"


@pytest.mark.parametrize(("side", "event"), [("head", SOURCE_FAILED), ("tail", DESTINATION_FAILED)])
def test_an_error_ends_a_turn_and_holds_nothing(way: Way, side: str, event: int) -> None:
    """Which side it was decides what becomes of the connection."""
    way.head.sendall(b"x")
    assert way.turn() == LITTLE
    way.head.sendall(b"lost")
    reset(getattr(way, side))
    assert way.turn() == event
    assert way.bulk.error in (errno.ECONNRESET, errno.EPIPE)
    assert way.bulk.take() == b""
