"""One proxy at work: its listeners, its sessions, and what happens to them when a server changes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from socket import SocketType
from typing import Any, Final, Protocol

from lbproxy.balance.health import Transition
from lbproxy.balance.pool import Pool
from lbproxy.balance.server import Server
from lbproxy.balance.state import State
from lbproxy.config.model import Address, ProxyConfig
from lbproxy.net import sockets as socks
from lbproxy.net.closing import reset
from lbproxy.net.poller import Poller
from lbproxy.proxy.backend import Backend
from lbproxy.proxy.evict import GRACE, SPREAD, Eviction
from lbproxy.proxy.listener import ConnectionLimit, Listener
from lbproxy.proxy.rebalance import REBALANCED, Rebalancer
from lbproxy.proxy.session import NO_SERVER, UNREACHABLE, Session
from lbproxy.status.snapshot import ConnectionView, ProxyView, ServerView

log = logging.getLogger(__name__)
access = logging.getLogger("lbproxy.access")

MAX_CONNECTIONS: Final = "max_connections"
SHUTDOWN: Final = "shutdown"
SERVER_DOWN: Final = "server_down"
SERVER_SICK: Final = "server_sick"
DRAINED: Final = "drained"
REMOVED: Final = "removed"
_CUTS: Final = (SERVER_DOWN, SERVER_SICK, DRAINED, REMOVED, REBALANCED)
"""What lbproxy decides itself, and therefore counts per server."""
_COMPLAIN_EVERY: Final = 1.0


class ServerMonitor(Protocol):
    """Looks after one server in service: its name, its checks."""

    def check(self) -> None:
        """Check as the proxy's settings now say, or no longer."""

    def hurry(self) -> None:
        """Called when traffic has just failed: look again."""

    def stop(self) -> None:
        """Look after it no longer."""


class Proxy:
    """Listeners and sessions of one proxy. `monitor` makes what looks after a server while it is configured."""

    def __init__(
        self,
        name: str,
        settings: ProxyConfig,
        poller: Poller,
        limit: ConnectionLimit,
        pool: Pool,
        monitor: Callable[[Backend, Server], ServerMonitor],
    ) -> None:
        self.name = name
        self.backend = Backend(name, settings, pool, self._changed, self._failed)
        self.listeners: dict[Address, Listener] = {}
        self.sessions: set[Session] = set()
        self.log_access = False
        self.unkept: Callable[[int], None] = lambda slot: None
        """Hears of the end of a session that systemd holds too, by its slot."""
        self._poller = poller
        self._limit = limit
        self.on_end = self._ended
        self._connections_total = 0
        self._closed: dict[str, int] = {}
        self._rejected: dict[str, int] = {}
        self._complained_at = -_COMPLAIN_EVERY
        self._unsaid = 0
        self._rebalancer = self._new_rebalancer()
        self._monitor = monitor
        self._monitors = {server: monitor(self.backend, server) for server in pool.servers}

    # -- listeners -----------------------------------------------------------------------------------------------

    def listen(self, address: Address, sock: SocketType) -> None:
        """Accept on `sock`, which listens on `address`."""
        self.listeners[address] = Listener(self._poller, self._limit, sock, self._admit)
        self._poller.at(self._rebalancer, self._poller.now)

    def take_listener(self, address: Address) -> Listener:
        """Part with a listener that goes over to another proxy."""
        return self.listeners.pop(address)

    def adopt(self, address: Address, listener: Listener) -> None:
        """Take over a listener from another proxy."""
        listener.admit = self._admit
        self.listeners[address] = listener
        self._poller.at(self._rebalancer, self._poller.now)

    def close_listener(self, address: Address) -> None:
        """Stop listening on `address`."""
        self.listeners.pop(address).close()

    # -- sessions ------------------------------------------------------------------------------------------------

    def _admit(self, client: SocketType, peer: tuple[Any, ...]) -> None:
        self._connections_total += 1
        limit = self.backend.max_connections
        if limit and len(self.sessions) >= limit:
            _count(self._rejected, MAX_CONNECTIONS)
            reset(client)
            client.close()
            self._limit.left()
            return
        session = Session(self._poller, self.backend, client, peer, self.on_end)
        self.sessions.add(session)
        session.start()

    def take_in(self, session: Session) -> None:
        """Count in a connection that was another process's, made with `on_end`."""
        self.sessions.add(session)
        self._limit.open += 1

    def _ended(self, session: Session, reason: str, why: str) -> None:
        self.sessions.discard(session)
        self._limit.left()
        if session.link is not None and session.link.kept:
            self.unkept(session.link.kept)
        to_server, to_client = session.bytes_moved()
        server = session.server
        if server is not None:
            server.bytes_in += to_server
            server.bytes_out += to_client
            if reason in _CUTS:
                _count(server.cuts, reason)
        if reason in (UNREACHABLE, NO_SERVER):
            _count(self._rejected, reason)
            self._complain(why)
        else:
            _count(self._closed, reason)
        if self.log_access:
            access.info(
                "%s %s -> %s %.3fs in=%d out=%d %s",
                self.name,
                socks.name(session.peer),
                server.name if server else "-",
                self._poller.now - session.born,
                to_server,
                to_client,
                reason,
            )

    def _complain(self, why: str) -> None:
        now = self._poller.now
        if now - self._complained_at < _COMPLAIN_EVERY:
            self._unsaid += 1
            return
        more = f" ({self._unsaid} more since the last such line)" if self._unsaid else ""
        log.warning("%s: a client could not be served: %s%s", self.name, why, more)
        self._complained_at, self._unsaid = now, 0

    def of(self, server: Server) -> Iterator[Session]:
        """Return the sessions that are connected to `server`."""
        return (session for session in list(self.sessions) if session.server is server)

    def cut(self, server: Server, reason: str) -> int:
        """Cut every connection to `server`; returns how many."""
        victims = list(self.of(server))
        for session in victims:
            session.cut(reason)
        return len(victims)

    def close(self, reason: str) -> None:
        """Cut everything."""
        for session in list(self.sessions):
            session.cut(reason)

    # -- servers that change -------------------------------------------------------------------------------------

    def _failed(self, server: Server) -> None:
        monitor = self._monitors.get(server)
        if monitor is not None:
            monitor.hurry()

    def _changed(self, server: Server, transition: Transition) -> None:
        level = logging.INFO if transition.new is State.UP else logging.WARNING
        log.log(
            level,
            "%s: server %s is %s, was %s: %s",
            self.name,
            server.name,
            transition.new,
            transition.old,
            transition.reason,
        )
        if transition.new is State.DOWN and not transition.checked:
            return
        settings = self.backend.settings
        checked = server.health.checked
        since = checked.since

        def still() -> bool:
            return checked.state is transition.new and checked.since == since

        if transition.new is State.DOWN:
            for session in list(self.sessions):
                session.move_on(server)
            if settings.on_down == "close":
                count = self.cut(server, SERVER_DOWN)
                if count:
                    log.warning("%s: cut %d connections to %s", self.name, count, server.name)
        elif transition.new is State.SICK and settings.on_down == "close":
            self._evict(server, SERVER_SICK, GRACE, still, partial(self.backend.pool.others_up, server), SPREAD)
        elif transition.new is State.DRAINING:
            self._evict(server, DRAINED, settings.drain_timeout, still)

    def _evict(
        self,
        server: Server,
        reason: str,
        after: float,
        still: Callable[[], bool],
        may: Callable[[], bool] = lambda: True,
        spread: float = 0.0,
    ) -> None:
        eviction = Eviction(reason, partial(self.of, server), still, may, spread)
        self._poller.at(eviction, self._poller.now + after)

    def set_drain(self, server: Server, drain: bool) -> None:
        """Take `server` out of rotation by the operator's word, or put it back."""
        if drain and not server.manual:
            server.drained_at = self._poller.now
            since = server.drained_at
            self._evict(
                server,
                DRAINED,
                self.backend.settings.drain_timeout,
                lambda: server.manual and server.drained_at == since,
            )
        elif not drain and server.manual:
            server.recovered_at = self._poller.now
        server.manual = drain
        log.info("%s: server %s %s by the operator", self.name, server.name, "drained" if drain else "made ready")

    def _new_rebalancer(self) -> Rebalancer:
        def quiet(server: Server, seconds: float) -> Iterator[Session]:
            return (each for each in self.of(server) if each.link is not None and each.link.idle() >= seconds)

        return Rebalancer(self.backend, quiet, lambda: bool(self.listeners))

    def rebalance(self, *, dry_run: bool) -> dict[str, int]:
        """Close every surplus connection that is quiet, or only count them; returns how many, by server name."""
        return self._rebalancer.once(self._poller.now, dry_run=dry_run)

    def reconcile(self, settings: ProxyConfig, node_id: str) -> None:
        """Go over to new settings, live connections included."""
        backend = self.backend
        retuned = _without_places(settings) != _without_places(backend.settings)
        resettled = settings.rebalance != backend.settings.rebalance
        recheck = settings.health != backend.settings.health
        down = {server: server.settings.down for server in backend.pool.servers}
        backend.settings = settings
        if resettled:
            self._poller.timers.drop(self._rebalancer)
            self._rebalancer = self._new_rebalancer()
            self._poller.at(self._rebalancer, self._poller.now)
        added, removed = backend.pool.reconcile(settings, node_id, self._poller.now)
        if added:
            self._welcome_back({server.key: server for server in added})
        if retuned:
            for session in list(self.sessions):
                session.refresh()
        for server in backend.pool.servers:
            if server not in self._monitors:
                self._monitors[server] = self._monitor(backend, server)
            elif recheck or server.settings.down != down[server]:
                self._monitors[server].check()
        for server in removed:  # and not before those added have their addresses: its clients may turn to them
            self._monitors.pop(server).stop()
            self.retire(server)

    def _welcome_back(self, added: dict[tuple[str, str], Server]) -> None:
        """Count connections that a server still has from before it was removed as its own again: it may keep them."""
        for session in self.sessions:
            server = session.server and added.get(session.server.key)
            if server and session.lease is not None:
                session.lease.server.connections -= 1
                session.lease.server = server
                server.connections += 1

    def retire(self, server: Server) -> None:
        """Let the connections of a removed server live on for drain_timeout, then cut them."""
        if server.connections:
            self._evict(server, REMOVED, self.backend.settings.drain_timeout, lambda: True)
        for session in list(self.sessions):
            session.move_on(server)

    def leave(self) -> None:
        """Take every server out of service, for the whole proxy is removed."""
        for server, monitor in self._monitors.items():
            monitor.stop()
            self.retire(server)
        self._monitors.clear()

    # -- views ---------------------------------------------------------------------------------------------------

    def view(self, now: float) -> ProxyView:
        """Return the proxy as it is now."""
        live: dict[Server, list[int]] = {}
        for session in self.sessions:
            if session.server is not None:
                both = live.setdefault(session.server, [0, 0])
                moved = session.bytes_moved()
                both[0] += moved[0]
                both[1] += moved[1]
        servers = [_view(server, live.get(server, [0, 0]), now) for server in self.backend.pool.servers]
        return ProxyView(
            name=self.name,
            listen=tuple(map(str, self.listeners)),
            connections=len(self.sessions),
            connections_total=self._connections_total,
            rejected=dict(self._rejected),
            closed=dict(self._closed),
            servers=tuple(servers),
        )

    def connections(self, now: float) -> list[ConnectionView]:
        """Return the open connections, oldest first."""
        views = []
        for session in sorted(self.sessions, key=lambda session: session.born):
            to_server, to_client = session.bytes_moved()
            age = now - session.born
            idle = session.link.idle() if session.link is not None else age
            views.append(
                ConnectionView(
                    proxy=self.name,
                    server=session.server.name if session.server else "",
                    client=socks.name(session.peer),
                    age_seconds=age,
                    idle_seconds=min(idle, age),
                    bytes_in=to_server,
                    bytes_out=to_client,
                )
            )
        return views


def _count(counts: dict[str, int], what: str) -> None:
    counts[what] = counts.get(what, 0) + 1


def _without_places(settings: ProxyConfig) -> ProxyConfig:
    return replace(settings, listen=(), servers=())


def _view(server: Server, live: list[int], now: float) -> ServerView:
    state, reason, since = server.state()
    return ServerView(
        name=server.name,
        address=str(server.settings.address),
        state=state,
        reason=reason,
        since_seconds=max(0.0, now - since),
        weight=server.weight,
        backup=server.backup,
        connections=server.connections,
        connections_total=server.connections_total,
        connect_failures=dict(server.failures),
        bytes_in_total=server.bytes_in + live[0],
        bytes_out_total=server.bytes_out + live[1],
        connect_seconds=server.connect_seconds.view(),
        first_byte_seconds=server.first_byte_seconds.view(),
        checks=dict(server.checks),
        flips_total=server.transitions,
        replays_total=server.replays,
        cuts=dict(server.cuts),
    )
