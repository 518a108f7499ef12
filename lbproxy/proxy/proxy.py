"""One proxy at work: its listeners, its servers and what looks after them, and how it goes over to new settings."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from socket import SocketType
from typing import NamedTuple, Protocol

from lbproxy.balance.group import Group
from lbproxy.balance.health import Transition
from lbproxy.balance.pool import Pool
from lbproxy.balance.server import Endpoint, Server
from lbproxy.config.model import Address, ProxyConfig
from lbproxy.net.poller import Poller
from lbproxy.proxy import views
from lbproxy.proxy.backend import TRIED, Backend
from lbproxy.proxy.crew import Crew
from lbproxy.proxy.listener import ConnectionLimit, Listener
from lbproxy.proxy.reaction import Reaction
from lbproxy.proxy.rebalance import Rebalancer
from lbproxy.proxy.sessions import Sessions
from lbproxy.proxy.vitals import Vitals
from lbproxy.status.snapshot import ConnectionView, ProxyView

log = logging.getLogger(__name__)


class ServerMonitor(Protocol):
    """Looks after one configured server: its name, the checks of its addresses."""

    def found(self, answer: Sequence[Endpoint]) -> None:
        """Called with the addresses that its name has, if they come from somewhere else."""

    def check(self) -> None:
        """Check as the proxy's settings now say, or no longer."""

    def hurry(self, server: Server) -> None:
        """Called when traffic has just failed at one of its addresses: look again."""

    def stop(self) -> None:
        """Look after it no longer."""


class Shared(NamedTuple):
    """What the proxies of a process have in common."""

    poller: Poller
    limit: ConnectionLimit
    monitor: Callable[[Backend, Group], ServerMonitor]
    """Makes what looks after a server while it is configured."""
    unkept: Callable[[int], None] = lambda slot: None
    """Called at the end of a connection that somebody else held too, with its slot (`Link.kept`)."""
    crew: Crew | None = None
    """The other processes that serve the same proxies."""


class Proxy:
    """Listeners, sessions and servers of one proxy."""

    def __init__(self, name: str, settings: ProxyConfig, pool: Pool, shared: Shared) -> None:
        poller = shared.poller
        self.name = name
        self.backend = Backend(name, settings, pool, self._changed, self._failed, self._resolved)
        self.sessions = Sessions(poller, self.backend, shared.limit, shared.unkept)
        self.listeners: dict[Address, Listener] = {}
        self._coming: list[Server] | None = None  # those found while many are: all sessions are gone through for them
        self._settled = settings  # what `reconcile` has got to the end of
        self._shared = shared
        self._poller = poller
        crew = shared.crew
        self._leads = crew is None or not crew.follows
        self._reaction = Reaction(poller, self.backend, self.sessions, says=self._leads)
        self._rebalancer = self._new_rebalancer()
        self._vitals = Vitals(poller, self.backend, self.sessions, lambda: bool(self.listeners))
        if crew is not None:
            self._join(crew)
        self._monitors = {group: shared.monitor(self.backend, group) for group in pool.groups}

    def _join(self, crew: Crew) -> None:
        backend = self.backend
        on_sign = crew.on_sign
        backend.pool.shares = crew.shares
        backend.pool.on_trial = lambda server: on_sign(backend, server, TRIED)
        backend.on_sign = lambda server, sign: on_sign(backend, server, sign)

    # -- listeners -----------------------------------------------------------------------------------------------

    def listen(self, address: Address, sock: SocketType) -> None:
        """Accept on `sock`, which listens on `address`."""
        self.adopt(address, Listener(self._poller, self._shared.limit, sock, self.sessions.accept))

    def take_listener(self, address: Address) -> Listener:
        """Part with a listener that goes over to another proxy."""
        return self.listeners.pop(address)

    def adopt(self, address: Address, listener: Listener) -> None:
        """Take over a listener from another proxy."""
        listener.on_accept = self.sessions.accept
        self.listeners[address] = listener
        self._poller.at(self._rebalancer, self._poller.now)
        self._poller.at(self._vitals, self._poller.now)

    def close_listener(self, address: Address) -> None:
        """Stop listening on `address`."""
        self.listeners.pop(address).close()

    # -- servers -------------------------------------------------------------------------------------------------

    def _changed(self, server: Server, transition: Transition) -> None:
        self._reaction.changed(server, transition)

    def _failed(self, server: Server) -> None:
        for group, monitor in self._monitors.items():
            if server in group.members:
                monitor.hurry(server)

    def _resolved(self, came: list[Server], gone: list[Server]) -> None:
        coming = self._coming
        if coming is not None:
            coming += came
        else:
            self.sessions.welcome_back(came)
        for server in gone:
            if self._leads:
                log.info("%s: the name of %s no longer leads there: its connections may drain", self.name, server.label)
            self.retire(server)

    def set_drain(self, group: Group, drain: bool) -> None:
        """Take a configured server out of rotation by the operator's word, or put it back."""
        for server in group.members:
            self._reaction.set_drain(server, drain)

    def located(self, group: Group, places: Sequence[Endpoint]) -> None:
        """Take it from a predecessor where the name of a configured server leads."""
        self._monitors[group].found(places)

    def retire(self, server: Server) -> None:
        """Let the connections of a removed server live on for drain_timeout, then cut them."""
        self._reaction.retire(server)

    def _new_rebalancer(self) -> Rebalancer:
        crew = self._shared.crew
        processes = crew.shares.size if crew is not None else 1
        return Rebalancer(self.backend, self.sessions.quiet, lambda: bool(self.listeners), processes=processes)

    def rebalance(self, *, dry_run: bool, beyond: Mapping[str, int] | None = None) -> dict[str, int]:
        """Close every surplus connection that is quiet, or only count them; returns how many, by server name."""
        return self._rebalancer.once(self._poller.now, dry_run=dry_run, beyond=beyond)

    # -- settings ------------------------------------------------------------------------------------------------

    def reconcile(self, settings: ProxyConfig, node_id: str) -> None:
        """Go over to new settings, live connections included. What a bug has left undone is done by the next call."""
        backend = self.backend
        old = self._settled
        down = {(server.name, str(server.address)): server.down for server in old.servers}
        backend.settings = settings
        if settings.rebalance != old.rebalance:
            self._poller.timers.drop(self._rebalancer)
            self._rebalancer = self._new_rebalancer()
            self._poller.at(self._rebalancer, self._poller.now)
        backend.pool.reconcile(settings, node_id, self._poller.now)
        if _without_places(settings) != _without_places(old):
            self.sessions.refresh()
        coming: list[Server] = []
        self._coming = coming
        try:
            for group in backend.pool.groups:
                if group not in self._monitors:
                    self._monitors[group] = self._shared.monitor(backend, group)
                elif settings.health != old.health or group.settings.down != down.get(group.key):
                    self._monitors[group].check()
        finally:
            self._coming = None
            self.sessions.welcome_back(coming)
        stay = set(backend.pool.groups)
        for group in [each for each in self._monitors if each not in stay]:
            # Now that those added have their addresses: its clients may turn to them.
            self._dismiss(group)
        self._settled = settings

    def leave(self) -> None:
        """Take every server out of service, for the whole proxy is removed."""
        for group in list(self._monitors):
            self._dismiss(group)

    def _dismiss(self, group: Group) -> None:
        for server in group.members:
            self.retire(server)
        self._monitors.pop(group).stop()

    # -- views ---------------------------------------------------------------------------------------------------

    def view(self, now: float) -> ProxyView:
        """Return the proxy as it is now."""
        return views.proxy_view(self.backend, self.sessions, self.listeners, now)

    def connections(self, now: float) -> Iterator[ConnectionView]:
        """Yield the open connections, oldest first."""
        return views.connection_views(self.backend, self.sessions, now)


def _without_places(settings: ProxyConfig) -> ProxyConfig:
    return replace(settings, listen=(), servers=())
