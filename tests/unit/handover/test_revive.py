"""Which of the connections that a predecessor has left can go on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path

import pytest

from lbproxy.handover.marks import DOWNWARD, SLOT, UPWARD, Marks
from lbproxy.handover.parcel import Parcel
from lbproxy.handover.revive import parcel_of, revive, sift
from lbproxy.proxy.session import Session
from tests.unit.relay.hand import Bench, take
from tests.unit.scene import Scene, open_port


@dataclass
class Left:
    """What a predecessor has left, in the making."""

    marks: Marks
    rested: list[Parcel] = field(default_factory=list)
    kept: list[Parcel] = field(default_factory=list)

    def parcel(self, slot: int = 0, serial: int = 0, rest: bytes = b"") -> Parcel:
        """Return a parcel with a descriptor of its own."""
        return Parcel(client_fd=os.open("/dev/null", os.O_RDONLY), proxy="p", peer=("127.0.0.1", 1), born=0.0,
                      slot=slot, serial=serial, rests=(rest, b""))  # fmt: skip

    def sift(self, marks: bool = True) -> tuple[list[Parcel], list[Parcel]]:
        """Part it; every descriptor that is not among the results must have been closed."""
        everything = [*self.rested, *self.kept]
        good, holed = sift(self.rested, self.kept, self.marks if marks else None)
        for parcel in everything:
            if any(parcel is one for one in (*good, *holed)):
                os.close(parcel.client_fd)
            else:
                with pytest.raises(OSError, match="Bad file"):
                    os.fstat(parcel.client_fd)
        return good, holed


@pytest.fixture
def left() -> Iterator[Left]:
    """Begin with nothing left."""
    marks = Marks.create(10)
    yield Left(marks)
    marks.close()


def test_a_kept_connection_goes_on(left: Left) -> None:
    """No mark stands, so its bytes are all in the kernel."""
    left.kept = [left.parcel(*left.marks.take())]
    assert left.sift() == (left.kept, [])


@pytest.mark.parametrize("direction", [UPWARD, DOWNWARD])
def test_one_with_bytes_in_the_dead_process_is_reset(left: Left, direction: int) -> None:
    """A stream must never go on with a gap."""
    left.kept = [left.parcel(*left.marks.take())]
    left.marks.page[left.kept[0].slot * SLOT + direction] = 1
    assert left.sift() == ([], left.kept)


def test_one_that_has_ended_is_closed(left: Left) -> None:
    """Its slot is free, or is another one's by now."""
    slot, serial = left.marks.take()
    left.kept = [left.parcel(slot, serial)]
    left.marks.free(slot)
    assert left.sift() == ([], [])
    again, newer = left.marks.take()
    assert again == slot
    left.kept = [left.parcel(slot, serial), left.parcel(again, newer)]
    assert left.sift() == ([left.kept[1]], [])


def test_of_two_entries_the_newer_counts(left: Left) -> None:
    """A process killed while it repacked leaves two."""
    slot, serial = left.marks.take()
    left.kept = [left.parcel(slot, serial), left.parcel(slot, serial)]
    assert left.sift() == ([left.kept[1]], [])


def test_what_was_written_at_rest_stands_above_the_marks(left: Left) -> None:
    """The bytes that the mark tells of are in the parcel."""
    slot, serial = left.marks.take()
    left.marks.page[slot * SLOT] = 1
    left.rested = [left.parcel(slot, serial, b"in transit"), left.parcel()]
    left.kept = [left.parcel(slot, serial)]
    assert left.sift() == (left.rested, [])
    assert left.rested[0].rests == (b"in transit", b"")


def test_what_was_at_rest_once_and_has_moved_since_is_only_descriptors(left: Left) -> None:
    """Its bytes may have been written by now: they are dropped, the marks decide. Without a slot nothing is known."""
    slot, serial = left.marks.take()
    other, its = left.marks.take()
    left.marks.page[other * SLOT] = 1
    left.kept = [left.parcel(slot, serial, b"old"), left.parcel(other, its, b"old"), left.parcel(rest=b"old")]
    good, holed = left.sift()
    assert (good, holed) == ([left.kept[0]], [left.kept[1]])
    assert good[0].rests == (b"", b"")


def test_without_marks_nothing_kept_goes_on(left: Left) -> None:
    """Nobody knows what was in transit."""
    left.kept = [left.parcel(1, 1)]
    assert left.sift(marks=False) == ([], left.kept)


def linked(bench: Bench, scene: Scene, rests: tuple[bytes, bytes] = (b"", b"")) -> tuple[Session, Parcel]:
    """Return a session between two ends and the parcel it was made from, at rest."""
    client, near = bench.pair()
    far, server = bench.pair()
    bench.far = (client, far)  # type: ignore[attr-defined]
    parcel = Parcel(
        client_fd=os.dup(near.fileno()), server_fd=os.dup(server.fileno()), proxy="p", server=scene.servers[0].key,
        peer=("127.0.0.1", 7), born=3.0, moved=(5, 6), first_fin="client_fin", rests=rests, slot=1, serial=1,
    )  # fmt: skip
    return revive(parcel, bench.poller, scene.backend, scene.servers[0], lambda *_: None), parcel


def test_a_session_survives_the_way_there_and_back(bench: Bench) -> None:
    """Everything that is told of it is the same afterwards."""
    bench.poller.marks = bytearray(10 * SLOT)
    session, parcel = linked(bench, Scene(bench, open_port(bench)))
    again = parcel_of(session)
    for each in fields(Parcel):
        if each.name not in ("client_fd", "server_fd", "flight", "rests"):  # its sockets, and what is in transit
            assert getattr(again, each.name) == getattr(parcel, each.name) != each.default, each.name
    session.thaw(b"", (b"", b""))
    session.cut("over")


def test_bytes_in_transit_are_marked_before_anything_moves(bench: Bench) -> None:
    """They are in this process's memory now: killed here, it must not look as if there were none."""
    bench.poller.marks = bytearray(10 * SLOT)
    session, _ = linked(bench, Scene(bench, open_port(bench)), (b"up", b""))
    assert list(bench.poller.marks[SLOT : SLOT + 2]) == [1, 0]
    session.thaw(b"", (b"", b""))
    _, server = bench.far  # type: ignore[attr-defined]
    bench.loop.settle()
    assert take(server) == b"up"
    assert list(bench.poller.marks[SLOT : SLOT + 2]) == [0, 0]
    session.cut("over")


def watched(bench: Bench) -> set[int]:
    """Return the descriptors in the epoll set: also those that are closed here, and open elsewhere."""
    info = Path(f"/proc/self/fdinfo/{bench.poller._epoll.fileno()}").read_text()
    return {int(line.split()[1]) for line in info.splitlines() if line.startswith("tfd:")}


@pytest.mark.parametrize("linked", [True, False], ids=["linked", "searching"])
@pytest.mark.parametrize("again", [True, False], ids=["frozen and thawed", "taken over"])
def test_what_another_process_holds_ends_here_at_once_and_tells_nothing_more(
    bench: Bench, linked: bool, again: bool
) -> None:
    """The number of its descriptor is soon another connection's, whose client was taken for gone."""
    scene = Scene(bench, open_port(bench), first_byte_timeout=9.0)
    client, near = bench.pair()
    far, server = bench.pair()
    parcel = Parcel(client_fd=os.dup(near.fileno()), proxy="p", peer=("127.0.0.1", 7), born=bench.poller.now)
    if linked:
        parcel.server_fd = os.dup(server.fileno())
    session = revive(parcel, bench.poller, scene.backend, scene.servers[0] if linked else None, lambda *_: None)
    session.thaw()
    if again:
        rest = session.freeze()
        session.thaw(*rest)
    bench.loop.settle()
    session.cut("over")
    bench.loop.settle()
    assert watched(bench).isdisjoint((parcel.client_fd, parcel.server_fd))
    for end in (client, far)[: 1 + linked]:
        with pytest.raises(ConnectionResetError):
            end.recv(1)
        end.close()
    for held in (near, server):
        held.close()
