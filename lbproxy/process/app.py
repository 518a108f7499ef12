"""The data plane of one process: goes over from one configuration to the next, and tells of itself."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Collection, Iterable
from contextlib import suppress
from socket import SocketType, gethostname
from time import monotonic, time
from typing import TYPE_CHECKING, Final

from lbproxy import __version__, form
from lbproxy.balance.group import Group
from lbproxy.checks.monitor import Monitor, rehearse, reread
from lbproxy.checks.resolve import Known, known_endpoints
from lbproxy.config.diff import diff
from lbproxy.config.model import Address, Config, ServerConfig
from lbproxy.errors import LbproxyError
from lbproxy.handover.custody import Custody
from lbproxy.handover.handing import Alone, Handing
from lbproxy.handover.inherit import Inherited
from lbproxy.handover.keeper import Doors, FdStore
from lbproxy.net.poller import Poller
from lbproxy.process import log as logs
from lbproxy.process.absent import Absent, Patience, listens
from lbproxy.process.identity import node_id
from lbproxy.process.usage import usage
from lbproxy.proxy.backend import Backend
from lbproxy.proxy.crew import Crew
from lbproxy.proxy.listener import ConnectionLimit
from lbproxy.proxy.proxies import Proxies
from lbproxy.proxy.proxy import ServerMonitor, Shared
from lbproxy.proxy.rebalance import sum_up
from lbproxy.proxy.sessions import SHUTDOWN
from lbproxy.status.slices import in_slices
from lbproxy.status.snapshot import ConnectionView, ReloadView, Snapshot
from lbproxy.tasks import Tasks

if TYPE_CHECKING:
    from lbproxy.checks.secure import Secure

log = logging.getLogger(__name__)

_QUIET: Final = 1.0
"""Seconds after which a client's silence is taken for the end of an exchange, at a stop: Kubernetes' own goal is that
99 % of the calls of its API take no longer."""
_LOOK: Final = 0.1
"""Seconds between two looks for such ones."""


class App:
    """The data plane in this process; see `dataplane.DataPlane` for what each verb promises."""

    def __init__(
        self,
        config: Config,
        poller: Poller,
        inherited: Inherited | None = None,
        store: FdStore | None = None,
        crew: Crew | None = None,
    ) -> None:
        """`inherited` is what a predecessor has left; `store` keeps connections for a successor.

        `crew` are the other processes that serve as one proxy with this one.
        """
        inherited = inherited or Inherited()
        self._config = config
        self._sockets = dict(inherited.listeners)  # those that listen, and are no proxy's yet
        self._limit = ConnectionLimit(0)  # `prepare` finds out
        self._pipes = poller.pipes
        self._proxies = Proxies(Shared(poller, self._limit, self._monitor, self._unkept, crew))
        self._custody = Custody(self._proxies, poller, inherited, store)
        self._doors = Doors(store)
        self.handover: Handing = Alone(self._custody)
        self._absent = Absent(self._arrived)
        self._known: Known = {}
        self._certificates: list[Secure] = []  # what the probes to be made will ask for, which need not be read again
        self._tasks = Tasks()
        self._generation = 1
        self._started = monotonic()
        self._stopped = True  # there is nothing to stop yet

    async def prepare(self, *, patience: Patience = Patience.NONE, rehearsed: bool = False) -> None:
        """Do all of a start that can fail, and neither accept nor move anything. Raises LbproxyError."""
        config = self._config
        try:
            self._certificates = await self._rehearse(config)
        except LbproxyError:  # the checks try again, and say so
            if not rehearsed:
                raise
        self._known = await self._look_up(server for proxy in config.proxies.values() for server in proxy.servers)
        self._bind(config, patience)
        self._stopped = False
        self._limit.measure(self._pipes, self._custody.inherited)
        for name, settings in config.proxies.items():
            self._proxies.open(name, settings, node_id(config))
        self._custody.prepare(self._limit.limit)

    async def serve(self) -> None:
        """Do the rest of a start: accept, and let the connections of a predecessor go on."""
        taken, reset = self._custody.adopt()
        if taken or reset:
            log.info("took over %d connections, reset %d", taken, reset)
        self._tasks.forever(self._absent.wait, "bind")
        self._begin()

    def _begin(self) -> None:
        self._tasks.forever(self._custody.keep, "keep")
        self._listen(self._config)
        for address, sock in self._sockets.items():
            log.info("no longer listening on %s", address)
            sock.close()
            self._doors.forget(address)
        self._sockets.clear()
        self._custody.thaw()

    async def apply(self, config: Config) -> list[str]:
        """Go over to `config`; returns what changed, a line each. Raises LbproxyError with nothing changed."""
        plan = diff(self._config, config)
        self._certificates = await self._rehearse(config)
        known = await self._look_up(server for each in plan.proxies for server in each.servers_added)
        absent = self._bind(config)
        # From here on nothing fails and nothing waits: no client ever meets half of a configuration.
        self._known = known
        node = node_id(config)
        for name, settings in config.proxies.items():
            if name in self._proxies.named:
                self._proxies.named[name].reconcile(settings, node)
            else:
                self._proxies.open(name, settings, node)
        self._listen(config)
        self._proxies.keep(config.proxies)
        self._config = config
        if plan:
            self._generation += 1
        return [*plan.lines(besides=reread(self._certificates)), *absent]

    def _bind(self, config: Config, patience: Patience = Patience.NONE) -> list[str]:
        """Have a socket for every address; returns what cannot be had yet. Raises BindError, with nothing bound."""
        bound, absent = self._absent.bind(listens(config), self._sockets.keys() | self._proxies.listeners(), patience)
        self._sockets |= bound
        self._doors.keep(bound)
        return absent

    async def _arrived(self, bound: dict[Address, SocketType]) -> None:
        self._sockets |= bound
        self._doors.keep(bound)
        self._listen(self._config)
        if self._custody.still:
            self._proxies.pause()

    @property
    def absent(self) -> Collection[Address]:
        """The addresses that are not listened on, for this machine does not have them."""
        return self._absent.addresses

    def _listen(self, config: Config) -> None:
        """Give every address to its proxy, from another one where that has it."""
        held = {address: proxy for proxy in self._proxies.named.values() for address in proxy.listeners}
        for address, name in listens(config).items():
            proxy = self._proxies.named[name]
            holder = held.pop(address, None)
            if holder is None:
                if (sock := self._sockets.pop(address, None)) is not None:
                    proxy.listen(address, sock)
            elif holder is not proxy:
                proxy.adopt(address, holder.take_listener(address))
        for address, holder in held.items():
            holder.close_listener(address)
            self._doors.forget(address)

    async def _rehearse(self, config: Config) -> list[Secure]:
        return await rehearse(config)

    async def _look_up(self, servers: Iterable[ServerConfig]) -> Known:
        return await known_endpoints(server.address for server in servers)

    def _monitor(self, backend: Backend, group: Group) -> ServerMonitor:
        return Monitor(self._tasks, backend, group, self._known)

    def _unkept(self, slot: int) -> None:
        self._custody.forget(slot)

    async def snapshot(self) -> Snapshot:
        """Return the state of everything; its `config` part is filled in by the caller."""
        now = monotonic()
        return Snapshot(
            version=__version__,
            form=form.form(),
            python=form.PYTHON,
            pid=os.getpid(),
            uptime_seconds=now - self._started,
            generation=self._generation,
            config=ReloadView(file=""),
            loop_lag_seconds=0.0,
            proxies=tuple(proxy.view(now) for proxy in self._proxies.named.values()),
            task_failures=dict(self._tasks.failures),
            log_lines_dropped=logs.dropped(),
            handed=dict(self._custody.handed),
            kept=self._custody.kept,
            usage=usage(),
            taken_at=time(),
            host=gethostname(),
        )

    async def connections(self) -> list[ConnectionView]:
        """Return the open connections, also those of proxies that are being removed."""
        now = monotonic()
        views, _ = await in_slices(view for proxy in self._proxies.all() for view in proxy.connections(now))
        return views

    async def set_drain(self, server: str, drain: bool) -> bool:
        """Take `server` out of rotation in every proxy that has it, or put it back; False if none has it."""
        found = self._proxies.set_drain(server, drain)
        self._custody.sweep(monotonic())  # a crash does not undo what somebody has been told is done
        return found

    async def rebalance(self, dry_run: bool) -> dict[str, int]:
        """Close quiet surplus connections once, or only count them; returns how many, by server name."""
        return sum_up(proxy.rebalance(dry_run=dry_run) for proxy in self._proxies.named.values())

    async def stop(self, timeout: float) -> None:
        """Serve on until nobody is in the middle of an exchange, for at most `timeout` seconds; then cut what is left.

        The port is the last thing to go: nobody may take over, and until then new clients are served.
        """
        if self._stopped:
            return
        if timeout:
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await self._exchanged()
        for proxy in self._proxies.all():
            for address in list(proxy.listeners):
                proxy.close_listener(address)
        self._stopped = True
        self._proxies.close(SHUTDOWN)
        await self._tasks.cancel()

    async def _exchanged(self) -> None:
        """Close what is quiet, until no connection is open."""
        while self._limit.open:
            for session in list(self._proxies.sessions()):
                link = session.link
                if link is not None and link.at_rest(_QUIET):
                    session.cut(SHUTDOWN)
            if self._limit.open:
                await asyncio.sleep(_LOOK)
