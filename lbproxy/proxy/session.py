"""One client's life from accept to close: it looks for a server (`search`), then a link moves its bytes.

`phases` says how far it has come. While it is linked this object only keeps the books.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from lbproxy.balance.evidence import CLOSED_AT_ONCE, CLOSED_PATIENTLY, OTHER_REFUSED, VANISHED
from lbproxy.balance.server import Server
from lbproxy.net.closing import end_shared, reset
from lbproxy.net.contract import Socket, SocketAddress
from lbproxy.net.poller import Poller
from lbproxy.net.tcpinfo import IN_VAIN, UNDER_WAY, unanswered
from lbproxy.net.timers import NEVER
from lbproxy.proxy.backend import Backend
from lbproxy.proxy.phases import (
    DIALLING,
    END,
    ENDED,
    FREEZE,
    HEDGING,
    LINK,
    LINKED,
    LINKED_AT_REST,
    START,
    TABLE,
    WAITING,
)
from lbproxy.proxy.search import SILENT_CLIENT, Search, Seeker
from lbproxy.relay.link import CLIENT_FIN, ERROR, SERVER_FIN, SERVER_RST, SERVER_TIMEOUT, Link

_NOTHING: Final = (b"", b"")
"""In transit, up and down."""


class Session(Seeker):
    """A client's connection. It is made at rest. `on_end(session, reason, why)` is called once, at the close."""

    __slots__ = ("_client_fd", "_cut_for", "_idle_due", "_on_end", "_poller", "_search", "_silent_since", "link")

    def __init__(
        self,
        poller: Poller,
        backend: Backend,
        client: Socket,
        peer: SocketAddress,
        on_end: Callable[[Session, str, str], None],
    ) -> None:
        super().__init__(backend, client, peer, poller.now)
        self._poller = poller
        self._on_end = on_end
        self._client_fd = client.fileno()
        self._cut_for = ""
        """Why it is to be cut once it goes on, if that was asked for while it stood still."""
        self._search: Search | None = None
        self._idle_due = 0.0
        """When to ask next how long it has been idle."""
        self._silent_since = NEVER
        """Since when the server has acknowledged nothing that it should."""
        self.link: Link | None = None

    def own_name(self) -> SocketAddress | None:
        """Return the address that the server knows it by, None while none is connected."""
        link = self.link
        search = self._search
        server = link.server if link is not None else search.at_hand if search is not None else None
        try:
            return server.getsockname() if server is not None else None
        except OSError:
            return None

    def bytes_moved(self) -> tuple[int, int]:
        """Return the client's bytes that went to the server, and the bytes that went to the client."""
        link = self.link
        if link is not None:
            return max(link.up.moved, 0), link.down.moved
        search = self._search
        return max(search.sent, 0) if search is not None else 0, 0

    def due(self, now: float) -> float:
        """Look after timeouts; returns when to be called again."""
        link = self.link
        if self.phase == LINKED and link is not None:
            self.harden(link.server)
            return min(self._unanswered(link, now), self._idle(link, now))
        search = self._search
        when = search.due(now) if search is not None else NEVER
        return when if self.phase != ENDED else NEVER

    def _idle(self, link: Link, now: float) -> float:
        """Cut it if it has been idle for too long; returns when to look again."""
        if now >= self._idle_due and self.phase == LINKED:
            self._idle_due = link.overdue(self.backend.settings.idle_timeout, now)
        return self._idle_due if self.phase == LINKED else NEVER

    def _unanswered(self, link: Link, now: float) -> float:
        """Cut it if the server is gone (`vitals`); returns when to look again."""
        timeout = self.backend.settings.tcp_user_timeout
        if not timeout:
            return NEVER
        try:
            waited = unanswered(link.server)
        except OSError:
            return NEVER
        if not waited:
            self._silent_since = NEVER
            return now + timeout / 2
        if self._silent_since == NEVER:
            self._silent_since = now - min(waited, IN_VAIN)
            return max(self._silent_since + timeout, now + UNDER_WAY)  # an answer may be on the way
        self._silent_since = max(self._silent_since, now - waited)  # it has acknowledged something since
        if now < self._silent_since + timeout:
            return self._silent_since + timeout
        link.abort(SERVER_TIMEOUT)
        return NEVER

    def refresh(self) -> None:
        """Have new settings take effect on a live connection."""
        self._hardened = None
        self._idle_due = 0.0
        self._poller.at(self, self._poller.now)

    def move_on(self, server: Server) -> None:
        """Turn to another server if this one, just found down, has not come to its first byte here."""
        search = self._search
        if search is not None:
            search.move_on(server)

    def cut(self, reason: str) -> None:
        """Close both sides with a reset; at rest, when the sockets may be another process's, once it goes on."""
        link = self.link
        if self.phase == LINKED and link is not None:
            link.abort(reason)
        elif self.phase == LINKED_AT_REST:
            self._cut_for = reason
        elif self.phase in (DIALLING, WAITING, HEDGING):
            self.failed(reason, "", abort=True)

    def crashed(self) -> None:
        """Cut after a bug."""
        self.cut(ERROR)

    def freeze(self) -> tuple[bytes, tuple[bytes, bytes]]:
        """Come to rest; returns what the client has said, or the bytes in transit (up, down) of a linked session."""
        self.phase = TABLE[self.phase | FREEZE]
        link = self.link
        if link is not None:
            return b"", link.freeze()
        search = self._search
        flight = search.stop() if search is not None else b""
        self._search = None
        self.shared = True
        self._poller.timers.drop(self)
        self._poller.remove(self._client_fd)
        self.part()
        return flight, _NOTHING

    def thaw(self, flight: bytes = b"", rests: tuple[bytes, bytes] = _NOTHING) -> None:
        """Begin, or go on with what `freeze` has returned, in this process or in another one."""
        self.phase = TABLE[self.phase | START]
        link = self.link
        if link is None:
            self._search = search = Search(self._poller, self, flight)
            search.start()
            return
        link.thaw(rests)
        if self._cut_for:
            self.cut(self._cut_for)
        if self.phase != ENDED:
            self._poller.at(self, self._poller.now)

    def linked(self, link: Link) -> None:
        """Go on with a link: the search has come to its end, or, at rest, it was another process's."""
        self.phase = TABLE[self.phase | LINK]
        self.link = link
        self._search = None

    def failed(self, reason: str, why: str, *, abort: bool) -> None:
        """Close the client without a link."""
        search = self._search
        if search is not None:
            search.stop()
        if self.shared:
            self._poller.remove(self._client_fd)
            end_shared(self.client, abort)
        elif abort:
            reset(self.client)
        self._poller.close_later(self._client_fd, self.client)
        self._over(reason, why)

    def ended(self, reason: str) -> None:
        """Called when the link is over: take in what that says of the server."""
        link = self.link
        server = self.server
        if link is not None and server is not None:
            now = self._poller.now
            if link.down.moved:
                self.backend.answered(server, NEVER, now)
            elif reason == SERVER_TIMEOUT:
                self.backend.saw(server, VANISHED, "acknowledges nothing any more", now)
            elif reason in (SERVER_FIN, SERVER_RST) and link.first_fin != CLIENT_FIN:
                said_nothing = CLOSED_AT_ONCE if now - self.born <= SILENT_CLIENT else CLOSED_PATIENTLY
                seen = OTHER_REFUSED if link.up.moved > 0 else said_nothing
                self.backend.saw(server, seen, "ended a connection before its first byte", now, f"early_{reason}")
        self._over(reason, "")

    def _over(self, reason: str, why: str) -> None:
        self.phase = TABLE[self.phase | END]
        self._poller.timers.drop(self)
        self._on_end(self, reason, why)
        self.part()
        self._search = None
        self.link = None
