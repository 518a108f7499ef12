"""A client and a server socket and the two flows between them, from the moment both are connected to the close.

The link knows nothing of servers or sessions. It tells its owner once, by `ended`, why it is over. Its states:

    AT_REST    nothing moves: it has not begun, or was frozen. The sockets may be another process's to go on with, so
               nothing is done to them; they are in nobody's epoll set, or still with whom they are taken over from
    RUNNING    bytes move, and both descriptors' events come here
    ENDED      both sockets are closed, and the owner has been told

              START            END
    AT_REST ◄───────► RUNNING ─────► ENDED
              FREEZE

Whatever is not in the table is a bug and raises KeyError. To abort a link that does not run does nothing.
"""

from __future__ import annotations

import errno
import socket
from typing import Final, Protocol

from lbproxy.net.bugs import cannot_go_on
from lbproxy.net.closing import end_shared, reset, reset_at_last
from lbproxy.net.contract import Socket
from lbproxy.net.poller import FAULT, HANGUP_OR_ERROR, NEWS, OUT, Handler, Poller
from lbproxy.net.reasons import ours, silent
from lbproxy.net.tcpinfo import heard, quiet
from lbproxy.net.timers import NEVER
from lbproxy.relay.duplex import ABORT, BROKEN, CLOSE, OPEN, RESET, RUN, SHUT, fate
from lbproxy.relay.flow import IDLE, MORE, Flow
from lbproxy.relay.table import Table

CLIENT_FIN: Final = "client_fin"
SERVER_FIN: Final = "server_fin"
CLIENT_RST: Final = "client_rst"
SERVER_RST: Final = "server_rst"
SERVER_TIMEOUT: Final = "server_timeout"
"""Keepalive, or data that was repeated in vain, has found the server silent."""
IDLE_TIMEOUT: Final = "idle_timeout"
ERROR: Final = "error"
"""Of ours, a bug or no memory, told in the log."""

_MOMENT: Final = 0.1
"""Seconds: between two messages, and not within one."""

AT_REST: Final = 0
RUNNING: Final = 1
ENDED: Final = 2

START: Final = 0x10
FREEZE: Final = 0x20
END: Final = 0x30

TABLE: Final = Table(
    {
        AT_REST | START: RUNNING,
        RUNNING | FREEZE: AT_REST,
        RUNNING | END: ENDED,
    }
)
"""state | event -> state."""

_ROOM: Final = OUT | HANGUP_OR_ERROR
_WRITING: Final = socket.SHUT_WR


class LinkOwner(Protocol):
    """Whose link it is."""

    __slots__ = ()

    def ended(self, reason: str) -> None:
        """Called once, when the link has closed both sockets; `reason` is one of those above, or that of `abort`."""


class Link(Handler):
    """Two sockets, and the flows `up` (client to server) and `down`."""

    __slots__ = (
        "_client_fd",
        "_owner",
        "_poller",
        "_queued",
        "_server_fd",
        "client",
        "down",
        "first_fin",
        "kept",
        "serial",
        "server",
        "shared",
        "state",
        "up",
    )

    def __init__(self, poller: Poller, owner: LinkOwner, client: Socket, server: Socket) -> None:
        super().__init__()
        self._poller = poller
        self._owner = owner
        self.kept = 0
        """In the marks, 0 while systemd does not hold the sockets."""
        self.serial = 0
        self.shared = False
        """Whether somebody else may hold the sockets too: systemd, or a process that they came from or were sent to."""
        self.client = client
        self.server = server
        self._client_fd = client.fileno()
        self._server_fd = server.fileno()
        self._queued = False
        self.state = AT_REST
        self.up = Flow(poller, self._client_fd, self._server_fd)
        self.down = Flow(poller, self._server_fd, self._client_fd)
        self.first_fin = ""
        """CLIENT_FIN or SERVER_FIN, whichever has come first."""

    def start(self, client_events: int, server_events: int) -> None:
        """Take over both descriptors, which are registered, with the events their former handler has not acted on."""
        self.state = TABLE[self.state | START]
        self._poller.reassign(self._client_fd, self)
        self._poller.reassign(self._server_fd, self)
        self.up.notice(client_events)
        self.down.notice(server_events)
        self.resume()

    def ready(self, fd: int, events: int) -> None:
        """Called with the edges of one of the two sockets."""
        if fd == self._client_fd:
            towards = self.up
            back = self.down
        else:
            towards = self.down
            back = self.up
        if events & NEWS:
            if towards.state == OPEN:
                towards.notice(events)
                if not towards.blocked():
                    self._run(towards)
            # A reset that no read tells of: after a FIN, or with the destination blocked. A server's last words are
            # still delivered then; a client that has gone wants nothing any more.
            if events & FAULT and self.state == RUNNING and (towards is self.up or towards.state != OPEN):
                self._end(self._cause(fd), ABORT)
        if events & _ROOM and self.state == RUNNING and back.blocked():
            self._run(back)

    def _cause(self, fd: int) -> str:
        if fd == self._client_fd:
            return CLIENT_RST
        error = self.server.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        return SERVER_TIMEOUT if silent(error) else SERVER_RST

    def resume(self) -> None:
        """Called when it is its turn again after a budget; also to begin with what is there already."""
        self._queued = False
        if self.state == RUNNING and (self.up.readable or self.up.blocked()):
            self._run(self.up)
        if self.state == RUNNING and (self.down.readable or self.down.blocked()):
            self._run(self.down)

    def _run(self, flow: Flow) -> None:
        result = flow.pump()
        if result == IDLE:
            return
        if result == MORE:
            if not self._queued:
                self._queued = True
                self._poller.defer(self)
            return
        if flow.state == SHUT and not self.first_fin:
            self.first_fin = CLIENT_FIN if flow is self.up else SERVER_FIN
        now = fate(self.up.state, self.down.state)
        if now == RUN:
            if flow.state == SHUT:
                self._shut(self.server if flow is self.up else self.client)
            elif flow.state == BROKEN:
                # What the other end said before it went is still to be read, and so is its reset.
                other = self.down if flow is self.up else self.up
                if other.state == OPEN:
                    other.readable = True
                    other.thorough = True
                    self._run(other)
        elif now == ABORT:
            self._end(self._failure(), ABORT)
        else:
            self._end(self.first_fin, CLOSE)

    def _shut(self, sock: Socket) -> None:
        try:
            sock.shutdown(_WRITING)
        except OSError as error:
            if error.errno != errno.ENOTCONN:  # that is one that was reset meanwhile; the read side is told
                cannot_go_on(error.errno)
                self._end(ERROR, ABORT)

    def _failure(self) -> str:
        for error in (self.up.error, self.down.error):
            if error and ours(error):
                cannot_go_on(error)
                return ERROR
        if self.up.state == RESET:
            return CLIENT_RST
        if self.down.state == RESET:
            return SERVER_TIMEOUT if silent(self.down.error) else SERVER_RST
        if self.up.state == BROKEN:  # an error is told once: the read then found an end without a reason
            return SERVER_TIMEOUT if silent(self.up.error) else SERVER_RST
        return CLIENT_RST

    def abort(self, reason: str) -> None:
        """Cut: both sides get a reset. What was not written is lost, and they can tell."""
        if self.state == RUNNING:
            self._end(reason, ABORT)

    def crashed(self) -> None:
        """Called when a bug of ours was met: cut."""
        self.abort(ERROR)

    def _end(self, reason: str, how: int) -> None:
        self.state = TABLE[self.state | END]
        self.up.release()
        self.down.release()
        self._let_go(self._client_fd, self.client, how == ABORT)
        self._let_go(self._server_fd, self.server, how == ABORT)
        self._owner.ended(reason)

    def _let_go(self, fd: int, sock: Socket, abort: bool) -> None:
        if self.shared:
            self._poller.remove(fd)
            end_shared(sock, abort)
        elif abort:
            reset(sock)
        self._poller.close_later(fd, sock)

    def preload(self, rests: tuple[bytes, bytes]) -> None:
        """Have these bytes (up, down) written before anything that is read."""
        for flow, rest in zip((self.up, self.down), rests, strict=True):
            if rest:
                flow.preload(rest)

    def keep(self, slot: int, serial: int, places: tuple[int, int]) -> None:
        """Mark from now on what is held: systemd holds the sockets too, and another process may have to go on alone.

        `slot` and `serial` are what that one knows the connection by, `places` where in the poller's marks the two
        directions (up, down) have theirs. If nobody goes on, both peers get a reset: a FIN would say that all is whole.
        """
        reset_at_last(self.client)
        reset_at_last(self.server)
        self.kept = slot
        self.shared = True
        self.serial = serial
        self.up.mark_at(places[0])
        self.down.mark_at(places[1])

    def freeze(self) -> tuple[bytes, bytes]:
        """Come to rest; returns the bytes that were read (up, down) and not written yet."""
        self.state = TABLE[self.state | FREEZE]
        self._poller.remove(self._client_fd)
        self._poller.remove(self._server_fd)
        return self.up.take(), self.down.take()

    def thaw(self, rests: tuple[bytes, bytes]) -> None:
        """Go on after `freeze`, or begin with sockets that were another process's; `rests` is what it had read."""
        self.state = TABLE[self.state | START]
        self.shared = True
        self.preload(rests)
        for flow in (self.up, self.down):
            flow.readable = flow.thorough = flow.state == OPEN
        self._poller.add(self._client_fd, self)
        self._poller.add(self._server_fd, self)
        self.resume()

    def idle(self) -> float:
        """Return the seconds since a byte last moved on either socket, as the kernel knows it."""
        try:
            return min(quiet(self.client), quiet(self.server))
        except OSError:
            return 0.0

    def at_rest(self, seconds: float) -> bool:
        """Whether nothing is in transit, and the client has said nothing for so long and the server for a moment."""
        try:
            waited = self.idle()
            at_rest = waited >= seconds or (waited >= _MOMENT and heard(self.client) >= seconds)
        except OSError:
            return False
        return at_rest and not self.up.blocked() and not self.down.blocked()

    def overdue(self, timeout: float, now: float) -> float:
        """Abort if nothing has moved for `timeout` seconds (0 = never mind); returns when to ask again."""
        if not timeout:
            return NEVER
        idle = self.idle()
        if idle < timeout:
            return now + timeout - idle
        self.abort(IDLE_TIMEOUT)
        return NEVER
