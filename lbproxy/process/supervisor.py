"""The data plane of `workers: N`: as many `App`s in processes of their own, and one `DataPlane` in front of them.

Like nginx' workers, each chooses and counts for itself: least connections, max_fails, limits and checks are per worker.
Listening sockets are bound here and shared, and stay open when a worker dies; it is then started again.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import partial, reduce
from socket import SocketType
from time import monotonic
from typing import TYPE_CHECKING, Final, TypeVar

from lbproxy.checks.monitor import rehearse, reread
from lbproxy.config.diff import diff
from lbproxy.config.model import Address, Config
from lbproxy.errors import LbproxyError
from lbproxy.process import log as logs
from lbproxy.process.absent import Absent, Patience, listens
from lbproxy.process.sums import add_proxies
from lbproxy.process.usage import together, usage
from lbproxy.process.worker import PATIENCE, WorkerProcess
from lbproxy.proxy.rebalance import sum_up
from lbproxy.status.snapshot import ConnectionView, Snapshot
from lbproxy.tasks import Tasks

if TYPE_CHECKING:
    from lbproxy.checks.secure import Secure

log = logging.getLogger(__name__)

Answer = TypeVar("Answer")

_AGAIN: Final = 1.0
"""Seconds before a worker that died is started again."""


class Supervisor:
    """Worker processes; see `dataplane.DataPlane` for what each verb promises."""

    def __init__(self, config: Config, size: int, listeners: Mapping[Address, SocketType] | None = None) -> None:
        """`size` workers; `listeners` are sockets that listen already."""
        self._config = config
        self._size = size
        self._listeners = dict(listeners or {})
        self._crew: list[WorkerProcess] = []
        self._tasks = Tasks()
        self._absent = Absent(self._arrived)
        self._generation = 1
        self._started = monotonic()
        self._drained: set[str] = set()
        self._manning: list[asyncio.Task[None]] = []
        self.handover = None
        self._certificates: list[Secure] = []  # what was read, to be told from what is read at the next reload

    async def prepare(self, *, patience: Patience = Patience.NONE, rehearsed: bool = False) -> None:
        """Bind every listen address. Raises LbproxyError, with nothing left bound."""
        try:
            self._certificates = await rehearse(self._config)
        except LbproxyError:  # the checks try again, and say so
            if not rehearsed:
                raise
        wanted = listens(self._config)
        for address in self._listeners.keys() - wanted:
            self._listeners.pop(address).close()
        self._listeners |= self._absent.bind(wanted, self._listeners, patience)[0]

    async def serve(self) -> None:
        """Start the workers. Raises LbproxyError, with nothing left bound."""
        crew = await asyncio.gather(*map(self._hire, range(self._size)), return_exceptions=True)
        self._crew = [each for each in crew if isinstance(each, WorkerProcess)]
        self._tasks.forever(self._absent.wait, "bind")
        for problem in crew:
            if isinstance(problem, BaseException):
                await self.stop(0)
                raise problem
        for number in range(self._size):
            self._manning.append(self._tasks.forever(partial(self._keep_manned, number), "worker", str(number)))

    async def _hire(self, number: int) -> WorkerProcess:
        """Start a worker and bring it up to date with what happens meanwhile. Raises LbproxyError."""
        worker = WorkerProcess(number, self._tasks)
        try:
            config, listeners = self._config, dict(self._listeners)
            await worker.start(config, listeners)
            while config is not self._config:
                known = listeners
                config, listeners = self._config, dict(self._listeners)
                await worker.call("apply", config, listeners={a: s for a, s in listeners.items() if a not in known})
            for server in set(self._drained):
                await worker.call("set_drain", server, True)
        except BaseException:
            await worker.dismiss()
            raise
        return worker

    async def _keep_manned(self, number: int) -> None:
        """Start another worker whenever one has ended, until cancelled."""
        while True:
            worker = self._crew[number]
            status = await worker.ended()
            await worker.dismiss()
            log.error(
                "worker %d (pid %d) has ended with status %d: its connections are lost, starting another",
                number,
                worker.pid,
                status,
            )
            await asyncio.sleep(_AGAIN)
            try:
                self._crew[number] = await self._hire(number)
            except LbproxyError as error:
                log.error("worker %d cannot be started: %s", number, error)

    async def apply(self, config: Config) -> list[str]:
        """Go over to `config`; returns what changed, a line each. Raises LbproxyError with nothing changed."""
        plan = diff(self._config, config)
        self._certificates = await rehearse(config)
        opened, absent = self._absent.bind(listens(config), self._listeners)
        self._config = config
        if plan:
            self._generation += 1
        self._listeners.update(opened)
        closed = [self._listeners.pop(address) for address in self._listeners.keys() - listens(config)]
        servers = [server for proxy in config.proxies.values() for server in proxy.servers]
        self._drained &= {name for server in servers for name in (server.name, str(server.address))}
        await self._ask(list, "apply", config, listeners=opened)
        for sock in closed:
            sock.close()
        return [*plan.lines(besides=reread(self._certificates)), *absent]

    async def _arrived(self, bound: dict[Address, SocketType]) -> None:
        self._listeners |= bound
        await self._ask(list, "apply", self._config, listeners=bound)

    @property
    def absent(self) -> Collection[Address]:
        """The addresses that are not listened on, for this machine does not have them."""
        return self._absent.addresses

    async def _ask(
        self,
        answers: type[Answer],
        verb: str,
        *arguments: object,
        listeners: Mapping[Address, SocketType] | None = None,
        patience: float = PATIENCE,
    ) -> list[Answer]:
        """Return the answers of the workers that answer."""
        given = await asyncio.gather(
            *(worker.call(verb, *arguments, listeners=listeners, patience=patience) for worker in self._crew),
            return_exceptions=True,
        )
        for answer in given:
            if isinstance(answer, BaseException):
                log.warning("%s: %s", verb, answer)
        return [answer for answer in given if isinstance(answer, answers)]

    async def snapshot(self) -> Snapshot:
        """Return the sum over all workers."""
        snapshots = await self._ask(Snapshot, "snapshot")
        if not snapshots:
            raise LbproxyError("no worker process answers")
        views = [view for snapshot in snapshots for view in snapshot.proxies]
        proxies = [
            reduce(add_proxies, same)
            for name in self._config.proxies
            if (same := [view for view in views if view.name == name])
        ]
        failures = Counter(self._tasks.failures)
        for snapshot in snapshots:
            failures.update(snapshot.task_failures)
        return replace(
            snapshots[0],
            pid=os.getpid(),
            uptime_seconds=monotonic() - self._started,
            generation=self._generation,
            proxies=tuple(proxies),
            task_failures=dict(failures),
            log_lines_dropped=logs.dropped() + sum(snapshot.log_lines_dropped for snapshot in snapshots),
            usage=together([usage(), *(snapshot.usage for snapshot in snapshots if snapshot.usage)]),
        )

    async def connections(self) -> list[ConnectionView]:
        """Return the open connections of all workers."""
        return [view for views in await self._ask(list, "connections") for view in views]

    async def set_drain(self, server: str, drain: bool) -> bool:
        """Take `server` out of rotation in every worker, or put it back; False if none has it."""
        found = any(await self._ask(bool, "set_drain", server, drain))
        if found:
            (self._drained.add if drain else self._drained.discard)(server)
        return found

    async def rebalance(self, dry_run: bool) -> dict[str, int]:
        """Close quiet surplus connections once, in every worker for itself; returns how many, by server name."""
        return sum_up(await self._ask(dict, "rebalance", dry_run))

    async def stop(self, timeout: float) -> None:
        """Have every worker stop, and wait for it."""
        for task in self._manning:
            task.cancel()
        await asyncio.gather(*self._manning, return_exceptions=True)
        for sock in self._listeners.values():
            sock.close()
        self._listeners.clear()
        if timeout:
            await self._ask(type(None), "stop", timeout, patience=timeout + PATIENCE)
        await asyncio.gather(*(worker.dismiss() for worker in self._crew))
        await self._tasks.cancel()
