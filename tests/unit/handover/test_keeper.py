"""What is in systemd's fd store at every moment, and what a successor makes of it."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from math import inf

import pytest

from lbproxy.handover.fdqueue import FdQueue, receive
from lbproxy.handover.inherit import Inherited, from_fds
from lbproxy.handover.keeper import KEEP_AFTER, MARKS, QUEUE, Keeper
from lbproxy.handover.marks import SLOT, Marks
from lbproxy.handover.parcel import Parcel, ProcessState
from lbproxy.handover.revive import parcel_of, revive, sift
from lbproxy.proxy.session import Session
from tests.unit.handover.shelf import Shelf
from tests.unit.relay.hand import Bench
from tests.unit.scene import Scene, open_port


class World:
    """A process with kept connections, on a bench; `crash` returns what its successor finds."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.scene = Scene(bench, open_port(bench))
        self.shelf = Shelf()
        self.marks = Marks.create(600)
        self.shelf.store(MARKS, [self.marks.fd])
        bench.poller.marks = self.marks.page
        self.sessions: list[Session] = []
        self.state: ProcessState = {"drained": []}
        self.keeper = Keeper(self.shelf, self.marks, lambda: self.sessions, lambda: self.state)

    def connect(self, born: float) -> Session:
        """Return a session that is linked."""
        _, client = self.bench.pair()
        _, server = self.bench.pair()
        parcel = Parcel(client_fd=os.dup(client.fileno()), server_fd=os.dup(server.fileno()), proxy="p",
                        server=self.scene.servers[0].key, peer=("127.0.0.1", 1), born=born)  # fmt: skip
        session = revive(parcel, self.bench.poller, self.scene.backend, self.scene.servers[0], self._ended)
        session.thaw(b"", (b"", b""))
        self.sessions.append(session)
        return session

    def _ended(self, session: Session, reason: str, why: str) -> None:
        self.sessions.remove(session)
        if session.link is not None and session.link.kept:
            self.keeper.left(session.link.kept)

    def found(self) -> Inherited:
        """Return what a process that starts now would find. What is in a queue is found once."""
        return from_fds(self.shelf.pass_on())

    def serials(self, inherited: Inherited) -> tuple[list[int], list[int]]:
        """Return the serial numbers of the connections that could go on, and of those that must be reset."""
        good, holed = sift(inherited.rested, inherited.kept, inherited.marks)
        for parcel in (*good, *holed):
            os.close(parcel.client_fd)
            if parcel.server_fd >= 0:
                os.close(parcel.server_fd)
        assert inherited.marks is not None
        inherited.marks.close()
        return sorted(parcel.serial for parcel in good), sorted(parcel.serial for parcel in holed)

    def after_a_crash(self) -> tuple[list[int], list[int]]:
        """Return the serials that a process starting now could go on with, and must reset; takes them out."""
        return self.serials(self.found())

    def close(self) -> None:
        """End it all."""
        for session in list(self.sessions):
            session.cut("over")
        self.shelf.close()
        if self.keeper._queue is not None:
            self.keeper._queue.close()
        self.marks.close()


@pytest.fixture
def world() -> Iterator[World]:
    """Make a process that keeps connections, and end it."""
    bench = Bench()
    made = World(bench)
    made.keeper.begin([])
    yield made
    made.close()
    bench.close()


def test_only_what_has_lived_a_while_is_kept(world: World) -> None:
    """Short connections pay nothing; one queue is there from the beginning."""
    young, old = world.connect(born=100.0), world.connect(born=100.0 - KEEP_AFTER)
    world.keeper.sweep(100.0)
    assert (young.link and young.link.kept, old.link and old.link.kept) == (0, 1)
    assert world.shelf.names() == [f"{QUEUE}-1", MARKS]
    assert world.after_a_crash() == ([1], [])


def test_one_with_a_mark_is_reset_after_a_crash(world: World) -> None:
    """Its bytes were in the memory of the process."""
    session = world.connect(born=0.0)
    world.keeper.sweep(inf)
    assert session.link is not None
    world.marks.page[session.link.kept * SLOT] = 1
    assert world.after_a_crash() == ([], [1])


def test_one_that_has_ended_is_not_found(world: World) -> None:
    """Its entry is still in the queue, its slot is not its own any more."""
    first, _ = world.connect(0.0), world.connect(0.0)
    world.keeper.sweep(inf)
    first.cut("over")
    assert world.after_a_crash() == ([2], [])


def test_the_living_move_when_the_dead_are_too_many(world: World) -> None:
    """The new queue is stored before the old one is forgotten."""
    world.connect(0.0)
    world.keeper.sweep(inf)
    for _ in range(300):
        session = world.connect(0.0)
        world.keeper.sweep(inf)
        session.cut("over")
    assert world.shelf.log[-2:] == [f"+{QUEUE}-2", f"-{QUEUE}-1"]
    assert world.after_a_crash()[1] == []


def test_nothing_is_moved_for_a_few_dead(world: World) -> None:
    """That would be work for nothing."""
    for _ in range(50):
        session = world.connect(0.0)
        world.keeper.sweep(inf)
        session.cut("over")
    assert world.shelf.names() == [f"{QUEUE}-1", MARKS]


def test_a_crash_in_the_middle_of_a_move_finds_each_once(world: World) -> None:
    """Both queues are there."""
    world.connect(0.0)
    world.keeper.sweep(inf)
    forget = world.shelf.forget
    world.shelf.forget = lambda name: None  # type: ignore[method-assign]
    world.keeper._repack(forget=True)
    world.shelf.forget = forget  # type: ignore[method-assign]
    assert world.shelf.names() == [f"{QUEUE}-1", f"{QUEUE}-2", MARKS]
    assert world.after_a_crash() == ([1], [])


def leave(world: World) -> None:
    """Stop as a process does that is told to."""
    world.keeper.sweep(inf)
    parcels = []
    for session in world.sessions:
        flight, _ = session.freeze()
        parcels.append(parcel_of(session, flight, (b"in transit", b"")))
    assert world.keeper.leave(parcels)


def test_what_is_left_at_rest_tells_everything(world: World) -> None:
    """Bytes in transit and the state come along, whatever the marks say."""
    session = world.connect(born=50.0)
    world.state = {"drained": ["m1"]}
    leave(world)
    assert session.link is not None
    world.marks.page[session.link.kept * SLOT] = 1
    inherited = world.found()
    assert (inherited.state, inherited.kept, inherited.queues) == ({"drained": ["m1"]}, [], [2])
    assert [parcel.rests for parcel in inherited.rested] == [(b"in transit", b"")]
    assert world.serials(inherited) == ([1], [])
    session.thaw(b"", (b"", b""))


def test_bytes_of_a_stop_are_not_written_twice(world: World) -> None:
    """A successor that died after it had begun leaves a store in which nothing is at rest any more."""
    session = world.connect(0.0)
    leave(world)
    successor = Keeper(world.shelf, world.marks, list, dict)
    forget = world.shelf.forget
    world.shelf.forget = lambda name: None  # type: ignore[method-assign]  # lost on the way to systemd
    successor.begin([2])
    world.shelf.forget = forget  # type: ignore[method-assign]
    inherited = world.found()
    assert (inherited.rested, inherited.queues) == ([], [2, 3])
    assert [parcel.rests for parcel in inherited.kept] == [(b"in transit", b"")]
    assert world.serials(inherited)[1] == []
    assert inherited.kept[0].rests == (b"", b"")
    assert successor._queue is not None
    successor._queue.close()
    session.thaw(b"", (b"", b""))


def test_a_successor_gives_up_every_queue_it_has_found(world: World) -> None:
    """However many there are, and it never uses one of their numbers."""
    for number in (3, 7):
        made = FdQueue()
        world.shelf.store(f"{QUEUE}-{number}", [made.receiver.fileno()])
        made.close()
    successor = Keeper(world.shelf, world.marks, list, dict)
    successor.begin([1, 3, 7])
    assert world.shelf.names() == [f"{QUEUE}-8", MARKS]
    assert successor.number == 8
    assert successor._queue is not None
    successor._queue.close()


def test_the_state_is_told_when_it_changes(world: World) -> None:
    """A drain by hand outlives a crash too."""
    world.keeper.sweep(0.0)
    world.state = {"drained": ["m2"]}
    world.keeper.sweep(0.0)
    fd = os.dup(world.shelf.held[f"{QUEUE}-1"][0])
    with socket.socket(fileno=fd) as sock:
        assert receive(sock)[1] == {"drained": ["m2"]}


def test_without_descriptors_nothing_is_kept_and_nothing_fails(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One line says so, and another one when it has been over in between; it is tried again later."""

    def none_left() -> None:
        raise OSError(24, "too many open files")

    session = world.connect(0.0)
    world.keeper.sweep(inf)
    for _ in range(2):
        with monkeypatch.context() as patch:
            patch.setattr("lbproxy.handover.keeper.FdQueue", none_left)
            world.keeper._repack(forget=True)
            world.keeper._repack(forget=True)
        world.keeper._repack(forget=True)
    assert [record.message.partition(":")[0] for record in caplog.records] == [
        "not all of 1 connections can be kept over a crash"
    ] * 2
    assert session.link is not None
    assert world.after_a_crash() == ([1], [])
