"""One client's life from accept to close.

    DIALLING   a server is being connected to; what the client sends meanwhile waits in the kernel
    WAITING    connected; the server has not sent a byte yet, and another one may still be asked (`firstbyte`)
    LINKED     bytes flow both ways through a `Link`; this object only keeps the books

With `first_byte_timeout: 0` DIALLING leads to LINKED at once. A silent server is kept while another one is dialled: it
may just be slow, and be the only one that works. No server is asked twice for the same client.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from lbproxy.balance.server import Lease, Server
from lbproxy.balance.suspicion import TrafficResult
from lbproxy.net import sockets as socks
from lbproxy.net.closing import reset
from lbproxy.net.contract import Socket, SocketAddress
from lbproxy.net.poller import HANGUP, HANGUP_OR_ERROR, IN, Handler, Poller
from lbproxy.net.timers import NEVER
from lbproxy.proxy.backend import Backend
from lbproxy.proxy.dial import STAGGER, Attempt, Dial
from lbproxy.proxy.firstbyte import FirstByte
from lbproxy.relay.link import CLIENT_FIN, ERROR, IDLE_TIMEOUT, SERVER_FIN, SERVER_RST, Link

UNREACHABLE: Final = "unreachable"
NO_SERVER: Final = "no_server"
CLIENT_LEFT: Final = "client_left"
_SILENT_CLIENT: Final = 3.0
"""Seconds. A client sends its first bytes with the connect; who waits this long may be left by any server."""


class Session(Handler):
    """A client socket, then a server socket, then the link between them. `on_end` is called once, at the close."""

    __slots__ = (
        "_client_events",
        "_client_fd",
        "_dial",
        "_hardened",
        "_on_end",
        "_poller",
        "_tried",
        "_wait",
        "backend",
        "born",
        "client",
        "lease",
        "link",
        "peer",
    )

    def __init__(
        self,
        poller: Poller,
        backend: Backend,
        client: Socket,
        peer: SocketAddress,
        on_end: Callable[[Session, str, str], None],
    ) -> None:
        super().__init__()
        self._poller = poller
        self._on_end: Callable[[Session, str, str], None] | None = on_end
        self._client_fd = client.fileno()
        self._client_events = 0
        self._dial: Dial | None = None
        self._tried: tuple[Server, ...] = ()
        self._wait: FirstByte | None = None
        self._hardened = False
        self.backend = backend
        self.client = client
        self.peer = peer
        self.born = poller.now
        self.lease: Lease | None = None
        self.link: Link | None = None

    def start(self) -> None:
        """Begin to look for a server."""
        self._poller.add(self._client_fd, self)
        self._dial = Dial(self._poller, self.backend, self)
        self._dial.start()
        if self._on_end is not None:  # and not earlier: most connections are made by then, and many are over
            self._poller.at(self, self.born + STAGGER)

    @property
    def server(self) -> Server | None:
        """The server it is connected to."""
        return self.lease.server if self.lease is not None else None

    def bytes_moved(self) -> tuple[int, int]:
        """Return the bytes that went to the server and to the client."""
        if self.link is not None:
            return self.link.up.moved, self.link.down.moved
        return (self._wait.sent if self._wait is not None else 0), 0

    def ready(self, fd: int, events: int) -> None:
        """Hear of the client while a server is being dialled."""
        self._client_events |= events
        if events & HANGUP_OR_ERROR:
            self.client_left()
        elif events & HANGUP and not socks.has_data(self.client):
            self._close(CLIENT_LEFT)

    def crashed(self) -> None:
        """Cut after a bug."""
        self.cut(ERROR)

    def due(self, now: float) -> float:
        """Look after timeouts; returns when to be called again."""
        if self.link is not None:
            self._harden(self.link.server)
            return self.link.overdue(self.backend.settings.idle_timeout, now)
        when = NEVER
        if self._dial is not None:
            when = self._dial.due(now)
        elif self._wait is not None:
            when = self._await(self._wait, now)
        if self._on_end is None:
            return NEVER
        return when if self.link is None else now

    def _await(self, wait: FirstByte, now: float) -> float:
        settings = self.backend.settings
        if wait.server is not None:
            self._harden(wait.server)
        if settings.first_byte_timeout and now >= wait.spoke_at + settings.first_byte_timeout:
            wait.spoke_at = NEVER
            self._failed("first_byte_timeout", f"no first byte within {settings.first_byte_timeout:g}s")
            self._redial()
            return now
        until = wait.spoke_at + settings.first_byte_timeout if settings.first_byte_timeout else NEVER
        ends = self.born + (settings.idle_timeout or NEVER)
        if now >= ends:
            self.cut(IDLE_TIMEOUT)
        return min(until, ends)

    def armed(self, answer_from: float) -> None:
        """Be called when an answer should have come."""
        self._poller.at(self, answer_from + self.backend.first_byte_timeout)

    def _harden(self, server: Socket) -> None:
        """Set what a connection that is over by now was spared: five system calls."""
        if not self._hardened:
            self._hardened = True
            socks.harden(server, self.backend.settings.keepalive, self.backend.settings.tcp_user_timeout)

    def refresh(self) -> None:
        """Have new settings take effect on a live connection."""
        self._hardened = False
        self._poller.at(self, self._poller.now)

    def connected(self, attempt: Attempt, events: int) -> None:
        """Go on with the server that has answered."""
        self._dial = None
        self._part()
        self.lease = attempt.lease
        server = attempt.lease.server
        server.connections_total += 1
        if self._tried:
            self._tried[-1].replays += 1
        if server.health.doubted:
            self.backend.observe(server, TrafficResult(), self._poller.now)
        preface = self.backend.preface(self.client, self.peer)
        if not self.backend.first_byte_timeout and self._wait is None:
            self.go_through(attempt.sock, preface, b"", events)
            return
        if self._wait is None:
            self._wait = FirstByte(self._poller, self, self.client, self._client_events)
        self._hardened = False
        self._wait.offer(attempt.sock, preface, events)

    def unreachable(self, why: str) -> None:
        """Close the client, unless a silent server is still there to be waited for."""
        self._dial = None
        if self._wait is None or self._wait.server is None:
            reason = UNREACHABLE if why or self._tried else NO_SERVER
            self._close(reason, why or "no server takes connections", abort=True)
        else:
            self._poller.at(self, self._poller.now)

    def early_end(self, kind: str, why: str) -> None:
        """Ask another server: this one has gone before its first byte."""
        unasked = kind == "closed" and self._unasked()
        if not unasked:
            self._failed(f"early_{kind}", f"{why} before its first byte")
        self._part()
        if unasked:
            self._close(SERVER_FIN, why)
        elif self._dial is None:
            self._redial()

    def _unasked(self) -> bool:
        """Whether the client has said nothing for so long that a server may rightly have lost patience."""
        return not self.bytes_moved()[0] and self._poller.now - self.born > _SILENT_CLIENT

    def _failed(self, kind: str, why: str) -> None:
        server = self.server
        if server is not None:
            server.failed(kind)
            self._tried += (server,)
            self.backend.observe(server, TrafficResult(why, answered=True), self._poller.now)

    def _redial(self) -> None:
        self._dial = dial = Dial(self._poller, self.backend, self, self._tried)
        dial.start()
        if self._dial is not None:
            self._poller.at(self, self._poller.now + STAGGER)

    def move_on(self, server: Server) -> None:
        """Turn to another server if this one, just found down, has not come to its first byte here."""
        if self._wait is not None and self.server is server:
            self._wait.leave()
            self._part()
            self._tried += (server,)
            if self._dial is None:
                self._redial()
        elif self._dial is not None:
            self._dial.abandon(server)

    def _hang_up(self) -> None:
        if self._dial is not None:
            self._dial.cancel()
            self._dial = None

    def _part(self) -> None:
        if self.lease is not None:
            self.lease.release()
            self.lease = None

    def go_through(self, server: Socket, unsent: bytes, answer: bytes, events: int) -> None:
        """Let a link take over."""
        wait = self._wait
        link = self.link = Link(self._poller, self, self.client, server)
        self._hang_up()
        if wait is not None:
            self._wait = None
            self._client_events = wait.client_events
            link.up.moved = wait.sent
            if answer and self.lease is not None:
                self.backend.answered(self.lease.server, wait.spoke_at, self._poller.now)
        if unsent:
            link.up.preload(unsent)
        if answer:
            link.down.preload(answer)
        link.start(self._client_events, events)
        if wait is not None and self._on_end is not None:
            self._poller.at(self, max(self._poller.now, self.born + STAGGER))

    def client_left(self) -> None:
        """Close: nobody is there to be served."""
        self.cut(CLIENT_LEFT)

    def cut(self, reason: str) -> None:
        """Close both sides with a reset."""
        if self.link is not None:
            self.link.abort(reason)
        else:
            self._close(reason, abort=True)

    def ended(self, reason: str) -> None:
        """Hear that the link is over, and what that says of the server."""
        link = self.link
        server = self.server
        if link is not None and server is not None:
            blamed = reason in (SERVER_FIN, SERVER_RST) and link.first_fin != CLIENT_FIN and not self._unasked()
            self.backend.ended(server, link.down.moved > 0, blamed, reason, self._poller.now)
        self._over(reason, "")

    def freeze(self) -> tuple[bytes, tuple[bytes, bytes]]:
        """Stop; returns the client's first flight, and the bytes in transit (up, down) of a linked session."""
        if self.link is not None:
            return b"", self.link.freeze()
        self._hang_up()
        flight = self._wait.take_flight() if self._wait is not None else b""
        self._wait = None
        self._poller.timers.drop(self)
        self._part()
        self._poller.remove(self._client_fd)
        return flight, (b"", b"")

    def thaw(self, flight: bytes, rests: tuple[bytes, bytes]) -> None:
        """Go on after `freeze`, or begin with a connection that was another process's."""
        if self.link is not None:
            self.link.thaw(rests)
            if self._on_end is not None:
                self._poller.at(self, self._poller.now)
            return
        self._client_events = IN
        if flight:
            self._wait = FirstByte(self._poller, self, self.client, self._client_events, flight)
        self.start()

    def _close(self, reason: str, why: str = "", *, abort: bool = False) -> None:
        if self._on_end is None:
            return
        self._hang_up()
        if abort:
            reset(self.client)
        self._poller.close_later(self._client_fd, self.client)
        if self._wait is not None:
            self._wait.leave()
        self._over(reason, why)

    def _over(self, reason: str, why: str) -> None:
        on_end = self._on_end
        self._on_end = None
        self._poller.timers.drop(self)
        if on_end is not None:
            on_end(self, reason, why)
        self._part()
        self._wait = None
        self.link = None
