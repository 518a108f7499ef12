"""Has live connections held by systemd, so that they outlive this process however it ends.

In the fd store are: the listening sockets, the configuration in force, what has happened, the marks (`marks`), and the
receiving end of a queue (`fdqueue`) in which every connection that has lived KEEP_AFTER rides. Short connections never
get there. When the process is killed, the next one finds all of it among its descriptors and goes on.

A connection that has ended cannot be taken out of the queue, so it is shut down for everybody (`Link.shared`), and when
the dead outnumber the living, or the queue is full, the living move to a new one.

Queues are numbered. One that was written *at rest*, by a process that had stopped all movement and was about to leave,
tells everything: bytes in transit, connections still being made. Its number stands in the marks (`Marks.at_rest`), in
memory that systemd holds too. Of any other queue only the descriptors are true: a connection goes on if it still has
its slot and no mark stands, and is reset otherwise ("the marks decide").

    killed when                          the next process finds             so
    -----------------------------------  ---------------------------------  ---------------------------------------
    a slot is taken, the connection      a slot in use that no entry        it is cut: nobody holds it
      not yet in the queue                 is for
    between a read and its write, or     a mark that stands                 it is reset: a gap is never passed on
      with bytes in a pipe
    a connection is shut down, its       its entry and its slot             it goes on, and sees both ends at once
      slot not yet free
    the living move to a new queue       both queues, or the new one        an entry is known by its slot: once is
                                                                              enough
    at a stop, before the last queue     a queue more, not at rest          the marks decide
      is declared at rest
    at a stop, after that; at a start,   a queue at rest, which it only     everything goes on; a start that fails
      before `at_rest` is cleared          looks at (`fdqueue.receive`)       costs nothing
    at a start, after that               its own queue, perhaps the one     the marks decide: bytes in transit were
                                           before it, neither at rest         marked again before (`revive`)
    the old one of an upgrade            the queue of the old process,      the marks decide; the new process ends
                                           which stood still                  without the word to go
    the new one of an upgrade,           the queue of either, and the       the marks decide, which both share
      after the word to go                 marks of both

A message to systemd that gets lost costs connections at the next crash, and never more: a queue that should have been
forgotten is not at rest any more, and one that was not stored is not found. If nobody at all takes the connections
over (a unit that has failed for good), systemd's close resets them.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from socket import SocketType
from typing import Final, Protocol

from lbproxy.config.model import Address
from lbproxy.handover.fdqueue import FdQueue
from lbproxy.handover.marks import Marks, places
from lbproxy.handover.parcel import Parcel, ProcessState, memfd
from lbproxy.handover.revive import parcel_of
from lbproxy.proxy.session import Session
from lbproxy.warnonce import WarnOnce

log = logging.getLogger(__name__)

KEEP_AFTER: Final = 2.0
"""Seconds a connection must have lived to be worth keeping."""
_SLACK: Final = 256
"""Dead entries that are not worth a new queue."""
MARKS: Final = "marks"
QUEUE: Final = "carrier"
"""What the names of queues begin with; as all of these, known to every version."""
LISTENER: Final = "listener"
CONFIG: Final = "config"
EVENTS: Final = "events"


class FdStore(Protocol):
    """systemd's fd store (sd_notify(3))."""

    def store(self, name: str, fds: Sequence[int]) -> None:
        """Hand over copies of descriptors under a name."""

    def forget(self, name: str) -> None:
        """Have those under a name closed."""


def remember(store: FdStore, content: bytes) -> None:
    """Leave the configuration in force to a successor that finds a broken file."""
    try:
        fd = memfd(CONFIG, content)
    except OSError as error:
        log.warning("the configuration cannot be kept for the next process: %s", error.strerror)
        return
    store.forget(CONFIG)
    store.store(CONFIG, [fd])
    os.close(fd)


def events_file(store: FdStore) -> int:
    """Return the descriptor of a new file for what happens, which a successor is given; -1 if there can be none."""
    try:
        fd = memfd(EVENTS, b"")
    except OSError:
        return -1
    store.store(EVENTS, [fd])
    return fd


class Keeper:
    """Feeds the store. `sessions` returns the open ones, `state` what is to be known of the process."""

    def __init__(
        self,
        store: FdStore,
        marks: Marks,
        sessions: Callable[[], Iterable[Session]],
        state: Callable[[], ProcessState],
    ) -> None:
        self.marks = marks
        self._store = store
        self._sessions = sessions
        self._state = state
        self._queue: FdQueue | None = None
        self._number = 0
        self._told: ProcessState = {}
        self.living = 0
        """Connections that it keeps and that are open."""
        self._warning = WarnOnce()

    @property
    def number(self) -> int:
        """The number of the queue in use."""
        return self._number

    def begin(self, inherited: Sequence[int]) -> None:
        """Take over from queues of these numbers; call it before anything moves, with all that goes on revived."""
        self._number = max(inherited, default=0)
        self._repack(forget=False)
        self.marks.at_rest = 0
        for number in inherited:
            self._store.forget(queue_name(number))

    def sweep(self, now: float) -> None:
        """Put in what is old enough and not in yet; call it about once a second."""
        queue = self._queue
        if queue is None:
            self._repack(forget=True)
            return
        parcels = []
        for session in self._sessions():
            link = session.link
            if link is not None and not link.kept and now - session.born >= KEEP_AFTER:
                slot, serial = self.marks.take()
                if slot:
                    link.keep(slot, serial, places(slot))
                    self.living += 1
                    parcels.append(parcel_of(session))
        sent = queue.send(parcels) and self._tell(queue)
        dead = queue.entries - self.living
        if dead > self.living + _SLACK or (not sent and dead > _SLACK):
            self._repack(forget=True)
        elif not sent:
            self._complain()

    def left(self, slot: int) -> None:
        """Take a connection off the books that has been kept and is over."""
        self.marks.free(slot)
        self.living -= 1

    def leave(self, parcels: Iterable[Parcel]) -> bool:
        """Leave everything, frozen and swept before, to the next process; False if it does not all fit."""
        queue = _new_queue()
        if queue is None:
            return False
        # What does not fit, and has nothing to tell but its descriptors, is in the queue before this one too.
        first = sorted(parcels, key=lambda parcel: bool(parcel.slot) and not any(parcel.rests))
        complete = queue.send(first) and queue.send_state(self._state())
        self._put(queue, forget=complete)
        self.marks.at_rest = self._number
        return complete

    def _repack(self, *, forget: bool) -> None:
        """Move the living to a new queue. Both are held for a moment, so that none is ever held by neither."""
        kept = [parcel_of(session) for session in self._sessions() if session.link is not None and session.link.kept]
        self.living = len(kept)
        queue = _new_queue()
        if queue is None:
            self._complain()
            return
        if queue.send(kept):
            self._warning.over()
        else:
            self._complain()
        self._told = {}
        self._tell(queue)
        self._put(queue, forget=forget)

    def _tell(self, queue: FdQueue) -> bool:
        state = self._state()
        if state == self._told:
            return True
        self._told = state
        return queue.send_state(state)

    def _put(self, queue: FdQueue, *, forget: bool) -> None:
        self._store.store(queue_name(self._number + 1), [queue.receiver.fileno()])
        if forget and self._number:
            self._store.forget(queue_name(self._number))
        self._number += 1
        queue.receiver.close()
        if self._queue is not None:
            self._queue.sender.close()
        self._queue = queue

    def _complain(self) -> None:
        if self._warning.news("full"):
            log.warning(
                "not all of %d connections can be kept over a crash: raise net.core.wmem_max or LimitNOFILE",
                self.living,
            )


def _new_queue() -> FdQueue | None:
    try:
        return FdQueue()
    except OSError:  # no descriptors left
        return None


def queue_name(number: int) -> str:
    """Return the fd store's name of a queue."""
    return f"{QUEUE}-{number}"


class Doors:
    """The listening sockets that are kept, in `store` if there is one."""

    def __init__(self, store: FdStore | None) -> None:
        self._store = store

    def keep(self, sockets: Mapping[Address, SocketType]) -> None:
        """Keep sockets that listen from now on."""
        if self._store is not None:
            for address, sock in sockets.items():
                self._store.store(_door(address), [sock.fileno()])

    def forget(self, address: Address) -> None:
        """Keep a socket no longer."""
        if self._store is not None:
            self._store.forget(_door(address))


def _door(address: Address) -> str:
    """Return the fd store's name of a listener; a colon would end it."""
    return f"{LISTENER}-{address}".replace(":", ".")
