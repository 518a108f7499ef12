"""The connections of one proxy: let in, found by their server, cut, and counted and told of when they are over."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Final

from lbproxy.balance.histogram import LIFE, Seconds
from lbproxy.balance.server import Server
from lbproxy.balance.shared import Cell
from lbproxy.net import sockets as socks
from lbproxy.net.bugs import for_each, met_bug
from lbproxy.net.closing import close, reset
from lbproxy.net.contract import Socket, SocketAddress
from lbproxy.net.poller import Poller
from lbproxy.proxy.backend import Backend
from lbproxy.proxy.circles import Circles
from lbproxy.proxy.listener import ConnectionLimit
from lbproxy.proxy.search import NO_SERVER, UNREACHABLE
from lbproxy.proxy.session import Session

log = logging.getLogger("lbproxy.proxy")
access: Final = logging.getLogger("lbproxy.access")
"""One line per connection that is over; `process.log` disables it where none is wanted."""

MAX_CONNECTIONS: Final = "max_connections"
SHUTDOWN: Final = "shutdown"
SERVER_DOWN: Final = "server_down"
SERVER_SICK: Final = "server_sick"
DRAINED: Final = "drained"
REMOVED: Final = "removed"
REBALANCED: Final = "rebalance"
CUTS: Final = (SERVER_DOWN, SERVER_SICK, DRAINED, REMOVED, REBALANCED)
"""What lbproxy decides itself, and therefore counts per server."""
_COMPLAIN_EVERY: Final = 1.0


class Sessions:
    """The open connections, and the counts of all there have been since the process began.

    `unkept` is called with the slot of each that somebody else held too (`Link.kept`) and that is over.
    """

    def __init__(self, poller: Poller, backend: Backend, limit: ConnectionLimit, unkept: Callable[[int], None]) -> None:
        self._poller = poller
        self._backend = backend
        self._limit = limit
        self._unkept = unkept
        self._open: set[Session] = set()
        self.cell: Cell | None = None
        """Where other processes count theirs, if there are any."""
        self._circles = Circles(poller, backend, self)
        self._complained_at = -_COMPLAIN_EVERY
        self._unsaid = 0
        self.on_end: Final = self._ended
        """What a session of this proxy calls at its end."""
        self.total = 0
        self.closed: dict[str, int] = {}
        """By reason."""
        self.lived = Seconds(LIFE)
        """How long those in `closed` were open, in this process or in those before it."""
        self.rejected: dict[str, int] = {}
        """Clients that were not served, by reason."""

    def __len__(self) -> int:
        return len(self._open)

    def __contains__(self, session: object) -> bool:
        return session in self._open

    def __iter__(self) -> Iterator[Session]:
        """Yield those that are open now, of which any may end meanwhile."""
        return iter(list(self._open))

    def accept(self, client: Socket, peer: SocketAddress) -> None:
        """Serve a client that a listener has let in, or turn it away."""
        self.total += 1
        if self.total >= self._circles.look_at:
            self._circles.look(self.total)
        if not self._has_room():
            _count(self.rejected, MAX_CONNECTIONS)
            reset(client)
            close(client)
            self._limit.release()
            return
        session = Session(self._poller, self._backend, client, peer, self.on_end)
        self._open.add(session)
        try:
            session.thaw()
        except Exception:
            met_bug(session)

    def _has_room(self) -> bool:
        """Whether there may be one more; with other processes, it is then counted in."""
        most = self._backend.max_connections
        cell, shares = self.cell, self._backend.pool.shares
        if cell is None or shares is None:
            return not most or len(self._open) < most
        one_more = len(self._open) + 1
        if not most or one_more + cell.elsewhere() + shares.size <= most:
            cell.put(one_more)
            return True
        shares.guard.take()
        try:
            fits = one_more + cell.elsewhere() <= most
            if fits:
                cell.put(one_more)
            return fits
        finally:
            shares.guard.release()

    def share(self, cell: Cell | None) -> None:
        """Count in `cell` too, from now on."""
        self.cell = cell
        self._counted()

    def _counted(self) -> None:
        if self.cell is not None:
            self.cell.put(len(self._open))

    def take_in(self, session: Session) -> None:
        """Count in a connection that was another process's, made with `on_end`."""
        self._open.add(session)
        self._counted()
        self._limit.acquire()

    def of(self, server: Server) -> Iterator[Session]:
        """Return those that are connected to `server`."""
        return (session for session in self if session.server is server)

    def quiet(self, server: Server, seconds: float) -> Iterator[Session]:
        """Return those of `server` on which no byte has moved for so long, or only the server speaks and is at rest.

        A watch that tells of something every second is never quiet; between two messages it may be moved all the same.
        """
        return (each for each in self.of(server) if each.link is not None and each.link.at_rest(seconds))

    def cut(self, server: Server, reason: str) -> int:
        """Cut every connection to `server`; returns how many."""
        victims = list(self.of(server))
        for_each(victims, lambda session: session.cut(reason))
        return len(victims)

    def close(self, reason: str) -> None:
        """Cut everything."""
        for_each(self, lambda session: session.cut(reason))

    def move_on(self, server: Server) -> None:
        """Turn those elsewhere that are at `server` and have not had a byte from it."""
        for_each(self, lambda session: session.move_on(server))

    def refresh(self) -> None:
        """Have new settings take effect on live connections."""
        for_each(self, lambda session: session.refresh())

    def welcome_back(self, servers: list[Server]) -> None:
        """Count connections that a server still has from before it was removed as its own again: it may keep them."""
        added = {(server.key, server.endpoint): server for server in servers}
        for session in self._open:
            lease = session.lease
            server = added.get((lease.server.key, lease.server.endpoint)) if lease is not None else None
            if server is not None and lease is not None:
                lease.move(server)

    def _ended(self, session: Session, reason: str, why: str) -> None:
        self._open.discard(session)
        self._counted()
        self._limit.release()
        link = session.link
        if link is not None and link.kept:
            self._unkept(link.kept)
        moved = session.bytes_moved()
        server = session.server
        if server is not None:
            server.counts.bytes_in += moved[0]
            server.counts.bytes_out += moved[1]
            if reason in CUTS:
                _count(server.counts.cuts, reason)
        if reason in (UNREACHABLE, NO_SERVER):
            _count(self.rejected, reason)
            self._backend.nobody()
            self._complain(why)
        else:
            _count(self.closed, reason)
            self.lived.add(self._poller.now - session.born)
        if not access.disabled:
            self._tell(session, reason)

    def _tell(self, session: Session, reason: str) -> None:
        to_server, to_client = session.bytes_moved()
        server = session.server
        access.info(
            "%s %s -> %s %.3fs in=%d out=%d %s",
            self._backend.name,
            socks.name(session.peer),
            server.name if server is not None else "-",
            self._poller.now - session.born,
            to_server,
            to_client,
            reason,
        )

    def _complain(self, why: str) -> None:
        now = self._poller.now
        if now - self._complained_at < _COMPLAIN_EVERY:
            self._unsaid += 1
            return
        more = f" ({self._unsaid} more since the last such line)" if self._unsaid else ""
        log.warning("%s: a client could not be served: %s%s", self._backend.name, why, more)
        self._complained_at, self._unsaid = now, 0


def _count(counts: dict[str, int], what: str) -> None:
    counts[what] = counts.get(what, 0) + 1
