"""Connections in flight, in a socket that nobody reads until a successor does."""

from __future__ import annotations

import os
import resource
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from lbproxy.handover.fdqueue import FdQueue, receive
from lbproxy.handover.parcel import MAX_FDS, Parcel


@pytest.fixture
def carrier() -> Iterator[FdQueue]:
    """Make one and close it."""
    made = FdQueue()
    yield made
    made.close()


def parcels(count: int, rests: tuple[bytes, bytes] = (b"", b"")) -> list[Parcel]:
    """Return parcels that have standard input for their descriptor, told apart by their slot."""
    return [Parcel(client_fd=0, proxy="p", peer=("127.0.0.1", 1), born=1.5, slot=slot, rests=rests)
            for slot in range(1, count + 1)]  # fmt: skip


def descriptors() -> set[str]:
    """Return the numbers of those that are open."""
    return {each.name for each in Path("/proc/self/fd").iterdir()}


def close(arrived: list[Parcel]) -> None:
    """Close what has arrived."""
    for parcel in arrived:
        os.close(parcel.client_fd)


def in_flight(carrier: FdQueue) -> list[int]:
    """Return the slots of what is in flight."""
    arrived, _, wrong = receive(carrier.receiver)
    close(arrived)
    assert wrong == []
    return [parcel.slot for parcel in arrived]


@pytest.mark.parametrize("count", [0, 1, 100, 101, MAX_FDS + 1, 1000])
def test_everything_arrives_in_order(carrier: FdQueue, count: int) -> None:
    """However many messages it takes; `entries` counts them all."""
    assert carrier.send(parcels(count))
    assert carrier.entries == count
    assert in_flight(carrier) == list(range(1, count + 1))


def test_bytes_in_transit_ride_along(carrier: FdQueue) -> None:
    """Three descriptors each then, so that fewer fit into a message."""
    assert carrier.send(parcels(200, (b"up" * 40000, b"down")))
    arrived, _, _ = receive(carrier.receiver)
    close(arrived)
    assert {parcel.rests for parcel in arrived} == {(b"up" * 40000, b"down")}
    assert len(arrived) == 200


def test_what_is_looked_at_stays_there(carrier: FdQueue) -> None:
    """A process that dies before it has sent it on leaves it to the next one; bytes in transit too."""
    carrier.send(parcels(150, (b"x" * 100, b"")))
    carrier.send_state({"drained": []})
    for _ in range(2):
        arrived, state, _ = receive(carrier.receiver)
        close(arrived)
        assert [parcel.slot for parcel in arrived] == list(range(1, 151))
        assert {parcel.rests for parcel in arrived} == {(b"x" * 100, b"")}
        assert state == {"drained": []}
    carrier.sender.close()
    arrived, _, _ = receive(carrier.receiver)
    close(arrived)
    assert len(arrived) == 150


def test_it_outlives_its_sender(carrier: FdQueue) -> None:
    """That is what it is for: the process at the other end is dead by then."""
    carrier.send(parcels(3))
    carrier.send_state({"drained": ["m1"]})
    carrier.sender.close()
    arrived, state, wrong = receive(carrier.receiver)
    close(arrived)
    assert ([parcel.slot for parcel in arrived], state, wrong) == ([1, 2, 3], {"drained": ["m1"]}, [])


def test_the_last_state_counts(carrier: FdQueue) -> None:
    """It is told again whenever it has changed."""
    carrier.send_state({"carrier": 1})
    carrier.send_state({"carrier": 2})
    assert receive(carrier.receiver) == ([], {"carrier": 2}, [])


def test_a_full_one_says_so_and_keeps_what_it_has() -> None:
    """As with the usual net.core.wmem_max, in small; nothing blocks, and no descriptor of ours is left open."""
    carrier = FdQueue(room=4096)
    before = descriptors()
    assert not carrier.send(parcels(10_000, (b"x", b"")))
    assert descriptors() == before
    assert not carrier.send_state({"x": list(range(10_000))})
    arrived = in_flight(carrier)
    assert arrived == list(range(1, carrier.entries + 1))
    carrier.close()


def test_no_descriptor_for_the_bytes_in_transit_is_a_refusal(carrier: FdQueue) -> None:
    """With RLIMIT_NOFILE reached no memfd can be made: the sender hears of it, no exception is let through."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    top = os.open("/dev/null", os.O_RDONLY)
    os.close(top)
    resource.setrlimit(resource.RLIMIT_NOFILE, (top, limits[1]))
    try:
        complete = carrier.send(parcels(5, (b"x", b"y")))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert not complete


def test_a_message_that_cannot_be_read_costs_no_other(carrier: FdQueue) -> None:
    """What was wrong is told; what came before and after is there."""
    carrier.send(parcels(1))
    socket.send_fds(carrier.sender, [b"\xffof another version"], [0])
    carrier.send(parcels(2))
    arrived, _, wrong = receive(carrier.receiver)
    close(arrived)
    assert [parcel.slot for parcel in arrived] == [1, 1, 2]
    assert wrong == ["handover version 255, only 1 is known here"]
