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
def queue() -> Iterator[FdQueue]:
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


def in_flight(queue: FdQueue) -> list[int]:
    """Return the slots of what is in flight."""
    arrived, _, wrong = receive(queue.receiver)
    close(arrived)
    assert wrong == []
    return [parcel.slot for parcel in arrived]


@pytest.mark.parametrize("count", [0, 1, 100, 101, MAX_FDS + 1, 1000])
def test_everything_arrives_in_order(queue: FdQueue, count: int) -> None:
    """However many messages it takes; `entries` counts them all."""
    assert queue.send(parcels(count))
    assert queue.entries == count
    assert in_flight(queue) == list(range(1, count + 1))


def test_bytes_in_transit_ride_along(queue: FdQueue) -> None:
    """Three descriptors each then, so that fewer fit into a message."""
    assert queue.send(parcels(200, (b"up" * 40000, b"down")))
    arrived, _, _ = receive(queue.receiver)
    close(arrived)
    assert {parcel.rests for parcel in arrived} == {(b"up" * 40000, b"down")}
    assert len(arrived) == 200


def test_what_is_looked_at_stays_there(queue: FdQueue) -> None:
    """A process that dies before it has sent it on leaves it to the next one; bytes in transit too."""
    queue.send(parcels(150, (b"x" * 100, b"")))
    queue.send_state({"drained": []})
    for _ in range(2):
        arrived, state, _ = receive(queue.receiver)
        close(arrived)
        assert [parcel.slot for parcel in arrived] == list(range(1, 151))
        assert {parcel.rests for parcel in arrived} == {(b"x" * 100, b"")}
        assert state == {"drained": []}
    queue.sender.close()
    arrived, _, _ = receive(queue.receiver)
    close(arrived)
    assert len(arrived) == 150


def test_it_outlives_its_sender(queue: FdQueue) -> None:
    """That is what it is for: the process at the other end is dead by then."""
    queue.send(parcels(3))
    queue.send_state({"drained": ["m1"]})
    queue.sender.close()
    arrived, state, wrong = receive(queue.receiver)
    close(arrived)
    assert ([parcel.slot for parcel in arrived], state, wrong) == ([1, 2, 3], {"drained": ["m1"]}, [])


def test_the_last_state_counts(queue: FdQueue) -> None:
    """It is told again whenever it has changed."""
    queue.send_state({"carrier": 1})
    queue.send_state({"carrier": 2})
    assert receive(queue.receiver) == ([], {"carrier": 2}, [])


def test_a_full_one_says_so_and_keeps_what_it_has() -> None:
    """As with the usual net.core.wmem_max, in small; nothing blocks, and no descriptor of ours is left open."""
    queue = FdQueue(room=4096)
    before = descriptors()
    assert not queue.send(parcels(10_000, (b"x", b"")))
    assert descriptors() == before
    assert not queue.send_state({"x": list(range(10_000))})
    arrived = in_flight(queue)
    assert arrived == list(range(1, queue.entries + 1))
    queue.close()


@pytest.mark.parametrize(("left", "sent"), [(0, []), (1, []), (3, [1, 2, 3, 4, 5])])
def test_descriptors_for_the_bytes_of_one_in_transit_are_enough(queue: FdQueue, left: int, sent: list[int]) -> None:
    """With fewer, RLIMIT_NOFILE being reached, the sender hears of it: no exception is let through."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    top = os.open("/dev/null", os.O_RDONLY)
    os.close(top)
    before = descriptors()
    resource.setrlimit(resource.RLIMIT_NOFILE, (top + left, limits[1]))
    try:
        complete = queue.send(parcels(5, (b"x", b"y")))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert complete == bool(sent)
    assert descriptors() == before
    assert in_flight(queue) == sent


def test_a_message_that_cannot_be_read_costs_no_other(queue: FdQueue) -> None:
    """What was wrong is told; what came before and after is there."""
    queue.send(parcels(1))
    socket.send_fds(queue.sender, [b"\xffof another version"], [0])
    queue.send(parcels(2))
    arrived, _, wrong = receive(queue.receiver)
    close(arrived)
    assert [parcel.slot for parcel in arrived] == [1, 1, 2]
    assert wrong == ["handover version 255, only 1 is known here"]
