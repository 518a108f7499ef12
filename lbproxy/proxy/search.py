"""One client's search for a server that answers: dial, wait for the first byte, ask another one.

With `first_byte_timeout: 0` the first server that connects is the one. No server is asked twice for the same client.
`phases` has the theory, and the whole of it as a table.
"""

from __future__ import annotations

from typing import Final

from lbproxy.balance.evidence import (
    ANOTHER,
    CLOSED_AT_ONCE,
    CLOSED_PATIENTLY,
    HELLO_CUT_SHORT,
    HELLO_GIVEN_UP,
    HELLO_REFUSED,
    HELLO_UNANSWERED,
    LEFT_SOON,
)
from lbproxy.balance.evidence import (
    CONNECTED as CAN_CONNECT,
)
from lbproxy.balance.server import Lease, Server
from lbproxy.net import sockets as socks
from lbproxy.net.contract import Socket, SocketAddress
from lbproxy.net.poller import Handler, Poller
from lbproxy.net.timers import NEVER
from lbproxy.proxy.backend import Backend
from lbproxy.proxy.dial import STAGGER, Attempt, Dial, Dialler
from lbproxy.proxy.firstbyte import FirstByte
from lbproxy.proxy.phases import (
    AT_REST,
    CONNECTED,
    ENDED,
    HEDGING,
    LINKED,
    LOST,
    NO_OTHER,
    SILENT,
    TABLE,
    WAITING,
)
from lbproxy.relay.link import IDLE_TIMEOUT, SERVER_FIN, SERVER_RST, Link, LinkOwner

UNREACHABLE: Final = "unreachable"
NO_SERVER: Final = "no_server"
CLIENT_LEFT: Final = "client_left"
SILENT_CLIENT: Final = 3.0
"""Seconds. A client sends its first bytes with the connect; who waits this long may be left by any server."""


class Seeker(Handler, LinkOwner):
    """A client for whom a server is looked for: what the search knows of it and tells it."""

    __slots__ = ("_hardened", "backend", "born", "client", "lease", "peer", "phase", "shared")

    def __init__(self, backend: Backend, client: Socket, peer: SocketAddress, now: float) -> None:
        super().__init__()
        self._hardened: Socket | None = None
        self.backend = backend
        self.born = now
        self.client = client
        self.lease: Lease | None = None
        self.peer = peer
        self.phase = AT_REST
        self.shared = False
        """Whether somebody else may hold the client's socket too: see `Link.shared`."""

    def linked(self, link: Link) -> None:
        """Called when a server has been found. `link` owns the sockets from now on, and is about to start."""
        raise NotImplementedError

    def failed(self, reason: str, why: str, *, abort: bool) -> None:
        """Called when none will be found: close the client, with a reset if `abort`. `why` is for a person."""
        raise NotImplementedError

    @property
    def server(self) -> Server | None:
        """The server it is connected to."""
        return self.lease.server if self.lease is not None else None

    def part(self) -> None:
        """Give up the place at the server."""
        if self.lease is not None:
            self.lease.release()
            self.lease = None

    def harden(self, server: Socket) -> None:
        """Set what a connection that is over by now was spared: four system calls. Once is enough."""
        if self._hardened is not server:
            self._hardened = server
            socks.harden(server, self.backend.settings.keepalive)


class Search(FirstByte, Dialler):
    """What goes on for a seeker until it is linked or has failed.

    `flight` is what the client has said before, to another process.
    """

    __slots__ = ("_closed", "_dial", "_seeker", "_tried")

    def __init__(self, poller: Poller, seeker: Seeker, flight: bytes) -> None:
        super().__init__(poller, seeker.client, flight)
        self._dial = Dial(poller, seeker.backend, self)
        self._seeker = seeker
        self._closed = ""
        """How the last server to go has put it, if that was a FIN."""
        self._tried: tuple[Server, ...] = ()

    def start(self) -> None:
        """Begin; may end before it returns."""
        seeker = self._seeker
        self._poller.add(self._client_fd, self)
        self._dial.start()
        if seeker.phase != ENDED:
            # A second server is due then, and no sooner anything else: by then most are connected and many are over.
            self._poller.at(seeker, seeker.born + STAGGER)

    def stop(self) -> bytes:
        """Give up and close what is connected; returns what the client has said and may be said again."""
        self._dial.cancel()
        self._leave()
        return self._flight

    def crashed(self) -> None:
        """Let go of everything."""
        self._seeker.crashed()

    def due(self, now: float) -> float:
        """Look after timeouts, for the seeker; returns when to be called again."""
        return self._overdue(now) if self._seeker.phase == WAITING else self._dial.due(now)

    def _overdue(self, now: float) -> float:
        seeker = self._seeker
        server = self._server
        if server is not None:
            seeker.harden(server)
        timeout = seeker.backend.first_byte_timeout
        answer_by = self._spoke_at + timeout if timeout else NEVER
        if now >= answer_by:
            self._spoke_at = NEVER
            if self._client_fin:
                self._client_left()
                return NEVER
            self._blame(HELLO_UNANSWERED, "first_byte_timeout", f"no first byte within {timeout:g}s")
            seeker.phase = TABLE[seeker.phase | SILENT]
            if seeker.backend.pool.only_late_left(now, self._tried):
                seeker.phase = TABLE[seeker.phase | NO_OTHER]
            else:
                self._redial()
            return now
        ends = seeker.born + (seeker.backend.settings.idle_timeout or NEVER)
        if now >= ends:
            seeker.failed(IDLE_TIMEOUT, "", abort=True)
        return min(answer_by, ends)

    def move_on(self, server: Server) -> None:
        """Turn to another server if this one, just found down, has not come to its first byte here."""
        if self._seeker.server is server:
            self._leave()
            self._tried += (server,)
            self._lost()
        else:
            self._dial.abandon(server)

    # -- what dialling comes to ----------------------------------------------------------------------------------

    def connected(self, attempt: Attempt, events: int) -> None:
        """Say to the server what the client has said, or link it at once."""
        seeker = self._seeker
        backend = seeker.backend
        server = attempt.lease.server
        seeker.part()
        seeker.lease = attempt.lease
        server.counts.connections_total += 1
        if self._tried:
            self._tried[-1].counts.replays += 1
        if server.health.doubted:
            backend.saw(server, CAN_CONNECT, "", self._poller.now)
        preface = backend.preface(seeker.client, seeker.peer)
        if backend.first_byte_timeout or self._flight:
            seeker.phase = TABLE[seeker.phase | CONNECTED]
            self._offer(attempt.sock, preface, events)
        else:
            self.sent = -len(preface)
            self._go_through(attempt.sock, preface, b"", events)

    def unreachable(self, why: str) -> None:
        """Fail, unless a silent server is still there to be waited for.

        Where each has closed the connection, and none could not be reached, so is the client's: with a FIN.
        """
        seeker = self._seeker
        if seeker.phase == HEDGING:
            seeker.phase = TABLE[seeker.phase | NO_OTHER]
            self._poller.at(seeker, self._poller.now)
        else:
            reason = UNREACHABLE if why or self._tried else NO_SERVER
            closed = "" if why else self._closed
            seeker.failed(reason, why or closed or "no server takes connections", abort=not closed)

    def _redial(self) -> None:
        seeker = self._seeker
        self._dial = Dial(self._poller, seeker.backend, self, self._tried)
        self._dial.start()
        if seeker.phase != ENDED:
            self._poller.at(seeker, self._poller.now + STAGGER)

    # -- what the wait for the first byte comes to ---------------------------------------------------------------

    def _clienthello_sent(self) -> None:
        """Start the wait for the server's first byte."""
        seeker = self._seeker
        self._poller.at(seeker, self._spoke_at + seeker.backend.first_byte_timeout)

    def _go_through(self, server: Socket, unsent: bytes, answer: bytes, events: int) -> None:
        """Have a link take over."""
        seeker = self._seeker
        self._dial.cancel()
        link = Link(self._poller, seeker, seeker.client, server)
        link.shared = seeker.shared
        link.up.moved = self.sent
        if unsent:
            link.up.preload(unsent)
        if answer:
            link.down.preload(answer)
            lease = seeker.lease
            if lease is not None:
                seeker.backend.answered(lease.server, self._spoke_at, self._poller.now)
        seeker.linked(link)
        link.start(self._client_events, events)
        if seeker.phase == LINKED:
            self._poller.at(seeker, max(self._poller.now, seeker.born + STAGGER))

    def _early_end(self, kind: str, why: str) -> None:
        """Ask another server, where that may be: this one has gone before its first byte."""
        seeker = self._seeker
        if self._complete:
            seen = HELLO_REFUSED
        elif self._flight:
            seen = HELLO_CUT_SHORT
        else:
            seen = CLOSED_PATIENTLY if self._poller.now - seeker.born > SILENT_CLIENT else CLOSED_AT_ONCE
        if seen in ANOTHER and not self._client_fin:
            server = seeker.server
            who = server.name if server is not None else "it"
            self._closed = f"{who}: {why} before its first byte" if kind == "closed" else ""
            self._blame(seen, f"early_{kind}", f"{why} before its first byte")
            self._lost()
        else:
            reset = kind == "reset"
            seeker.failed(SERVER_RST if reset else SERVER_FIN, why, abort=reset)

    def _client_gave_up(self, spoke_at: float) -> None:
        """Take in that the client has ended its side, or left, with its ClientHello unanswered since `spoke_at`."""
        waited = self._poller.now - spoke_at
        self._blame(
            HELLO_GIVEN_UP if waited >= STAGGER else LEFT_SOON, "given_up", f"no first byte within {waited:.1f}s"
        )

    def _client_left(self) -> None:
        """Fail: nobody is there to be served."""
        self._seeker.failed(CLIENT_LEFT, "", abort=True)

    def _blame(self, seen: int, kind: str, why: str) -> None:
        """Hold against the server at hand what that is evidence of, and do not ask it again."""
        seeker = self._seeker
        server = seeker.server
        if server is not None:
            self._tried += (server,)
            seeker.backend.saw(server, seen, why, self._poller.now, kind)

    def _lost(self) -> None:
        """Look for another server, if that has not begun yet."""
        seeker = self._seeker
        seeker.part()
        before = seeker.phase
        seeker.phase = TABLE[before | LOST]
        if before == WAITING:
            self._redial()
