"""Up to a server's first byte: what the client has said so far is kept, and can be said to another server.

What is kept is one ClientHello without early data, at most 16 KiB, or the beginning of one; anything else goes straight
to the relay and is never sent twice.
"""

from __future__ import annotations

from errno import ENOTCONN
from socket import SHUT_WR
from typing import Final

from lbproxy.net.closing import reset
from lbproxy.net.contract import Socket
from lbproxy.net.poller import HANGUP, HANGUP_OR_ERROR, IN, NEWS, STRANGE, Handler, Poller
from lbproxy.net.reasons import SHORTAGE, reason
from lbproxy.net.syscalls import recv, send
from lbproxy.net.timers import NEVER
from lbproxy.proxy.clienthello import LIMIT, Hello, classify

_COMPLETE: Final = Hello.COMPLETE
_OTHER: Final = Hello.OTHER


class FirstByte(Handler):
    """Reads the client and the server at hand, if there is one, until a link takes over.

    It decides nothing: what becomes of the client is up to who derives from it.
    """

    __slots__ = (
        "_client",
        "_client_events",
        "_client_fd",
        "_client_fin",
        "_complete",
        "_flight",
        "_poller",
        "_server",
        "_server_fd",
        "_spoke_at",
        "sent",
    )

    def __init__(self, poller: Poller, client: Socket, flight: bytes) -> None:
        super().__init__()
        self._poller = poller
        self._client = client
        self._client_events = 0
        """Edges of the client that have not been acted on."""
        self._client_fd = client.fileno()
        self._client_fin = False
        """Whether the client has ended its side behind its ClientHello."""
        self._complete = bool(flight) and classify(flight) is _COMPLETE
        self._flight = flight
        """What the client has said."""
        self._server: Socket | None = None
        self._server_fd = -1
        self._spoke_at = NEVER
        """When the server at hand was sent a whole ClientHello, NEVER before."""
        self.sent = 0
        """Bytes of the client's, to the server at hand; below 0 while the preface is not there."""

    @property
    def at_hand(self) -> Socket | None:
        """The server that is connected, if there is one."""
        return self._server

    def _clienthello_sent(self) -> None:
        """Called when the server at hand has been sent a whole ClientHello, so that an answer is due."""
        raise NotImplementedError

    def _go_through(self, server: Socket, unsent: bytes, answer: bytes, events: int) -> None:
        """Called when the wait is over: `unsent` still goes to the server, `answer` to the client.

        `events` are edges of the server that have not been acted on.
        """
        raise NotImplementedError

    def _early_end(self, kind: str, why: str) -> None:
        """Called when the server has gone (`kind`: reset or closed) before its first byte; its socket is closed."""
        raise NotImplementedError

    def _client_gave_up(self, spoke_at: float) -> None:
        """Called when the client has ended its side, or is gone, with its ClientHello unanswered since `spoke_at`."""
        raise NotImplementedError

    def _client_left(self) -> None:
        """Called when nobody is there any more to be served."""
        raise NotImplementedError

    def ready(self, fd: int, events: int) -> None:
        """Called with the edges of either socket."""
        if fd == self._client_fd:
            self._client_events |= events
            if events & HANGUP_OR_ERROR:
                self._lose_client()
            elif self._server_fd >= 0 and events & NEWS and not self._client_fin:
                self._read_client()
        elif fd == self._server_fd and events & (IN | HANGUP):
            self._read_server(events)

    def _offer(self, server: Socket, preface: bytes, events: int) -> None:
        """Say to a newly connected server what was said to the last one; `preface` goes first.

        Takes its descriptor over. `events` are edges of it that have not been acted on.
        """
        self._leave()
        fd = server.fileno()
        self._server = server
        self._server_fd = fd
        self._poller.reassign(fd, self)
        self.sent = -len(preface)
        if (preface or self._flight) and not self._say(preface + self._flight, self._complete, events):
            return
        if events & (IN | HANGUP):
            self.ready(fd, events)
        if self._server_fd == fd and self._client_events & NEWS:
            self._read_client()

    def _leave(self) -> None:
        """Close the server at hand with a reset, and do without one."""
        server = self._server
        if server is not None:
            reset(server)
            self._poller.close_later(self._server_fd, server)
            self._forget()

    def _forget(self) -> None:
        self._server = None
        self._server_fd = -1
        self._spoke_at = NEVER

    def _read_client(self) -> None:
        try:
            data = recv(self._client_fd, LIMIT)
        except BlockingIOError:
            self._client_events &= ~IN
            return
        except OSError:
            self._lose_client()
            return
        if len(data) < LIMIT and not self._client_events & STRANGE:
            self._client_events &= ~IN
        if not data and self._complete:
            self._end_client()
            return
        held = self._flight + data if self._flight else data
        kind = classify(held) if data else _OTHER
        if kind is _OTHER:
            # Not TLS, or a FIN with nothing to wait for: half-close is the relay's business.
            self._through(data, b"", 0)
            return
        self._flight = held
        self._complete = kind is _COMPLETE
        if self._say(data, self._complete, 0) and self._client_events & STRANGE:
            self._read_client()  # no edge will tell of what is behind it, be it only the FIN

    def _lose_client(self) -> None:
        if self._spoke_at != NEVER and not self._client_fin:
            self._client_gave_up(self._spoke_at)
        self._client_left()

    def _end_client(self) -> None:
        """Pass on the FIN that has come behind a whole ClientHello, and wait on for what may still be said to it."""
        self._client_fin = True
        if self._spoke_at != NEVER:
            self._client_gave_up(self._spoke_at)
        self._pass_fin_on()

    def _pass_fin_on(self) -> None:
        server = self._server
        if server is not None:
            try:
                server.shutdown(SHUT_WR)
            except OSError as error:
                if error.errno != ENOTCONN:
                    raise  # else it was reset meanwhile, and a read will tell

    def _say(self, data: bytes, complete: bool, events: int) -> bool:
        """Send to the server; False if the wait is over by that."""
        try:
            sent = send(self._server_fd, data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._server_failed(error)
            return False
        self.sent += sent
        if sent < len(data):
            # A fresh connection takes more than a ClientHello at once; the relay can handle one that does not.
            self._through(data[sent:], b"", events)
            return False
        if complete:
            self._spoke_at = self._poller.now
            self._clienthello_sent()
        if self._client_fin:
            self._pass_fin_on()
        return True

    def _read_server(self, events: int) -> None:
        try:
            data = recv(self._server_fd, LIMIT)
        except BlockingIOError:
            return
        except OSError as error:
            self._server_failed(error)
            return
        if data:
            self._through(b"", data, events | IN)
        else:
            self._end_early("closed", "closed the connection")

    def _through(self, unsent: bytes, answer: bytes, events: int) -> None:
        server = self._server
        if server is not None:
            self._server = None
            self._server_fd = -1
            self._go_through(server, unsent, answer, events)

    def _server_failed(self, error: OSError) -> None:
        if reason(error.errno) == SHORTAGE:
            raise error  # of ours: it says nothing of the server
        self._end_early("reset", str(error.strerror).lower())

    def _end_early(self, kind: str, why: str) -> None:
        self._leave()
        self._early_end(kind, why)
