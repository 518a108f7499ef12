"""Has live connections held by systemd, so that they outlive this process however it ends.

Three things are in the fd store: the listening sockets, the marks (`relay.marks`), and the receiving end of a carrier
(`carrier`) in which every connection that has lived KEEP_AFTER rides. Short connections never get there. When the
process is killed, the next one finds all three among its descriptors and goes on.

A connection that has ended cannot be taken out of the carrier, so it is shut down for everybody (`Link.slot`), and when
the dead outnumber the living, or the carrier is full, the living move to a new one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Protocol

from lbproxy.carrier import Carrier
from lbproxy.handover import Parcel
from lbproxy.parcels import parcel_of
from lbproxy.relay.marks import Marks
from lbproxy.session import Session

log = logging.getLogger(__name__)

KEEP_AFTER: Final = 2.0
"""Seconds a connection must have lived to be worth keeping."""
_SLACK: Final = 256
"""Dead entries that are not worth a new carrier."""
MARKS: Final = "marks"
CARRIER: Final = "carrier"
LISTENER: Final = "listener"
CONFIG: Final = "config"


class Store(Protocol):
    """systemd's fd store (sd_notify(3))."""

    def store(self, name: str, fds: Sequence[int]) -> None:
        """Hand over copies of descriptors under a name."""

    def forget(self, name: str) -> None:
        """Have those under a name closed."""


class Keeper:
    """Feeds the store. `sessions` returns those that are connected, `state` what is to be known of the process."""

    def __init__(
        self,
        store: Store,
        marks: Marks,
        sessions: Callable[[], Iterable[Session]],
        state: Callable[[], dict[str, Any]],
    ) -> None:
        self.marks = marks
        self._store = store
        self._sessions = sessions
        self._state = state
        self._carrier: Carrier | None = None
        self._number = 0
        self._told: dict[str, Any] = {}
        self._living = 0
        self._complained = False

    def begin(self, inherited: str | None) -> None:
        """Store marks and a carrier; `inherited` is the name of the last one, which is then given up."""
        if inherited is None:
            self._store.store(MARKS, [self.marks.fd])
        else:
            self._number = int(inherited.partition("-")[2] or 0)
        self.repack()

    def sweep(self, now: float) -> None:
        """Put in what is old enough and not in yet; call it about once a second."""
        carrier = self._carrier
        if carrier is None:
            return
        parcels = []
        for session in self._sessions():
            link = session.link
            if link is not None and not link.slot and now - session.born >= KEEP_AFTER:
                slot, serial = self.marks.take()
                if slot:
                    link.keep(slot, serial)
                    self._living += 1
                    parcels.append(parcel_of(session))
        sent = carrier.send(parcels) and self._tell(carrier)
        if not sent or carrier.entries > 2 * self._living + _SLACK:
            self.repack()

    def _tell(self, carrier: Carrier) -> bool:
        state = self._state()
        if state == self._told:
            return True
        self._told = state
        return carrier.send_state(state)

    def left(self, slot: int) -> None:
        """Take a connection off the books that has been kept and is over."""
        self.marks.free(slot)
        self._living -= 1

    def repack(self) -> None:
        """Move the living to a new carrier. Both are held for a moment, so that none is ever held by neither."""
        old = self._carrier
        carrier = Carrier()
        kept = [parcel_of(session) for session in self._sessions() if session.link is not None and session.link.slot]
        if not carrier.send(kept) and not self._complained:
            self._complained = True
            log.warning("not all of %d connections can be kept over a crash: raise net.core.wmem_max or LimitNOFILE",
                        len(kept))
        self._living = len(kept)
        self._told = {}
        self._tell(carrier)
        self._put(carrier, old)

    @property
    def carrier_name(self) -> str:
        """The name under which the fd store has the carrier in use."""
        return f"{CARRIER}-{self._number}"

    def leave(self, parcels: Iterable[Parcel]) -> bool:
        """Put everything, frozen, into a last carrier; False if it does not all fit."""
        carrier = Carrier()
        complete = carrier.send(parcels)
        carrier.send_state(self._state())
        self._put(carrier, self._carrier)
        return complete

    def _put(self, carrier: Carrier, old: Carrier | None) -> None:
        self._store.store(f"{CARRIER}-{self._number + 1}", [carrier.receiver.fileno()])
        self._store.forget(f"{CARRIER}-{self._number}")
        self._number += 1
        carrier.receiver.close()
        if old is not None:
            old.sender.close()
        self._carrier = carrier
