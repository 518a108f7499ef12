"""The tasks that one server in service needs: its name looked up, its health checked."""

from __future__ import annotations

import asyncio
from functools import partial
from time import monotonic

from lbproxy import resolve
from lbproxy.balance.health import Outcome
from lbproxy.balance.server import Server
from lbproxy.checker import Checker
from lbproxy.config.model import Config
from lbproxy.probe import Probe
from lbproxy.tasks import Tasks
from lbproxy.upstream import Upstream


def rehearse(config: Config) -> None:
    """Make every probe that `config` asks for, to see that it can be made; raises LbproxyError if not."""
    for proxy in config.proxies.values():
        if proxy.health is not None:
            Probe(proxy.health, str(proxy.servers[0].address)).close()


class Attendant:
    """Looks after one server until `stop`. `resolved` is set once its first look-up is over, at once for an address."""

    def __init__(self, tasks: Tasks, upstream: Upstream, server: Server) -> None:
        self._tasks = tasks
        self._upstream = upstream
        self._server = server
        self._running: list[asyncio.Task[None]] = []
        self._resolver: resolve.Resolver | None = None
        self._checker: Checker | None = None
        self._checking: asyncio.Task[None] | None = None
        self.resolved = asyncio.Event()
        if resolve.literal(server):
            self.resolved.set()
        else:
            self._resolver = resolve.Resolver(server, self.resolved)
            self._running.append(tasks.spawn(self._resolver.run(), f"resolve {server.name}"))
        self.check()

    def check(self) -> None:
        """Check as the proxy's settings now say, or no longer."""
        if self._checking is not None:
            self._checking.cancel()
            self._checker = self._checking = None
        health = self._upstream.settings.health
        server = self._server
        if health is None or server.settings.down:
            self._upstream.uncheck(server, monotonic())
            return
        probe = Probe(health, str(server.settings.address))
        self._checker = Checker(health, probe, partial(getattr, server, "endpoints"), self._observe)
        self._checking = self._tasks.spawn(self._checker.run(), f"check {server.name}")

    def _observe(self, outcome: Outcome) -> bool:
        server = self._server
        server.checks[outcome.kind] = server.checks.get(outcome.kind, 0) + 1
        self._upstream.observe(server, outcome, monotonic())
        return server.health.unsettled

    def poke(self) -> None:
        """Hear that traffic has just failed: look again, at both."""
        if self._resolver is not None:
            self._resolver.poke()
        if self._checker is not None:
            self._checker.poke()

    def stop(self) -> None:
        """Look after it no longer."""
        for task in (*self._running, *filter(None, [self._checking])):
            task.cancel()
