"""The new process's side of an upgrade, with a hand-made old one at the other end of the pair."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator

import pytest

from lbproxy import __version__
from lbproxy.config.model import Address
from lbproxy.errors import HandoverError
from lbproxy.handover.fdqueue import FdQueue
from lbproxy.handover.marks import Marks
from lbproxy.handover.messages import Connections, Go, Have, Hello, Message, Ready, Refused, decode, encode
from lbproxy.handover.parcel import VERSION, Parcel
from lbproxy.handover.takeover import Takeover
from lbproxy.handover.upgrade import VARIABLE


class Old:
    """The other end. What it says is there to be read before it is asked for."""

    def __init__(self) -> None:
        self.sock, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.sock.settimeout(10)
        self.takeover = Takeover(theirs.detach())
        self.done: list[str] = []

    def say(self, message: Message, *fds: int) -> None:
        """Send a message, and descriptors with it."""
        socket.send_fds(self.sock, [encode(message)], fds)

    def send(self, *parcels: Parcel) -> None:
        """Send every connection."""
        queue = FdQueue()
        self.say(Connections(), queue.receiver.fileno())
        queue.send(parcels)
        queue.send_state({"drained": ["m1"], "carrier": 4})
        queue.close()

    def run(self) -> None:
        """Have the new process take over."""

        async def prepare() -> None:
            self.done.append("prepared")

        async def serve() -> None:
            self.done.append(f"serves {len(self.takeover.inherited.rested)}")

        asyncio.run(self.takeover.run(prepare, serve))

    def close(self) -> None:
        """Close everything that is open."""
        self.sock.close()
        self.takeover._sock.close()
        inherited = self.takeover.inherited
        for sock in inherited.listeners.values():
            sock.close()
        for parcel in inherited.rested:
            os.close(parcel.client_fd)
        if inherited.marks is not None:
            inherited.marks.close()


@pytest.fixture
def old() -> Iterator[Old]:
    """Make an old process, and end it."""
    made = Old()
    yield made
    made.close()


def test_it_is_asked_for_by_the_environment_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """And once: a child of the new process is not meant."""
    monkeypatch.delenv(VARIABLE, raising=False)
    assert Takeover.asked_for() is None
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    monkeypatch.setenv(VARIABLE, str(theirs.detach()))
    takeover = Takeover.asked_for()
    assert takeover is not None
    assert Takeover.asked_for() is None
    takeover._sock.close()
    ours.close()


def test_listeners_and_marks_come_first(old: Old) -> None:
    """The marks are the last descriptor, if there are any."""
    marks = Marks.create(3)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        old.say(Hello(VERSION, "1.0", True), listener.fileno(), marks.fd)
        old.takeover.meet()
        assert list(old.takeover.inherited.listeners) == [Address(*listener.getsockname())]
    marks.at_rest = 7
    assert old.takeover.inherited.marks is not None
    assert old.takeover.inherited.marks.at_rest == 7
    marks.close()


def test_another_version_is_not_taken_over_from(old: Old) -> None:
    """The operator reads both versions, and the old process hears why."""
    old.say(Hello(VERSION + 1, "9.9", False))
    with pytest.raises(HandoverError, match=rf"^handover version {VERSION + 1} of lbproxy 9.9"):
        old.takeover.meet()
    old.takeover.refuse("not with you")
    assert decode(old.sock.recv(4096), Refused) == Refused("not with you")


def test_everything_is_taken_over_and_served_at_the_word_to_go(old: Old) -> None:
    """Not before; what can fail has been done by then."""
    old.send(*(Parcel(client_fd=0, proxy="p", peer=("::1", 1), born=0.0, slot=slot) for slot in (1, 2)))
    old.say(Go())
    old.run()
    assert old.done == ["prepared", "serves 2"]
    ready = Ready(__version__, os.getpid())
    assert (decode(old.sock.recv(4096), Ready), decode(old.sock.recv(4096), Have)) == (ready, Have())
    assert old.takeover.inherited.events == -1
    assert (old.takeover.inherited.state, old.takeover.inherited.queues) == ({"drained": ["m1"], "carrier": 4}, [4])


def test_the_file_of_events_comes_with_the_connections(old: Old) -> None:
    """Behind the queue: who does not know of it takes the first descriptor alone."""
    file, theirs = os.pipe()
    queue = FdQueue()
    old.say(Connections(), queue.receiver.fileno(), file)
    queue.close()
    old.say(Go())
    old.run()
    assert os.path.sameopenfile(old.takeover.inherited.events, file)
    for fd in (file, theirs, old.takeover.inherited.events):
        os.close(fd)


@pytest.mark.parametrize("said", [0, 1])
def test_nothing_is_served_without_the_word_to_go(old: Old, said: int) -> None:
    """The old process has gone before it sent the connections, or before it gave the word."""
    if said:
        old.send()
    old.sock.shutdown(socket.SHUT_WR)
    with pytest.raises(HandoverError, match=r"^the process to take over from has gone$"):
        old.run()
    assert old.done == ["prepared"]


def test_an_old_process_that_is_dead_is_not_told_of_a_refusal(old: Old) -> None:
    """The line in the log is the one that says why, and no traceback after it."""
    old.sock.close()
    old.takeover.refuse("too late")


def test_marks_that_were_lost_on_the_way_are_an_error(old: Old) -> None:
    """Where there is room for no descriptor the kernel drops them all, and the message arrives."""
    old.say(Hello(VERSION, "0.9", True))
    with pytest.raises(HandoverError, match="LimitNOFILE"):
        old.takeover.meet()


def test_connections_of_which_descriptors_were_lost_are_refused_whole(old: Old) -> None:
    """Whose they were cannot be known."""
    old.say(Connections())
    with pytest.raises(HandoverError, match="LimitNOFILE"):
        old.run()
    assert old.done == ["prepared"]
