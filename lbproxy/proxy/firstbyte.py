"""Between connect and the server's first byte: what the client has said so far is kept and can be said again.

A TLS client speaks first and then waits, so until the server has sent a byte nothing has happened that another server
could not do as well. What is kept is one ClientHello without early data, at most 16 KiB, or the beginning of one;
anything else goes straight to the relay and is never sent twice.
"""

from __future__ import annotations

from typing import Final, Protocol

from lbproxy.net.closing import reset
from lbproxy.net.contract import Socket
from lbproxy.net.poller import HANGUP, HANGUP_OR_ERROR, IN, NEWS, STRANGE, Handler, Poller
from lbproxy.net.syscalls import recv, send
from lbproxy.net.timers import NEVER
from lbproxy.proxy.clienthello import LIMIT, Hello, classify

_COMPLETE: Final = Hello.COMPLETE
_OTHER: Final = Hello.OTHER


class FirstByteOwner(Protocol):
    """Who decides what becomes of a client when its wait is over, one way or another."""

    def crashed(self) -> None:
        """Let go of everything: a bug of ours was met."""

    def go_through(self, server: Socket, unsent: bytes, answer: bytes, events: int) -> None:
        """Relay from here on: `unsent` still goes to the server, `answer` to the client."""

    def early_end(self, kind: str, why: str) -> None:
        """Hear that the server has gone (`kind`: reset or closed) before its first byte; its socket is closed."""

    def client_left(self) -> None:
        """Hear that nobody is there any more to be served."""

    def armed(self, answer_from: float) -> None:
        """Hear that a whole ClientHello was sent at `answer_from`: the wait for an answer begins."""


class FirstByte(Handler):
    """One client's wait. `spoke_at` is when the server at hand was sent a whole ClientHello, NEVER before."""

    __slots__ = (
        "_client_fd",
        "_complete",
        "_flight",
        "_owner",
        "_poller",
        "_server_fd",
        "client_events",
        "sent",
        "server",
        "spoke_at",
    )

    def __init__(
        self, poller: Poller, owner: FirstByteOwner, client: Socket, client_events: int, flight: bytes = b""
    ) -> None:
        super().__init__()
        self._poller = poller
        self._owner = owner
        self._client_fd = client.fileno()
        self.client_events = client_events
        """Edges of the client that have not been acted on."""
        self._flight = flight
        self._complete = bool(flight) and classify(flight) is _COMPLETE
        self.server: Socket | None = None
        self._server_fd = -1
        self.sent = 0
        self.spoke_at = NEVER

    def offer(self, server: Socket, preface: bytes, events: int) -> None:
        """Say to a newly connected server what was said to the last one; `preface` goes first.

        Takes both descriptors over. `events` are edges of the server that have not been acted on.
        """
        self.leave()
        self.server = server
        self._server_fd = server.fileno()
        self._poller.reassign(self._client_fd, self)
        self._poller.reassign(self._server_fd, self)
        self.sent = 0
        if (preface or self._flight) and not self._say(preface + self._flight, self._complete, events):
            return
        if events & (IN | HANGUP):
            self.ready(self._server_fd, events)
        if self.server is server and self.client_events & NEWS:
            self._hear_client()

    def ready(self, fd: int, events: int) -> None:
        """Hear of either socket."""
        if fd == self._client_fd:
            self.client_events |= events
            if events & HANGUP_OR_ERROR:
                self._owner.client_left()
            elif events & NEWS and self.server is not None:
                self._hear_client()
        elif fd == self._server_fd and events & (IN | HANGUP):
            self._hear_server(events)

    def crashed(self) -> None:
        """Let the owner clear up."""
        self._owner.crashed()

    def take_flight(self) -> bytes:
        """Part with the server at hand, and return what the client has said."""
        self.leave()
        return self._flight

    def leave(self) -> None:
        """Part with the server at hand."""
        server = self.server
        if server is not None:
            self.server = None
            self.spoke_at = NEVER
            reset(server)
            self._poller.close_later(self._server_fd, server)
            self._server_fd = -1

    def _hear_client(self) -> None:
        try:
            data = recv(self._client_fd, LIMIT)
        except BlockingIOError:
            self.client_events &= ~IN
            return
        except OSError:
            self._owner.client_left()
            return
        if len(data) < LIMIT and not self.client_events & STRANGE:
            self.client_events &= ~IN
        held = self._flight + data if self._flight else data
        kind = classify(held) if data else _OTHER
        if kind is _OTHER:
            # Not TLS, or the client's FIN: half-close is the relay's business.
            self._through(data, b"", 0)
            return
        self._flight = held
        self._complete = kind is _COMPLETE
        if self._say(data, self._complete, 0) and self.client_events & STRANGE:
            self._hear_client()  # no edge will tell of what is behind it, be it only the FIN

    def _say(self, data: bytes, complete: bool, events: int) -> bool:
        """Send to the server; False if the wait is over by that."""
        server = self.server
        if server is None:
            return False
        try:
            sent = send(self._server_fd, data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._end_early("reset", str(error.strerror).lower())
            return False
        self.sent += sent
        if sent < len(data):
            # A fresh connection takes more than a ClientHello at once; the relay can handle one that does not.
            self._through(data[sent:], b"", events)
            return False
        if complete:
            self.spoke_at = self._poller.now
            self._owner.armed(self.spoke_at)
        return True

    def _hear_server(self, events: int) -> None:
        server = self.server
        if server is None:
            return
        try:
            data = recv(self._server_fd, LIMIT)
        except BlockingIOError:
            return
        except OSError as error:
            self._end_early("reset", str(error.strerror).lower())
            return
        if data:
            self._through(b"", data, events | IN)
        else:
            self._end_early("closed", "closed the connection")

    def _through(self, unsent: bytes, answer: bytes, events: int) -> None:
        server = self.server
        if server is not None:
            self.server = None
            self._owner.go_through(server, unsent, answer, events)

    def _end_early(self, kind: str, why: str) -> None:
        self.leave()
        self._owner.early_end(kind, why)
