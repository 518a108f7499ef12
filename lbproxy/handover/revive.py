"""Sessions to parcels, and parcels back to sessions."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from socket import SocketType

from lbproxy.balance.server import Lease, Server
from lbproxy.handover.marks import Marks, places
from lbproxy.handover.parcel import Parcel
from lbproxy.net.poller import Poller
from lbproxy.proxy.backend import Backend
from lbproxy.proxy.session import Session
from lbproxy.record import dataclass
from lbproxy.relay.link import Link


@dataclass(frozen=True, slots=True)
class AtRest:
    """A session that stands still, with what `Session.thaw` wants to know: see `Session.freeze`."""

    session: Session
    flight: bytes = b""
    rests: tuple[bytes, bytes] = (b"", b"")

    @classmethod
    def freeze(cls, session: Session) -> AtRest:
        """Bring a session to rest."""
        return cls(session, *session.freeze())

    def parcel(self) -> Parcel:
        """Describe it whole."""
        return parcel_of(self.session, self.flight, self.rests)

    def thaw(self) -> None:
        """Let it go on."""
        self.session.thaw(self.flight, self.rests)


def parcel_of(session: Session, flight: bytes = b"", rests: tuple[bytes, bytes] = (b"", b"")) -> Parcel:
    """Describe a session, with what it has in transit if it is at rest. Its descriptors stay its own."""
    parcel = Parcel(
        client_fd=session.client.fileno(),
        proxy=session.backend.name,
        peer=session.peer,
        born=session.born,
        flight=flight,
        rests=rests,
    )
    link = session.link
    server = session.server
    if link is not None and server is not None:
        parcel.server_fd = link.server.fileno()
        parcel.server = server.key
        parcel.moved = session.bytes_moved()
        parcel.first_fin = link.first_fin
        parcel.slot, parcel.serial = link.kept, link.serial
    return parcel


def revive(
    parcel: Parcel,
    poller: Poller,
    backend: Backend,
    server: Server | None,
    on_end: Callable[[Session, str, str], None],
) -> Session:
    """Return the session of a parcel, with its descriptors; nothing moves before it is thawed.

    Without a `server` it looks for one.
    """
    client = SocketType(fileno=parcel.client_fd)
    session = Session(poller, backend, client, parcel.peer, on_end)
    session.born = parcel.born
    session.shared = True
    if server is not None:
        session.lease = Lease(server)
        link = Link(poller, session, client, SocketType(fileno=parcel.server_fd))
        link.up.moved, link.down.moved = parcel.moved
        link.first_fin = parcel.first_fin
        link.preload(parcel.rests)
        if parcel.slot:
            link.keep(parcel.slot, parcel.serial, places(parcel.slot))
        session.linked(link)
    return session


def close(parcel: Parcel) -> None:
    """Close the descriptors of a parcel that nobody takes."""
    os.close(parcel.client_fd)
    if parcel.server_fd >= 0:
        os.close(parcel.server_fd)


def sift(rested: list[Parcel], kept: Iterable[Parcel], marks: Marks | None) -> tuple[list[Parcel], list[Parcel]]:
    """Part what a predecessor left into connections that can go on and ones that must be reset.

    `rested` were written when nothing moved any more: they tell all there is, and stand above the marks. `kept` were
    written while the connection went on, the newest last. Of those only the descriptors are true, and only while the
    slot is still the connection's: an older entry of the same one, or one of a connection that has ended, is closed.
    One whose mark stands had bytes in the memory of the process that was killed.
    """
    told = {(parcel.slot, parcel.serial) for parcel in rested if parcel.slot}
    newest: dict[tuple[int, int], Parcel] = {}
    holed: list[Parcel] = []
    for parcel in kept:
        key = (parcel.slot, parcel.serial)
        if marks is None:
            holed.append(parcel)
        elif key in told or not parcel.slot or marks.serial(parcel.slot) != parcel.serial:
            close(parcel)
        else:
            if key in newest:
                close(newest[key])
            parcel.rests = (b"", b"")
            newest[key] = parcel
    good = list(rested)
    for parcel in newest.values():
        (holed if marks is not None and marks.marked(parcel.slot) else good).append(parcel)
    return good, holed
