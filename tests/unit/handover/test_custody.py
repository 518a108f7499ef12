"""Connections on their way from one process to the next, whichever way that comes about."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

import pytest

from lbproxy.config.model import Address
from lbproxy.handover.custody import Custody
from lbproxy.handover.inherit import Inherited, from_fds
from lbproxy.handover.keeper import MARKS, QUEUE, Doors
from lbproxy.handover.marks import Marks
from lbproxy.proxy.session import Session
from tests.unit.handover.shelf import Shelf
from tests.unit.relay.hand import Bench, stuff, take
from tests.unit.scene import House


class Process:
    """A process with one proxy `p`, and what it has from the one before it."""

    def __init__(self, bench: Bench, inherited: Inherited, shelf: Shelf | None) -> None:
        self.house = House(bench, lambda slot: self.custody.forget(slot))
        self.listener = self.house.open("p")
        self.custody = Custody(self.house.proxies, bench.poller, inherited, shelf)
        self.custody.prepare(50)
        self.custody.adopt()
        self.custody.thaw()

    def sessions(self) -> list[Session]:
        """Return its connections."""
        return list(self.house.proxies.sessions())

    def close(self) -> None:
        """Cut everything, also what stands still."""
        self.custody.thaw()
        self.house.close()
        keeper = self.custody._keeper
        if keeper is not None and keeper._queue is not None:
            keeper._queue.close()
        if self.custody.marks is not None:
            self.custody.marks.close()


@pytest.fixture
def shelf() -> Iterator[Shelf]:
    """Make an fd store and empty it."""
    made = Shelf()
    yield made
    made.close()


def test_without_a_store_there_is_nothing_to_leave_to(bench: Bench) -> None:
    """A stop is a stop, and no marks cost anything."""
    process = Process(bench, Inherited(), None)
    client, server = process.house.connect("p")
    assert (process.custody.leave(), process.custody.marks) == (False, None)
    stuff(client, b"goes on")
    bench.loop.settle()
    assert take(server) == b"goes on"
    process.close()


def test_without_memory_to_share_nothing_is_kept(
    bench: Bench, shelf: Shelf, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A sandbox that refuses memfd_create: it is said, and clients are served all the same."""

    def refused(*_: object) -> int:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "memfd_create", refused)
    process = Process(bench, Inherited(), shelf)
    client, server = process.house.connect("p")
    stuff(client, b"served")
    bench.loop.settle()
    assert take(server) == b"served"
    assert (process.custody.leave(), process.custody.marks) == (False, None)
    assert "no connection can be kept over a restart or a crash: Operation not permitted" in caplog.text
    process.close()


def test_what_stands_still_goes_on_when_nobody_takes_over(bench: Bench) -> None:
    """Frozen, no byte moves and no client is accepted; thawed, both happen as if nothing had been."""
    process = Process(bench, Inherited(), None)
    client, server = process.house.connect("p")
    (parcel,) = process.custody.freeze()
    assert (parcel.proxy, parcel.server[0]) == ("p", "p")
    stuff(client, b"waits")
    bench.loop.settle()
    assert take(server) == b""
    process.custody.thaw()
    bench.loop.settle()
    assert take(server) == b"waits"
    assert len(process.custody.freeze()) == 1
    process.custody.thaw()
    process.close()


def test_what_is_left_goes_on_in_the_next_process(bench: Bench, shelf: Shelf) -> None:
    """Bytes in both directions, and the operator's word; the store then holds what is the new one's."""
    old = Process(bench, Inherited(), shelf)
    client, server = old.house.connect("p")
    old.house.proxies.set_drain("p", True)
    assert old.custody.leave()
    inherited = from_fds(shelf.pass_on())
    assert inherited.state["drained"] == ["p"]
    new = Process(bench, inherited, shelf)
    stuff(client, b"up")
    stuff(server, b"down")
    bench.loop.settle()
    assert (take(server), take(client)) == (b"up", b"down")
    assert new.house.proxies.drained() == ["p"]
    assert (old.custody.handed, new.custody.handed) == ({"success": 0, "reset": 0}, {"success": 1, "reset": 0})
    assert (old.custody.kept, new.custody.kept) == (1, 1)
    assert shelf.names() == [f"{QUEUE}-3", MARKS]
    new.close()
    old.close()


def test_marks_that_were_inherited_are_used_again(bench: Bench, shelf: Shelf) -> None:
    """Both processes of an upgrade see the same ones."""
    marks = Marks.create(50)
    process = Process(bench, Inherited(marks=marks), shelf)
    assert process.custody.marks is marks
    assert MARKS not in shelf.names()
    process.close()


def test_a_kept_connection_that_ends_leaves_the_books(bench: Bench, shelf: Shelf) -> None:
    """Its slot is free again, so a successor resets nothing for it."""
    process = Process(bench, Inherited(), shelf)
    client, server = process.house.connect("p")
    assert process.custody.leave()
    process.custody.thaw()
    (session,) = process.sessions()
    assert session.link is not None
    slot = session.link.kept
    assert slot
    assert process.custody.marks is not None
    client.close()
    server.close()
    bench.loop.until(lambda: not process.sessions())
    assert process.custody.marks.serial(slot) == 0
    assert process.custody.kept == 0
    process.close()


def test_listening_sockets_are_held_as_long_as_they_listen(bench: Bench, shelf: Shelf) -> None:
    """Under their address, in which a colon would end the name."""
    process = Process(bench, Inherited(), shelf)
    address = Address("::1", 6443)
    doors = Doors(shelf)
    doors.keep({address: process.listener})
    assert "listener-[..1].6443" in shelf.names()
    doors.forget(address)
    assert "listener-[..1].6443" not in shelf.names()
    process.close()
