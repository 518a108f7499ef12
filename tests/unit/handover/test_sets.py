"""Sets: what several processes have kept, for one, or for several others."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from lbproxy.handover.fdqueue import FdQueue
from lbproxy.handover.inherit import from_fds
from lbproxy.handover.keeper import MARKS, QUEUE
from lbproxy.handover.marks import SLOT, Marks
from lbproxy.handover.parcel import Parcel
from lbproxy.handover.revive import close
from lbproxy.handover.sets import Content, merge, name_of, parse, unload


class Kept:
    """What a process has kept: marks, and one queue."""

    def __init__(self) -> None:
        self.marks = Marks.create(10)
        self.queue = FdQueue()

    def keep(self, sock: socket.socket, peer: int = 1) -> int:
        """Keep a connection; returns its slot."""
        slot, serial = self.marks.take()
        parcel = Parcel(client_fd=sock.fileno(), proxy="p", peer=("::1", peer), born=0.0, slot=slot, serial=serial)
        self.queue.send([parcel])
        return slot

    def parts(self) -> dict[str, int]:
        """Return copies of what the store holds."""
        return {MARKS: os.dup(self.marks.fd), f"{QUEUE}-1": os.dup(self.queue.receiver.fileno())}

    def close(self) -> None:
        """Keep it no longer."""
        self.marks.close()
        self.queue.close()


@pytest.fixture
def sockets() -> Iterator[list[socket.socket]]:
    """Make three sockets."""
    made = [socket.socket() for _ in range(3)]
    yield made
    for sock in made:
        sock.close()


@pytest.fixture
def processes() -> Iterator[tuple[Kept, Kept]]:
    """Make what two processes have kept."""
    made = (Kept(), Kept())
    yield made
    for each in made:
        each.close()


def drop(*parcels: Parcel) -> None:
    """Close what tests have taken out."""
    for parcel in parcels:
        close(parcel)


def inode(parcel: Parcel) -> int:
    """Return which socket it is."""
    return os.fstat(parcel.client_fd).st_ino


def test_a_name_says_which_set_and_which_part() -> None:
    """Nothing else is taken for one."""
    assert parse(name_of(7, f"{QUEUE}-3")) == (7, f"{QUEUE}-3")
    assert [parse(name) for name in (MARKS, f"{QUEUE}-3", "listener-1.2.3.4.443", "set-x.marks", "set-7")] == [None] * 5


def test_what_can_go_on_comes_without_a_slot(processes: tuple[Kept, Kept], sockets: list[socket.socket]) -> None:
    """The marks stay with the set; one with a mark that stands is to be reset."""
    kept, _ = processes
    kept.keep(sockets[0])
    marked = kept.keep(sockets[1])
    kept.marks.page[marked * SLOT] = 1
    parts = kept.parts()
    content = unload(parts)
    for fd in parts.values():
        os.close(fd)
    assert [(each.slot, each.serial) for each in content.good] == [(0, 0)]
    assert len(content.holed) == 1
    drop(*content.good, *content.holed)


def test_a_set_without_marks_is_empty() -> None:
    """A worker was killed before it had kept anything."""
    assert unload({}) == Content([], [], [], [])


def test_of_two_sets_with_the_same_socket_the_newer_one_is_right(
    processes: tuple[Kept, Kept], sockets: list[socket.socket]
) -> None:
    """Whatever the older one's marks say: it has moved nothing since."""
    old, new = processes
    for sock in sockets:
        slot = old.keep(sock, peer=1)
    old.marks.page[slot * SLOT] = 1  # of the last one
    new.keep(sockets[2], peer=2)
    torn = new.keep(sockets[0], peer=2)
    new.marks.page[torn * SLOT] = 1
    parts = {7: old.parts(), 12: new.parts()}
    named = {name_of(number, part): [fd] for number, each in parts.items() for part, fd in each.items()}
    inherited = from_fds(named)
    assert sorted((inode(each), each.peer[1]) for each in inherited.rested) == sorted(
        [(os.fstat(sockets[1].fileno()).st_ino, 1), (os.fstat(sockets[2].fileno()).st_ino, 2)]
    )
    assert [inode(each) for each in inherited.holed] == [os.fstat(sockets[0].fileno()).st_ino]
    assert sorted(inherited.sets) == sorted(named)
    assert (inherited.kept, inherited.marks, inherited.queues) == ([], None, [])
    drop(*inherited.rested, *inherited.holed)


def test_what_a_single_process_has_left_beside_sets_is_older(
    processes: tuple[Kept, Kept], sockets: list[socket.socket]
) -> None:
    """It was on its way to several when it was killed; all is to be forgotten once somebody has it."""
    single, worker = processes
    single.keep(sockets[0], peer=1)
    single.keep(sockets[1], peer=1)
    worker.keep(sockets[1], peer=2)
    named = {name: [fd] for name, fd in single.parts().items()}
    named |= {name_of(3, part): [fd] for part, fd in worker.parts().items()}
    inherited = from_fds(named)
    assert sorted(each.peer[1] for each in inherited.rested) == [1, 2]
    assert all(not each.slot for each in inherited.rested)
    assert sorted(inherited.sets) == sorted([*named])
    drop(*inherited.rested, *inherited.holed)


def test_merging_keeps_every_socket_once(sockets: list[socket.socket]) -> None:
    """And closes what it does not keep."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    parcels = [
        [Parcel(client_fd=os.dup(sock.fileno()), proxy="p", peer=("::1", at), born=0.0) for sock in sockets]
        for at in (1, 2)
    ]
    whole = merge([Content(parcels[0], [], ["m1"], []), Content([], parcels[1], ["m2"], ["odd"])])
    assert ([each.peer[1] for each in whole.good], whole.holed) == ([1, 1, 1], [])
    assert (whole.drained, whole.wrong) == (["m1", "m2"], ["odd"])
    drop(*whole.good)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
