"""The data plane of one process: owns the engine, the frontends and every task; starts, applies, drains, stops."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from socket import SocketType
from time import monotonic
from typing import Any, Final

from lbproxy import __version__
from lbproxy import sock as socks
from lbproxy.attend import Attendant, rehearse
from lbproxy.balance.pool import Pool
from lbproxy.balance.server import Server
from lbproxy.config.diff import diff
from lbproxy.config.model import Address, Config, Proxy
from lbproxy.frontend import SHUTDOWN, Frontend
from lbproxy.handover import Parcel
from lbproxy.inherit import Frozen, Heritage, adopt
from lbproxy.keeper import LISTENER, Keeper, Store
from lbproxy.listener import Gate
from lbproxy.parcels import parcel_of
from lbproxy.relay.engine import Engine
from lbproxy.relay.marks import Marks
from lbproxy.session import Session
from lbproxy.snapshot import ConnectionView, ReloadView, Snapshot
from lbproxy.tasks import Tasks

log = logging.getLogger(__name__)

_FIRST_LOOK_UP: Final = 1.0
"""Seconds that a start waits at most for host names: the port should be open soon, and names are looked up on."""


def node_id(config: Config) -> str:
    """Return what seeds the order of equal servers: configured, or the machine id, or the host name."""
    if config.node_id != "auto":
        return config.node_id
    try:
        machine_id = Path("/etc/machine-id").read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        machine_id = ""
    return machine_id or socket.gethostname()


def _stored_name(address: Address) -> str:
    """Return the fd store's name of a listener; a colon would end it."""
    return f"{LISTENER}-{address}".replace(":", ".")


class App:
    """The data plane in this process; see `plane.Plane` for what each verb promises."""

    def __init__(self, config: Config, heritage: Heritage | None = None, store: Store | None = None) -> None:
        """`heritage` is what a predecessor has left; `store` keeps connections for a successor."""
        self._config = config
        self._heritage = heritage or Heritage()
        self._store = store
        self._keeper: Keeper | None = None
        self._frozen: list[Frozen] = []
        self.marks: Marks | None = None
        """Of the connections that are kept, None when none are."""
        self._inherited = dict(self._heritage.listeners)
        self._generation = 1
        self._started = monotonic()
        self._frontends: dict[str, Frontend] = {}
        self._leaving: list[Frontend] = []
        self._tasks = Tasks()
        self._attendants: dict[Server, Attendant] = {}
        self._stopped = False

    def inherit(self, listeners: Mapping[Address, SocketType]) -> None:
        """Use these sockets, which listen already, in place of binding their addresses in the next `apply`."""
        self._inherited.update(listeners)

    async def start(self) -> None:
        """Bind every listen address and begin to serve. Raises LbproxyError, with nothing left bound."""
        await self.prepare()
        self.serve()

    async def prepare(self) -> None:
        """Do all of `start` that can fail: bind, look up, but neither accept nor move anything."""
        rehearse(self._config)
        self._bound = self._bind({a: name for name, proxy in self._config.proxies.items() for a in proxy.listen})
        self._engine = Engine(asyncio.get_running_loop())
        self._gate = Gate.for_process()
        for name in self._config.proxies:
            self._open(name)
        try:
            async with asyncio.timeout(_FIRST_LOOK_UP):
                for attendant in self._attendants.values():
                    await attendant.resolved.wait()
        except TimeoutError:
            pass
        self.marks = self._heritage.marks or (Marks.create(self._gate.limit) if self._store is not None else None)
        if self.marks is not None:
            self._engine.marks = self.marks.page
        for server in self._heritage.state.get("drained", ()):
            self._drain(server, True)

    def serve(self) -> None:
        """Do the rest of `start`: accept, and let the connections of a predecessor go on."""
        heritage, self._heritage = self._heritage, Heritage()
        self._frozen = adopt(heritage, self._engine, self.marks, self._frontends)
        if self._store is not None and self.marks is not None:
            keeper = self._keeper = Keeper(self._store, self.marks, self._connected, self.state)
            keeper.begin(heritage.carrier)
            self._tasks.spawn(self._keep(keeper), "keep")
        for name, proxy in self._config.proxies.items():
            for address in proxy.listen:
                self._frontends[name].listen(address, self._bound.pop(address))
        self._settle()
        self.thaw()

    def _connected(self) -> Iterator[Session]:
        return (session for frontend in self._frontends.values() for session in frontend.sessions)

    def state(self) -> dict[str, Any]:
        """Return what a successor must know besides the connections; see `inherit.Heritage`."""
        drained = {server.name for frontend in self._frontends.values()
                   for server in frontend.upstream.pool.servers if server.manual}
        return {"drained": sorted(drained), "carrier": self._keeper.carrier_name if self._keeper else None}

    async def _keep(self, keeper: Keeper) -> None:
        while True:
            await asyncio.sleep(1)
            keeper.sweep(monotonic())

    def listeners(self) -> dict[Address, SocketType]:
        """Return the listening sockets."""
        return {address: listener.sock for frontend in self._frontends.values()
                for address, listener in frontend.listeners.items()}

    def freeze(self) -> list[Parcel]:
        """Stop all movement and accepting; returns every connection, to be handed over."""
        for frontend in self._frontends.values():
            for listener in frontend.listeners.values():
                listener.pause()
        self._frozen = [(session, *session.freeze()) for frontend in self._frontends.values()
                        for session in list(frontend.sessions)]
        return [parcel_of(session, flight, rests) for session, flight, rests in self._frozen]

    def thaw(self) -> None:
        """Go on where `freeze` stopped: nobody has taken over."""
        frozen, self._frozen = self._frozen, []
        for session, flight, rests in frozen:
            session.thaw(flight, rests)
        for frontend in self._frontends.values():
            for listener in frontend.listeners.values():
                listener.go_on()

    def leave(self) -> bool:
        """Leave everything, frozen, in the fd store; False if there is none. The process is to end now."""
        if self._keeper is None:
            return False
        parcels = self.freeze()
        if not self._keeper.leave(parcels):
            log.error("not all of %d connections could be left to the next process", len(parcels))
        return True

    def _bind(self, wanted: Mapping[Address, str]) -> dict[Address, SocketType]:
        inherited = {address: self._inherited.pop(address) for address in wanted if address in self._inherited}
        bound = socks.listen_all({a: name for a, name in wanted.items() if a not in inherited})
        if self._store is not None:
            for address, sock in bound.items():
                self._store.store(_stored_name(address), [sock.fileno()])
        return inherited | bound

    def _open(self, name: str) -> None:
        settings = self._config.proxies[name]
        pool = Pool(settings, node_id(self._config), monotonic())
        frontend = Frontend(name, settings, self._engine, self._gate, pool, self._failed)
        self._frontends[name] = frontend
        for server in pool.servers:
            self._attend(frontend, server)

    def _attend(self, frontend: Frontend, server: Server) -> None:
        self._attendants[server] = Attendant(self._tasks, frontend.upstream, server)

    def _failed(self, server: Server) -> None:
        attendant = self._attendants.get(server)
        if attendant is not None:
            attendant.poke()

    def _settle(self) -> None:
        for frontend in self._frontends.values():
            frontend.log_access = self._config.log.access
            if self._keeper is not None:
                frontend.unkept = self._keeper.left

    async def apply(self, config: Config) -> list[str]:
        """Go over to `config`; returns what changed, a line each. Raises LbproxyError with nothing changed."""
        plan = diff(self._config, config)
        rehearse(config)
        bound = self._bind({address: each.name for each in plan.proxies for address in each.listen_opened})
        self._config = config
        self._generation += 1
        for name, proxy in config.proxies.items():
            if name in self._frontends:
                self._reconcile(self._frontends[name], proxy)
            else:
                self._open(name)
        for move in plan.moved:
            listener = self._frontends[move.source].take_listener(move.address)
            self._frontends[move.target].adopt(move.address, listener)
        for each in plan.proxies:
            for address in each.listen_opened:
                self._frontends[each.name].listen(address, bound[address])
            for address in each.listen_closed:
                self._frontends[each.name].close_listener(address)
                if self._store is not None:
                    self._store.forget(_stored_name(address))
            if each.new is None:
                self._retire(self._frontends.pop(each.name))
        self._settle()
        return plan.lines()

    def _reconcile(self, frontend: Frontend, settings: Proxy) -> None:
        old = {server: server.settings for server in frontend.upstream.pool.servers}
        health = frontend.upstream.settings.health
        added, removed = frontend.reconcile(settings, node_id(self._config))
        for server in removed:
            self._attendants.pop(server).stop()
        for server in frontend.upstream.pool.servers:
            if server in added:
                self._attend(frontend, server)
            elif settings.health != health or server.settings.down != old[server].down:
                self._attendants[server].check()

    def _retire(self, frontend: Frontend) -> None:
        for server in frontend.upstream.pool.servers:
            self._attendants.pop(server).stop()
            frontend.retire(server)
        self._leaving.append(frontend)

    async def snapshot(self) -> Snapshot:
        """Return the state of everything; its `config` part is filled in by the caller."""
        now = monotonic()
        self._leaving = [frontend for frontend in self._leaving if frontend.sessions]
        return Snapshot(
            version=__version__, pid=os.getpid(), uptime_seconds=now - self._started, generation=self._generation,
            config=ReloadView(file=""), loop_lag_seconds=0.0,
            proxies=tuple(frontend.view(now) for frontend in self._frontends.values()),
        )

    async def connections(self) -> list[ConnectionView]:
        """Return the open connections, also those of proxies that are being removed."""
        now = monotonic()
        return [view for frontend in self._all() for view in frontend.connections(now)]

    def _all(self) -> list[Frontend]:
        return [*self._frontends.values(), *self._leaving]

    async def set_drain(self, server: str, drain: bool) -> bool:
        """Take `server` out of rotation in every proxy that has it, or put it back; False if none has it."""
        return self._drain(server, drain)

    def _drain(self, server: str, drain: bool) -> bool:
        found = [(frontend, match) for frontend in self._frontends.values()
                 if (match := frontend.upstream.pool.find(server)) is not None]
        for frontend, match in found:
            frontend.set_drain(match, drain)
        return bool(found)

    async def stop(self, timeout: float) -> None:
        """Stop accepting, let connections end for at most `timeout` seconds, then cut what is left."""
        if self._stopped:
            return
        for frontend in self._all():
            for address in list(frontend.listeners):
                frontend.close_listener(address)
        until = monotonic() + timeout
        while any(frontend.sessions for frontend in self._all()) and monotonic() < until:
            await asyncio.sleep(0.02)
        self._stopped = True
        for frontend in self._all():
            frontend.close(SHUTDOWN)
        await self._tasks.cancel()
        self._engine.close()
