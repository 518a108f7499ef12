"""One client's attempts to reach a server: pick, connect, race, and on failure pick again.

The next candidate is started STAGGER after the last one if that has not answered, and at once if it failed; the first
to connect wins and the others are closed (Happy Eyeballs, RFC 8305, over servers instead of address families). Each
attempt has `connect_timeout`, all of them together `connect_deadline`. Every failure is kept, so that a client that
could not be served is explained in one line.

Each address of a name is a server of its own here. An attempt that was overtaken counts as a failure too: it was
silent for STAGGER while another server answered, and if that were not remembered every client would wait for it again.
"""

from __future__ import annotations

import errno
import os
import socket
from typing import Final, Protocol, cast

from lbproxy.balance.evidence import CONNECT_BROKEN, CONNECT_FAILED
from lbproxy.balance.evidence import SHORTAGE as OUR_SHORTAGE
from lbproxy.balance.server import Endpoint, Lease, Server
from lbproxy.net.contract import Socket
from lbproxy.net.poller import HANGUP_OR_ERROR, OUT, Handler, Poller
from lbproxy.net.reasons import RESET, SHORTAGE, TIMEOUT, reason
from lbproxy.net.syscalls import connect
from lbproxy.net.timers import NEVER
from lbproxy.proxy.backend import Backend

_SEEN: Final = {RESET: CONNECT_BROKEN, SHORTAGE: OUR_SHORTAGE}
"""What a connect that failed is, by the word for its errno, where it is not CONNECT_FAILED.

Only a server that had accepted resets a connect: one that refuses it says so.
"""
STAGGER: Final = 0.2
"""Seconds. RFC 8305 recommends 250 ms between attempts; masters are nearer than web servers."""


class Attempt(Handler):
    """One connect under way."""

    __slots__ = ("_dial", "fd", "lease", "sock", "started")

    def __init__(self, dial: Dial, lease: Lease, sock: Socket, now: float) -> None:
        super().__init__()
        self._dial = dial
        self.lease = lease
        self.sock = sock
        self.fd = sock.fileno()
        self.started = now

    def ready(self, fd: int, events: int) -> None:
        """Called when the connect has come to an end."""
        if events & (OUT | HANGUP_OR_ERROR):
            self._dial.answered(self, events)

    def crashed(self) -> None:
        """Let go of everything."""
        self._dial.crashed()


class Dialler(Protocol):
    """Who dials, and is called back."""

    __slots__ = ()

    def crashed(self) -> None:
        """Called when a bug of ours was met: let go of everything."""

    def connected(self, attempt: Attempt, events: int) -> None:
        """Called with the attempt that won: its socket and its lease go over. `events` of it were not acted on."""

    def unreachable(self, why: str) -> None:
        """Called when every candidate has failed, or the deadline has passed, or none was to be had (`why` empty)."""


class Dial:
    """The attempts of one client. Servers in `tried` are not tried. Once it is over, nobody is called back."""

    __slots__ = (
        "_attempts",
        "_backend",
        "_deadline",
        "_dialler",
        "_failures",
        "_next_at",
        "_poller",
        "_tried",
    )

    def __init__(self, poller: Poller, backend: Backend, dialler: Dialler, tried: tuple[Server, ...] = ()) -> None:
        self._poller = poller
        self._backend = backend
        self._dialler: Dialler | None = dialler
        self._tried: list[Server] = list(tried)
        self._attempts: list[Attempt] = []
        self._failures: list[str] = []
        self._next_at = 0.0
        self._deadline = poller.now + backend.connect_deadline

    def start(self) -> None:
        """Begin; may call back before it returns."""
        self._launch(self._poller.now)

    def due(self, now: float) -> float:
        """Time out what has been too long, start the next candidate; returns when to be called again."""
        if self._over():
            return NEVER
        timeout = self._backend.settings.connect_timeout
        for attempt in list(self._attempts):
            if now >= attempt.started + timeout:
                self._failed(attempt, errno.ETIMEDOUT, now, f"no answer within {timeout:g}s")
        if not self._over() and now >= self._deadline:
            self._give_up(now)
        if not self._over() and (now >= self._next_at or not self._attempts):
            self._launch(now)
        if self._over():
            return NEVER
        earliest = min(self._deadline, self._next_at)
        for attempt in self._attempts:
            earliest = min(earliest, attempt.started + timeout)
        return earliest

    def _over(self) -> bool:
        return self._dialler is None

    def answered(self, attempt: Attempt, events: int) -> None:
        """Settle an attempt whose connect has ended."""
        dialler = self._dialler
        if dialler is None:
            return
        now = self._poller.now
        if events & HANGUP_OR_ERROR:
            error = attempt.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if error:
                self._failed(attempt, error, now)
                if not self._over():
                    self._launch(now)
                return
        self._dialler = None
        self._attempts.remove(attempt)
        for other in self._attempts:
            self._drop(other)
            if other.started < attempt.started:
                why = f"no answer for {now - other.started:.1f}s"
                self._backend.saw(other.lease.server, CONNECT_FAILED, why, now, "overtaken")
        self._attempts.clear()
        attempt.lease.server.counts.connect_seconds.add(now - attempt.started)
        try:
            dialler.connected(attempt, events)
        except Exception:
            dialler.crashed()
            self._poller.close_later(attempt.fd, attempt.sock)
            raise

    def abandon(self, server: Server) -> None:
        """Move on from `server`, which has just been found down: its attempt is dropped, the next one started."""
        for attempt in list(self._attempts):
            if attempt.lease.server is server:
                self._drop(attempt)
                self._attempts.remove(attempt)
                self._tried.append(server)
        if not self._over() and not self._attempts:
            self._launch(self._poller.now)

    def cancel(self) -> None:
        """Close every attempt; nobody is called back."""
        self._dialler = None
        for attempt in self._attempts:
            self._drop(attempt)
        self._attempts.clear()

    def crashed(self) -> None:
        """Pass a bug on to who dials."""
        dialler = self._dialler
        if dialler is not None:
            dialler.crashed()

    def _launch(self, now: float) -> None:
        """Start the next candidate that does not fail at once."""
        while True:
            lease = self._backend.pool.pick(now, self._tried)
            if lease is None:
                self._next_at = NEVER
                if not self._attempts:
                    self._give_up(now)
                return
            if self._attempt(lease, now):
                return

    def _attempt(self, lease: Lease, now: float) -> bool:
        """Connect; returns whether there is something to wait for."""
        server = lease.server
        family, where = cast("Endpoint", server.endpoint)  # nobody without one is picked
        self._tried.append(server)
        try:
            sock = connect(family, where)
        except OSError as error:
            return self._not_begun(lease, error, now)
        attempt = Attempt(self, lease, sock, now)
        try:
            self._poller.add(attempt.fd, attempt)
        except OSError as error:
            self._poller.close_later(attempt.fd, sock)
            return self._not_begun(lease, error, now)
        self._attempts.append(attempt)
        self._next_at = now + STAGGER
        return True

    def _not_begun(self, lease: Lease, error: OSError, now: float) -> bool:
        """Take in that a connect could not be begun; returns whether there is something to wait for."""
        server = lease.server
        lease.release()
        if reason(error.errno) != SHORTAGE:
            self._blame(server, error.errno or errno.EIO, now)
            return False
        # Our own shortage says nothing of the server: wait, other connections end all the time.
        self._failures.append(f"{server.label}: {error.strerror}")
        self._tried.remove(server)
        self._poller.pipes.close()
        self._next_at = now + STAGGER
        return True

    def _failed(self, attempt: Attempt, number: int, now: float, why: str = "") -> None:
        self._attempts.remove(attempt)
        self._drop(attempt)
        self._blame(attempt.lease.server, number, now, why)

    def _blame(self, server: Server, number: int, now: float, why: str = "") -> None:
        kind = reason(number)
        why = why or os.strerror(number).lower()
        self._failures.append(f"{server.label}: {why}")
        self._backend.saw(server, _SEEN.get(kind, CONNECT_FAILED), why, now, kind)

    def _drop(self, attempt: Attempt) -> None:
        attempt.lease.release()
        self._poller.close_later(attempt.fd, attempt.sock)

    def _give_up(self, now: float) -> None:
        dialler = self._dialler
        self._dialler = None
        for attempt in self._attempts:
            why = "no answer within the connect deadline"
            self._backend.saw(attempt.lease.server, CONNECT_FAILED, why, now, TIMEOUT)
            self._failures.append(f"{attempt.lease.server.label}: no answer")
            self._drop(attempt)
        self._attempts.clear()
        if dialler is not None:
            dialler.unreachable("; ".join(self._failures))
