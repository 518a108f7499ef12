"""The tasks that one server in service needs: its name looked up, its health checked."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING

from lbproxy.balance.checked import CheckResult
from lbproxy.balance.server import Server
from lbproxy.checks.resolve import Known, Resolver, endpoint_of
from lbproxy.config.model import Config
from lbproxy.proxy.backend import Backend
from lbproxy.tasks import Tasks

if TYPE_CHECKING:
    from lbproxy.checks.checker import Checker


def rehearse(config: Config) -> None:
    """Make every probe that `config` asks for, to see that it can be made; raises LbproxyError if not."""
    for proxy in config.proxies.values():
        if proxy.health is not None:
            from lbproxy.checks.probe import Probe  # whoever restarts without checks need not wait for it

            Probe(proxy.health, str(proxy.servers[0].address)).close()


class Monitor:
    """Looks after one server until `stop`; `known` holds the endpoints that it begins with."""

    def __init__(self, tasks: Tasks, backend: Backend, server: Server, known: Known) -> None:
        self._tasks = tasks
        self._backend = backend
        self._server = server
        self._resolving: asyncio.Task[None] | None = None
        self._resolver: Resolver | None = None
        self._checker: Checker | None = None
        self._checking: asyncio.Task[None] | None = None
        address = server.settings.address
        server.endpoints = list(known.get(address, ()))
        if endpoint_of(address) is None:
            self._resolver = Resolver(server)
            self._resolving = tasks.forever(self._resolver.run, "resolve", server.name)
        self.check()

    def check(self) -> None:
        """Check as the proxy's settings now say, or no longer."""
        health = self._backend.settings.health
        server = self._server
        asked = health is not None and not server.settings.down
        if self._checking is None or not asked:
            self._backend.uncheck(server, monotonic())
        if self._checking is not None:
            self._checking.cancel()
            self._checker = self._checking = None
        if health is None or not asked:
            return
        from lbproxy.checks.checker import Checker
        from lbproxy.checks.probe import Probe

        probe = Probe(health, str(server.settings.address), self._backend.check_preface)
        self._checker = Checker(health, probe, lambda: server.endpoints, self._observe)
        self._checking = self._tasks.forever(self._checker.run, "check", server.name)

    def _observe(self, result: CheckResult) -> bool:
        server = self._server
        server.checks[result.kind] = server.checks.get(result.kind, 0) + 1
        self._backend.observe(server, result, monotonic())
        return server.health.checked.unsettled

    def hurry(self) -> None:
        """Called when traffic has just failed: look again, at both."""
        if self._resolver is not None:
            self._resolver.hurry()
        if self._checker is not None:
            self._checker.hurry()

    def stop(self) -> None:
        """Look after it no longer."""
        for task in filter(None, (self._resolving, self._checking)):
            task.cancel()
