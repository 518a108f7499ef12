"""What becomes of a server's connections when something happens to it.

    down       cut at once, with a reset, if `on_down` says so: nothing will ever come from there, and the client
               should reconnect now
    sick       taken off after GRACE, spread over SPREAD: it still answers, and may recover
    draining   by its own word: left alone until it has ended them itself, however long its graceful stop takes
    drained    by the operator: cut when drain_timeout is over, until then the server or the clients end them themselves
    removed    likewise

Down and sick are the checks' word; what clients alone have found costs nobody a connection. And both act only while
another server is up: a connection that may be dead is worth more than none. Where there is no better place, they wait
until there is one; sick ones for GRACE more, since what has made all of them sick is over for all of them by then. A
client that has not had a byte from a server that is down or removed turns to another one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Final

from lbproxy.balance.health import Transition
from lbproxy.balance.server import Server
from lbproxy.balance.state import State
from lbproxy.net.poller import Poller
from lbproxy.proxy.backend import Backend
from lbproxy.proxy.evict import Eviction
from lbproxy.proxy.sessions import DRAINED, REMOVED, SERVER_DOWN, SERVER_SICK, Sessions

log = logging.getLogger("lbproxy.proxy")

GRACE: Final = 15.0
"""Seconds a server may be sick before its connections are moved off: a restarting etcd member is back by then, and
the 40 s after which a silent node is NotReady are not over."""
SPREAD: Final = 3.0
"""Seconds over which they are moved."""


class Reaction:
    """Acts on the sessions of one proxy."""

    def __init__(self, poller: Poller, backend: Backend, sessions: Sessions, *, says: bool = True) -> None:
        """It `says` what it hears unless another process does."""
        self._says = says
        self._poller = poller
        self._backend = backend
        self._sessions = sessions

    def changed(self, server: Server, transition: Transition) -> None:
        """Called when the state of `server` has changed, or what the checks say behind it."""
        said = transition.said
        if self._says:
            self._tell(server, transition)
        if said is State.DOWN:
            self._down(server)
        elif said is State.SICK and self._backend.settings.on_down == "close":
            self._later(GRACE, self._eviction(server, SERVER_SICK, State.SICK, SPREAD, GRACE))

    def _tell(self, server: Server, transition: Transition) -> None:
        new, old, said = transition.new, transition.old, transition.said
        who = self._backend.name, server.label
        level = logging.INFO if new is State.UP else logging.WARNING
        if new is not old:
            log.log(level, "%s: server %s is %s, was %s: %s", *who, new, old, transition.reason)
        elif said is not State.UP:
            log.warning("%s: server %s is %s for the checks too: %s", *who, said, server.health.checked.reason)

    def _down(self, server: Server) -> None:
        close = self._backend.settings.on_down == "close"
        others_up = self._backend.pool.others_up
        if others_up(server):
            self._sessions.move_on(server)  # and who is asked then may be down, too
        if not others_up(server):
            if close and server.connections:
                why = "%s: no server is up that could take the %d connections of %s: they stay for now"
                log.warning(why, self._backend.name, server.connections, server.label)
                self._later(0.0, self._eviction(server, SERVER_DOWN, State.DOWN))
            return
        count = self._sessions.cut(server, SERVER_DOWN) if close else 0
        if count:
            log.warning("%s: cut %d connections to %s", self._backend.name, count, server.label)

    def _eviction(self, server: Server, reason: str, state: State, spread: float = 0.0, grace: float = 0.0) -> Eviction:
        def may() -> bool:
            return self._backend.pool.others_up(server) and not server.health.checked.rising

        return Eviction(reason, partial(self._sessions.of, server), self._still(server, state), may, spread, grace)

    def _drain(self, server: Server, still: Callable[[], bool]) -> None:
        victims = partial(self._sessions.of, server)
        self._later(self._backend.settings.drain_timeout, Eviction(DRAINED, victims, still))

    def _still(self, server: Server, state: State) -> Callable[[], bool]:
        """Return a function that says whether `server` has been in the checks' `state` without a break since now."""
        checked = server.health.checked
        since = checked.since
        return lambda: checked.state is state and checked.since == since

    def _later(self, seconds: float, eviction: Eviction) -> None:
        self._poller.at(eviction, self._poller.now + seconds)

    def set_drain(self, server: Server, drain: bool) -> None:
        """Take `server` out of rotation by the operator's word, or put it back."""
        if drain and not server.manual:
            server.drained_at = since = self._poller.now
            self._drain(server, lambda: server.manual and server.drained_at == since)
        elif not drain and server.manual:
            server.recovered_at = self._poller.now
        else:
            return
        server.manual = drain
        if self._says:
            how = "drained" if drain else "made ready"
            log.info("%s: server %s %s by the operator", self._backend.name, server.label, how)

    def retire(self, server: Server) -> None:
        """Let the connections of a removed server live on for drain_timeout, then cut them."""
        if server.connections:
            victims = partial(self._sessions.of, server)
            self._later(self._backend.settings.drain_timeout, Eviction(REMOVED, victims, lambda: True))
        self._sessions.move_on(server)
