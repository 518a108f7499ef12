"""The data plane of `workers: N`: this process leads, and carries no connection; N others do, and follow.

It holds what there is once: listening sockets, names, checks, and what is known of every server (`leader`). See
`process.dataplane.DataPlane` for what each verb promises.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Mapping
from dataclasses import replace
from socket import SocketType, gethostname
from time import monotonic, time
from typing import TYPE_CHECKING, Final

from lbproxy import __version__, form
from lbproxy.checks.monitor import rehearse, reread
from lbproxy.checks.resolve import known_endpoints
from lbproxy.config.diff import diff
from lbproxy.config.model import Address, Config
from lbproxy.errors import LbproxyError
from lbproxy.handover.inherit import Inherited, drop, flatten
from lbproxy.handover.keeper import Doors, FdStore
from lbproxy.net.poller import Poller
from lbproxy.process import log as logs
from lbproxy.process.absent import Absent, Patience, listens
from lbproxy.process.usage import usage
from lbproxy.proxy.crew import Picture
from lbproxy.proxy.rebalance import sum_up
from lbproxy.status.snapshot import ConnectionView, ReloadView, Snapshot
from lbproxy.tasks import Tasks
from lbproxy.workers.board import Board
from lbproxy.workers.crew import Crew, Orders
from lbproxy.workers.estate import Estate
from lbproxy.workers.figures import Figures
from lbproxy.workers.handing import CrewHanding
from lbproxy.workers.leader import Leader
from lbproxy.workers.member import PATIENCE
from lbproxy.workers.nursery import Nursery

if TYPE_CHECKING:
    from lbproxy.checks.secure import Secure

log = logging.getLogger(__name__)

_GLANCE: Final = 1.0
"""Seconds that a worker has to tell its figures; those of before are shown then, and whoever asked is not late too."""


class Supervisor:
    """Leads `size` workers."""

    def __init__(
        self,
        config: Config,
        size: int,
        poller: Poller,
        inherited: Inherited | None = None,
        store: FdStore | None = None,
        nursery: Nursery | None = None,
    ) -> None:
        """`inherited` is what a predecessor has left, `store` keeps things for a successor; see `Crew` for the rest."""
        self._config = config
        self._inherited = inherited or Inherited()
        self._listeners = dict(self._inherited.listeners)
        self._store = store
        self._doors = Doors(store)
        self._tasks = Tasks()
        self._absent = Absent(self._arrived)
        self._generation = 1
        self._started = monotonic()
        self._certificates: list[Secure] = []  # what was read, to be told from what is read at the next reload
        self._figures = Figures()
        self._handed: dict[str, int] = {}
        self._board = board = Board.create(size)
        self._leader = Leader(poller, self._tasks, board, self._tell)
        self._estate = Estate(store)
        self._crew = Crew(board, self._estate, nursery, self._orders, self._leader.heard)
        self._crew.on_loss = self._figures.lost
        self.handover = CrewHanding(self._crew, self._listeners, self._leader.proxies.drained, store)

    async def prepare(self, *, patience: Patience = Patience.NONE, rehearsed: bool = False) -> None:
        """Do all of a start that can fail, and neither accept nor move anything. Raises LbproxyError."""
        config = self._config
        try:
            self._certificates = await rehearse(config)
        except LbproxyError:  # the checks try again, and say so
            if not rehearsed:
                raise
        self._leader.known = await known_endpoints(
            server.address for proxy in config.proxies.values() for server in proxy.servers
        )
        bound, _ = self._absent.bind(listens(config), self._listeners, patience)
        self._listeners |= bound
        self._leader.go_over(config)
        try:
            await self._crew.hire()
        except BaseException:
            for address, sock in bound.items():
                del self._listeners[address]
                sock.close()
            await self._end()
            raise
        self._doors.keep(bound)

    async def serve(self) -> None:
        """Have the workers go on with what was inherited, and accept. Raises LbproxyError, with nothing left bound."""
        inherited, self._inherited = self._inherited, Inherited()
        flatten(inherited)
        self._estate.after(inherited.sets)
        self._leader.locate(inherited.rested)
        for server in inherited.state.get("drained", ()):
            self._leader.proxies.set_drain(server, True)
        for address in self._listeners.keys() - listens(self._config):
            log.info("no longer listening on %s", address)
            self._close(address)
        try:
            await self._crew.begin(inherited.rested)
        except LbproxyError:
            await self.stop(0)
            raise
        drop(inherited.holed)
        if self._store is not None:
            for name in inherited.sets:
                self._store.forget(name)
        self._handed = {"success": len(inherited.rested), "reset": len(inherited.holed)}
        if inherited.rested or inherited.holed:
            log.info("took over %d connections, reset %d", len(inherited.rested), len(inherited.holed))
        self._tasks.forever(self._absent.wait, "bind")

    def _orders(self) -> Orders:
        leader = self._leader
        return Orders(self._config, self._listeners, leader.pictures(), leader.proxies.drained())

    def _tell(self, pictures: Mapping[str, Picture]) -> None:
        for member in self._crew.members:
            member.tell("believe", pictures)

    async def apply(self, config: Config) -> list[str]:
        """Go over to `config`; returns what changed, a line each. Raises LbproxyError with nothing changed."""
        async with self._crew.steady:
            plan = diff(self._config, config)
            self._certificates = await rehearse(config)
            known = await known_endpoints(server.address for each in plan.proxies for server in each.servers_added)
            opened, absent = self._absent.bind(listens(config), self._listeners)
            self._leader.known = known
            self._config = config
            if plan:
                self._generation += 1
            self._leader.go_over(config)
            self._listeners |= opened
            self._doors.keep(opened)
            await self._crew.apply(opened)
            for address in self._listeners.keys() - listens(config):
                self._close(address)
            return [*plan.lines(besides=reread(self._certificates)), *absent]

    def _close(self, address: Address) -> None:
        self._listeners.pop(address).close()
        self._doors.forget(address)

    async def _arrived(self, bound: dict[Address, SocketType]) -> None:
        async with self._crew.steady:
            self._listeners |= bound
            self._doors.keep(bound)
            await self._crew.apply(bound)

    @property
    def absent(self) -> Collection[Address]:
        """The addresses that are not listened on, for this machine does not have them."""
        return self._absent.addresses

    async def snapshot(self) -> Snapshot:
        """Return the state of everything; its `config` part is filled in by the caller."""
        answers = await self._crew.each(Snapshot, "snapshot", patience=_GLANCE)
        listens = {
            name: tuple(str(at) for at in proxy.listen if at in self._listeners)
            for name, proxy in self._config.proxies.items()
        }
        own = Snapshot(
            version=__version__,
            form=form.form(),
            python=form.PYTHON,
            pid=os.getpid(),
            uptime_seconds=monotonic() - self._started,
            generation=self._generation,
            config=ReloadView(file=""),
            loop_lag_seconds=0.0,
            proxies=tuple(replace(view, listen=listens[view.name]) for view in self._leader.views()),
            task_failures=dict(self._tasks.failures),
            log_lines_dropped=logs.dropped(),
            usage=usage(),
            taken_at=time(),
            host=gethostname(),
            handed=dict(self._handed),
            workers_replaced=self._crew.replaced,
        )
        return self._figures.shown(own, answers)

    async def connections(self) -> list[ConnectionView]:
        """Return the open connections of all workers."""
        return [view for views in await self._crew.ask(list, "connections") for view in views]

    async def set_drain(self, server: str, drain: bool) -> bool:
        """Take `server` out of rotation in every worker, or put it back; False if there is none of that name."""
        async with self._crew.steady:
            found = self._leader.proxies.set_drain(server, drain)
            if found:
                await self._crew.ask(bool, "set_drain", server, drain)
        return found

    async def rebalance(self, dry_run: bool) -> dict[str, int]:
        """Close quiet surplus connections once, one worker after another; returns how many, by server name."""
        beyond = self._leader.surplus()
        closed: list[Mapping[str, int]] = []
        for member in list(self._crew.members):
            try:
                answer = await member.call("even_out", dry_run, beyond)
            except LbproxyError as error:
                log.warning("rebalance: %s", error)
                continue
            for name, counts in answer.items() if isinstance(answer, dict) else ():
                beyond[name].subtract(counts)
                closed.append(counts)
        return sum_up(closed)

    async def stop(self, timeout: float) -> None:
        """Have every worker stop, and wait for it; the ports are the last to go."""
        await self._crew.ask(type(None), "stop", timeout, patience=timeout + PATIENCE)
        await self._end()
        for sock in self._listeners.values():
            sock.close()
        self._listeners.clear()

    async def _end(self) -> None:
        await self._crew.dismiss()
        self._leader.close()
        await self._tasks.cancel()
        self._board.close()
