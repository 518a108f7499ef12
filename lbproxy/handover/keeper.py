"""Has live connections held by systemd, so that they outlive this process however it ends.

In the fd store are: the listening sockets, the configuration in force, the marks (`relay.marks`), and the receiving end
of a carrier (`carrier`) in which every connection that has lived KEEP_AFTER rides. Short connections never get there.
When the process is killed, the next one finds all of it among its descriptors and goes on.

A connection that has ended cannot be taken out of the carrier, so it is shut down for everybody (`Link.kept`), and when
the dead outnumber the living, or the carrier is full, the living move to a new one.

When may a successor go on with what it finds? Carriers are numbered. One that was written *at rest*, by a process that
had stopped all movement and was about to leave, tells everything: bytes in transit, connections still being made. Its
number stands in the marks (`Marks.at_rest`), in memory that systemd holds too. Of any other carrier only the
descriptors are true: a connection goes on if it has its slot still and no mark stands, and is reset otherwise. What
happens to a process that is killed

- between the entry in the marks and the one in the carrier: that connection is cut, nobody holds it;
- between a read and its write, or with bytes in a pipe: the mark stands, it is reset;
- between the end of a connection and that of its slot: the sockets are shut down already, the next one sees them end;
- while it repacks: both carriers are there or only the new one; second entries of a connection are known by its slot;
- at a stop, before the last carrier is declared at rest: the marks decide, as in any crash. After it, nothing moves;
- at a start, before `at_rest` is cleared: nothing has moved, and the last carrier still tells everything: it is only
  looked at (`carrier.receive`), so a start that fails costs nothing either;
- at a start, after that: the marks decide. Bytes in transit have been marked again before (`parcels.revive`);
- as the old one of an upgrade, before it names the new one to systemd: it is frozen, the marks decide, and the new one
  ends when their socket does. After: the new one is the service; without the word to go it ends, and the marks decide;
- as the new one of an upgrade: the old one goes on if it has not yet said go, else the marks, which both share, decide.

A message to systemd that gets lost costs connections at the next crash, and never more: a carrier that should have been
forgotten is not at rest any more, and one that was not stored is not found. If nobody at all takes the connections
over (`systemctl stop`, a unit that has failed for good), systemd's close resets them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol

from lbproxy.config.model import Address
from lbproxy.handover.fdqueue import FdQueue
from lbproxy.handover.marks import Marks, places
from lbproxy.handover.parcel import Parcel, ProcessState
from lbproxy.handover.revive import parcel_of
from lbproxy.proxy.session import Session
from lbproxy.warnonce import WarnOnce

log = logging.getLogger(__name__)

KEEP_AFTER: Final = 2.0
"""Seconds a connection must have lived to be worth keeping."""
_SLACK: Final = 256
"""Dead entries that are not worth a new carrier."""
MARKS: Final = "marks"
CARRIER: Final = "carrier"
LISTENER: Final = "listener"
CONFIG: Final = "config"


class FdStore(Protocol):
    """systemd's fd store (sd_notify(3))."""

    def store(self, name: str, fds: Sequence[int]) -> None:
        """Hand over copies of descriptors under a name."""

    def forget(self, name: str) -> None:
        """Have those under a name closed."""


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
        self._carrier: FdQueue | None = None
        self._number = 0
        self._told: ProcessState = {}
        self._living = 0
        self._warning = WarnOnce()

    @property
    def number(self) -> int:
        """The number of the carrier in use."""
        return self._number

    def begin(self, inherited: Sequence[int]) -> None:
        """Take over from carriers of these numbers; call it before anything moves, with all that goes on revived."""
        self._number = max(inherited, default=0)
        self._repack(forget=False)
        self.marks.at_rest = 0
        for number in inherited:
            self._store.forget(carrier_name(number))

    def sweep(self, now: float) -> None:
        """Put in what is old enough and not in yet; call it about once a second."""
        carrier = self._carrier
        if carrier is None:
            self._repack(forget=True)
            return
        parcels = []
        for session in self._sessions():
            link = session.link
            if link is not None and not link.kept and now - session.born >= KEEP_AFTER:
                slot, serial = self.marks.take()
                if slot:
                    link.keep(slot, serial, places(slot))
                    self._living += 1
                    parcels.append(parcel_of(session))
        sent = carrier.send(parcels) and self._tell(carrier)
        dead = carrier.entries - self._living
        if dead > self._living + _SLACK or (not sent and dead > _SLACK):
            self._repack(forget=True)
        elif not sent:
            self._complain()

    def left(self, slot: int) -> None:
        """Take a connection off the books that has been kept and is over."""
        self.marks.free(slot)
        self._living -= 1

    def leave(self, parcels: Iterable[Parcel]) -> bool:
        """Leave everything, frozen and swept before, to the next process; False if it does not all fit."""
        carrier = _carrier()
        if carrier is None:
            return False
        # What does not fit, and has nothing to tell but its descriptors, is in the carrier before this one too.
        first = sorted(parcels, key=lambda parcel: bool(parcel.slot) and not any(parcel.rests))
        complete = carrier.send(first) and carrier.send_state(self._state())
        self._put(carrier, forget=complete)
        self.marks.at_rest = self._number
        return complete

    def _repack(self, *, forget: bool) -> None:
        """Move the living to a new carrier. Both are held for a moment, so that none is ever held by neither."""
        kept = [parcel_of(session) for session in self._sessions() if session.link is not None and session.link.kept]
        self._living = len(kept)
        carrier = _carrier()
        if carrier is None:
            self._complain()
            return
        if carrier.send(kept):
            self._warning.over()
        else:
            self._complain()
        self._told = {}
        self._tell(carrier)
        self._put(carrier, forget=forget)

    def _tell(self, carrier: FdQueue) -> bool:
        state = self._state()
        if state == self._told:
            return True
        self._told = state
        return carrier.send_state(state)

    def _put(self, carrier: FdQueue, *, forget: bool) -> None:
        self._store.store(carrier_name(self._number + 1), [carrier.receiver.fileno()])
        if forget and self._number:
            self._store.forget(carrier_name(self._number))
        self._number += 1
        carrier.receiver.close()
        if self._carrier is not None:
            self._carrier.sender.close()
        self._carrier = carrier

    def _complain(self) -> None:
        if self._warning.news("full"):
            log.warning(
                "not all of %d connections can be kept over a crash: raise net.core.wmem_max or LimitNOFILE",
                self._living,
            )


def _carrier() -> FdQueue | None:
    try:
        return FdQueue()
    except OSError:  # no descriptors left
        return None


def carrier_name(number: int) -> str:
    """Return the fd store's name of a carrier."""
    return f"{CARRIER}-{number}"


def stored_name(address: Address) -> str:
    """Return the fd store's name of a listener; a colon would end it."""
    return f"{LISTENER}-{address}".replace(":", ".")
