"""Servers that lead back to the proxy by a way that their address does not show: found by what comes of it.

`checks.loops` knows the addresses that this proxy listens on. It cannot know of an address that the machine is given
later (a virtual one that moves here) or that is translated on the way (a service's address, a port redirected by the
firewall). One client of such a server becomes a circle, in which each connection makes the next one, until all
descriptors are used up. Its sign: among the clients is the proxy itself, by the address that the server knows it by.

That address alone may be another program's: one local port serves several connections, as long as they lead to
different places. It is this proxy where they lead to the same place; and, for one that is translated on the way, where
nearly all of the clients are met so, which no chance brings about.

To look for that takes a system call for each connection, so it is done when many more have come than gone.

Of several processes each looks for itself among its own part of the clients, where it is met in its share of a circle
only, by chance as well; whoever finds one has the others told.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import Final

from lbproxy.balance.server import Server
from lbproxy.net.bugs import for_each
from lbproxy.net.poller import Poller
from lbproxy.net.timers import NEVER, Timer
from lbproxy.proxy.backend import CIRCULAR, Backend
from lbproxy.proxy.session import Session

log = logging.getLogger("lbproxy.proxy")

WHY: Final = "it leads back to this proxy, which has met itself among its clients"
LEADS_BACK: Final = "leads_back"
_MANY: Final = 64
"""Connections that have come since the last look, at least."""
_FEW: Final = 16
_NEARLY_ALL: Final = 0.75
"""Of the clients. By chance it would take 20,000 connections from one address, by then its ports are used up."""
_SOON: Final = 0.2
"""Seconds until those are seen too that were just being made."""
REST: Final = 10.0
"""Seconds for which a server that leads back is not dialled. It may have been a moment's: the address moves on."""


class Circles(Timer):
    """Looks for them among the sessions of a proxy, and breaks them up."""

    __slots__ = ("_backend", "_open_then", "_out", "_out_until", "_poller", "_sessions", "look_at")

    def __init__(self, poller: Poller, backend: Backend, sessions: Collection[Session]) -> None:
        super().__init__()
        self._poller = poller
        self._backend = backend
        self._sessions = sessions
        self._open_then = 0
        self._out: list[Server] = []
        self._out_until = 0.0
        self.look_at = _MANY
        """How many connections there must have been in all for the next look."""

    def look(self, total: int) -> None:
        """Look for circles if many more connections have come than gone; `total` is how many there have been.

        So many come before the next look that it costs each of them no more than a system call.
        """
        grown = len(self._sessions) - self._open_then
        self._open_then = len(self._sessions)
        self.look_at = total + max(_MANY, self._open_then)
        if grown >= _MANY // 2 and self._break_up():
            self._poller.at(self, self._poller.now + _SOON)

    def _break_up(self) -> bool:
        """Cut every client that is this proxy itself, and leave its server out; returns whether there is one."""
        ours = {name: session for session in self._sessions if (name := session.own_name())}
        met = [session for session in self._sessions if session.peer in ours]
        shares = self._backend.pool.shares
        processes = shares.size if shares is not None else 1
        many = len(met) >= max(_FEW, _NEARLY_ALL * len(self._sessions) / processes)
        circular = met if many else [each for each in met if _leads_to(ours[each.peer], each)]
        for session in circular:
            server = ours[session.peer].server
            if server is not None and not server.circular:
                server.circular = WHY
                self._out.append(server)
                self._out_until = self._poller.now + REST
                if self._backend.on_sign is None:
                    say(self._backend, server)
                else:
                    self._backend.on_sign(server, CIRCULAR)
        for_each(circular, lambda session: session.cut(LEADS_BACK))
        return bool(circular)

    def due(self, now: float) -> float:
        """Cut those that were still being made, and let the servers be tried again in the end."""
        if self._break_up():
            return now + _SOON
        if now < self._out_until:
            return self._out_until
        for server in self._out:
            server.circular = ""
        self._out.clear()
        return NEVER


def say(backend: Backend, server: Server) -> None:
    """Tell the log that a server is left out."""
    log.error("%s: server %s is not used: %s", backend.name, server.label, server.circular)


def _leads_to(ours: Session, client: Session) -> bool:
    """Whether what `ours` has dialled is where `client` has been let in, so that the two are one connection."""
    server = ours.server
    if server is None or server.endpoint is None:
        return False
    where, here = server.endpoint[1], client.client.getsockname()
    return where[0] == here[0] and where[1] == here[1]
