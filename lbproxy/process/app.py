"""The data plane of one process: owns the poller, the proxies and every task; starts, applies, drains, stops."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from math import inf
from socket import SocketType
from time import monotonic
from typing import Any

from lbproxy import __version__
from lbproxy.balance.pool import Pool
from lbproxy.balance.server import Server
from lbproxy.checks.monitor import Known, Monitor, look_up, rehearse
from lbproxy.config.diff import diff
from lbproxy.config.model import Address, Config, ProxyConfig
from lbproxy.handover.inherit import Frozen, Inherited, adopt
from lbproxy.handover.keeper import MARKS, FdStore, Keeper, stored_name
from lbproxy.handover.marks import Marks
from lbproxy.handover.parcel import Parcel
from lbproxy.handover.revive import parcel_of
from lbproxy.net import sockets as socks
from lbproxy.net.poller import Poller
from lbproxy.process.identity import node_id
from lbproxy.proxy.backend import Backend
from lbproxy.proxy.listener import ConnectionLimit
from lbproxy.proxy.proxy import SHUTDOWN, Proxy
from lbproxy.proxy.rebalance import sum_up
from lbproxy.proxy.session import Session
from lbproxy.status.snapshot import ConnectionView, ReloadView, Snapshot
from lbproxy.tasks import Tasks

log = logging.getLogger(__name__)


class App:
    """The data plane in this process; see `dataplane.DataPlane` for what each verb promises."""

    def __init__(self, config: Config, inherited: Inherited | None = None, store: FdStore | None = None) -> None:
        """`inherited` is what a predecessor has left; `store` keeps connections for a successor."""
        self._config = config
        self._inherited = inherited or Inherited()
        self._store = store
        self._keeper: Keeper | None = None
        self._frozen: list[Frozen] = []
        self._still = False
        self.marks: Marks | None = None
        """Of the connections that are kept, None when none are."""
        self._sockets = dict(self._inherited.listeners)
        self._generation = 1
        self._started = monotonic()
        self._proxies: dict[str, Proxy] = {}
        self._leaving: list[Proxy] = []
        self._tasks, self._end = Tasks(), Tasks()
        self._known: Known = {}
        self._stopped = True  # there is nothing to stop yet

    def inherit(self, listeners: Mapping[Address, SocketType]) -> None:
        """Use these sockets, which listen already, in place of binding their addresses in the next `apply`."""
        self._sockets.update(listeners)

    async def start(self) -> None:
        """Bind every listen address and begin to serve. Raises LbproxyError, with nothing left bound."""
        await self.prepare()
        self.serve()

    async def prepare(self) -> None:
        """Do all of `start` that can fail: look up, bind, but neither accept nor move anything."""
        rehearse(self._config)
        self._known = await look_up(server for proxy in self._config.proxies.values() for server in proxy.servers)
        self._bound = self._bind({a: name for name, proxy in self._config.proxies.items() for a in proxy.listen})
        self._poller = poller = Poller(asyncio.get_running_loop())
        # To be closed before the loop is (`calls.embed`): whoever ends the loop cancels what still runs in it.
        self._end.spawn(asyncio.Event().wait(), "poller").add_done_callback(lambda _: poller.close())
        self._stopped = False
        self._limit = ConnectionLimit.for_process()
        for name in self._config.proxies:
            self._open(name)
        self.marks = self._inherited.marks
        if self.marks is None and self._store is not None:
            self.marks = Marks.create(self._limit.limit)
            self._store.store(MARKS, [self.marks.fd])
        if self.marks is not None:
            self._poller.marks = self.marks.page

    def serve(self) -> None:
        """Do the rest of `start`: accept, and let the connections of a predecessor go on."""
        inherited, self._inherited = self._inherited, Inherited()
        for server in inherited.state.get("drained", ()):
            self._drain(server, True)
        self._frozen = adopt(inherited, self._poller, self.marks, self._proxy_of)
        if self._store is not None and self.marks is not None:
            keeper = self._keeper = Keeper(self._store, self.marks, self._sessions, self.state)
            keeper.begin(inherited.carriers)
            self._tasks.spawn(self._keep(keeper), "keep")
        for name, proxy in self._config.proxies.items():
            for address in proxy.listen:
                self._proxies[name].listen(address, self._bound.pop(address))
        for address, sock in self._sockets.items():
            log.info("no longer listening on %s", address)
            sock.close()
            self._forget(address)
        self._sockets.clear()
        self._settle()
        self.thaw()

    def _proxy_of(self, proxy: str) -> Proxy:
        """Return the proxy of that name; for one that is no longer configured, one to end its connections in."""
        for frontend in self._all():
            if frontend.name == proxy:
                return frontend
        settings = ProxyConfig(listen=(), servers=())
        pool = Pool(settings, node_id(self._config), monotonic())
        self._leaving.append(Proxy(proxy, settings, self._poller, self._limit, pool, self._monitor))
        return self._leaving[-1]

    def _sessions(self) -> Iterator[Session]:
        return (session for frontend in self._all() for session in frontend.sessions)

    def state(self) -> dict[str, Any]:
        """Return what a successor must know besides the connections; see `inherit.Inherited`."""
        drained = {
            server.name
            for frontend in self._proxies.values()
            for server in frontend.backend.pool.servers
            if server.manual
        }
        return {"drained": sorted(drained), "carrier": self._keeper.number if self._keeper else 0}

    async def _keep(self, keeper: Keeper) -> None:
        while True:
            await asyncio.sleep(1)
            if not self._still:
                keeper.sweep(monotonic())

    def listeners(self) -> dict[Address, SocketType]:
        """Return the listening sockets."""
        return {
            address: listener.sock
            for frontend in self._proxies.values()
            for address, listener in frontend.listeners.items()
        }

    def freeze(self) -> list[Parcel]:
        """Stop all movement and accepting; returns every connection, to be handed over."""
        self._still = True
        for frontend in self._proxies.values():
            for listener in frontend.listeners.values():
                listener.pause()
        self._frozen = [(session, *session.freeze()) for session in list(self._sessions())]
        return [parcel_of(session, flight, rests) for session, flight, rests in self._frozen]

    def thaw(self) -> None:
        """Go on where `freeze` stopped: nobody has taken over."""
        self._still, frozen, self._frozen = False, self._frozen, []
        for session, flight, rests in frozen:
            try:
                session.thaw(flight, rests)
            except Exception:
                log.exception("a connection met a bug and is closed")
                session.crashed()
        for frontend in self._proxies.values():
            for listener in frontend.listeners.values():
                listener.go_on()

    def leave(self) -> bool:
        """Leave everything, frozen, in the fd store; False if there is none. The process is to end now."""
        if self._keeper is None:
            return False
        self._keeper.sweep(inf)
        if not self._keeper.leave(self.freeze()):
            log.error("not all of %d connections could be left to the next process", len(self._frozen))
        return True

    def _bind(self, wanted: Mapping[Address, str]) -> dict[Address, SocketType]:
        inherited = {address: self._sockets.pop(address) for address in wanted if address in self._sockets}
        bound = socks.listen_all({a: name for a, name in wanted.items() if a not in inherited})
        if self._store is not None:
            for address, sock in bound.items():
                self._store.store(stored_name(address), [sock.fileno()])
        return inherited | bound

    def _forget(self, address: Address) -> None:
        if self._store is not None:
            self._store.forget(stored_name(address))

    def _open(self, name: str) -> None:
        settings = self._config.proxies[name]
        pool = Pool(settings, node_id(self._config), monotonic())
        self._proxies[name] = Proxy(name, settings, self._poller, self._limit, pool, self._monitor)

    def _monitor(self, backend: Backend, server: Server) -> Monitor:
        return Monitor(self._tasks, backend, server, self._known)

    def _settle(self) -> None:
        for frontend in self._all():
            frontend.log_access = self._config.log.access
            if self._keeper is not None:
                frontend.unkept = self._keeper.left

    async def apply(self, config: Config) -> list[str]:
        """Go over to `config`; returns what changed, a line each. Raises LbproxyError with nothing changed."""
        plan = diff(self._config, config)
        rehearse(config)
        known = await look_up(server for each in plan.proxies for server in each.servers_added)
        bound = self._bind({address: each.name for each in plan.proxies for address in each.listen_opened})
        # From here on nothing fails and nothing waits: no client ever meets half of a configuration.
        self._config, self._known = config, known
        self._generation += 1
        for name, proxy in config.proxies.items():
            if name in self._proxies:
                self._proxies[name].reconcile(proxy, node_id(config))
            else:
                self._open(name)
        for move in plan.moved:
            listener = self._proxies[move.source].take_listener(move.address)
            self._proxies[move.target].adopt(move.address, listener)
        for each in plan.proxies:
            for address in each.listen_opened:
                self._proxies[each.name].listen(address, bound[address])
            for address in each.listen_closed:
                self._proxies[each.name].close_listener(address)
                self._forget(address)
            if each.new is None:
                self._retire(self._proxies.pop(each.name))
        self._proxies = {name: self._proxies[name] for name in config.proxies}
        self._settle()
        return plan.lines()

    def _retire(self, frontend: Proxy) -> None:
        frontend.leave()
        self._leaving = [each for each in (*self._leaving, frontend) if each.sessions]

    async def snapshot(self) -> Snapshot:
        """Return the state of everything; its `config` part is filled in by the caller."""
        now = monotonic()
        self._leaving = [frontend for frontend in self._leaving if frontend.sessions]
        return Snapshot(
            version=__version__,
            pid=os.getpid(),
            uptime_seconds=now - self._started,
            generation=self._generation,
            config=ReloadView(file=""),
            loop_lag_seconds=0.0,
            proxies=tuple(frontend.view(now) for frontend in self._proxies.values()),
        )

    async def connections(self) -> list[ConnectionView]:
        """Return the open connections, also those of proxies that are being removed."""
        now = monotonic()
        return [view for frontend in self._all() for view in frontend.connections(now)]

    def _all(self) -> list[Proxy]:
        return [*self._proxies.values(), *self._leaving]

    async def set_drain(self, server: str, drain: bool) -> bool:
        """Take `server` out of rotation in every proxy that has it, or put it back; False if none has it."""
        return self._drain(server, drain)

    def _drain(self, server: str, drain: bool) -> bool:
        found = [
            (frontend, match)
            for frontend in self._proxies.values()
            if (match := frontend.backend.pool.find(server)) is not None
        ]
        for frontend, match in found:
            frontend.set_drain(match, drain)
        return bool(found)

    async def rebalance(self, dry_run: bool) -> dict[str, int]:
        """Close quiet surplus connections once, or only count them; returns how many, by server name."""
        return sum_up(frontend.rebalance(dry_run=dry_run) for frontend in self._proxies.values())

    async def stop(self, timeout: float) -> None:
        """Stop accepting, let connections end for at most `timeout` seconds, then cut what is left."""
        if self._stopped:
            return
        for frontend in self._all():
            for address in list(frontend.listeners):
                frontend.close_listener(address)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._limit.emptied(), timeout)
        self._stopped = True
        for frontend in self._all():
            frontend.close(SHUTDOWN)
        await self._tasks.cancel()
        await self._end.cancel()
