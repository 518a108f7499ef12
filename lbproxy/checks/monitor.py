"""The tasks that a configured server needs: its name looked up, the health of each of its addresses checked."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING

from lbproxy.balance.checked import CheckResult
from lbproxy.balance.group import Group
from lbproxy.balance.server import Endpoint, Server
from lbproxy.checks.loops import leads_back
from lbproxy.checks.resolve import Known, Resolver, endpoint_of
from lbproxy.config.model import Config
from lbproxy.net.sockets import name
from lbproxy.proxy.backend import Backend
from lbproxy.tasks import Tasks
from lbproxy.warnonce import WarnOnce

log = logging.getLogger(__name__)

if TYPE_CHECKING:
    from lbproxy.checks.checker import Checker
    from lbproxy.checks.probe import Probe
    from lbproxy.checks.schedule import Schedule
    from lbproxy.checks.secure import Secure


async def rehearse(config: Config) -> list[Secure]:
    """Read every certificate that the probes of `config` ask for; raises LbproxyError if one cannot be used.

    Whoever has the result makes probes without touching a file.
    """
    made = []
    for proxy in config.proxies.values():
        if proxy.health is not None:
            from lbproxy.checks.secure import Secure, name_for  # whoever restarts without checks need not wait for it

            if proxy.health.secure:
                made.append(secure := await Secure.prepare(proxy.health))
                if proxy.servers:
                    secure.check_name(name_for(proxy.health, str(proxy.servers[0].address)))
    return made


def reread(certificates: Iterable[Secure]) -> list[str]:
    """Return a line about what of their files has been read again since the last call, or none."""
    files = sorted({file for secure in certificates for file in secure.news()})
    return [f"certificate files have changed and were read again: {', '.join(files)}"] if files else []


class Monitor:
    """Looks after one configured server until `stop`; `known` holds the addresses that it begins with."""

    def __init__(self, tasks: Tasks, backend: Backend, group: Group, known: Known) -> None:
        self._tasks = tasks
        self._backend = backend
        self._group = group
        self._resolving: asyncio.Task[None] | None = None
        self._resolver: Resolver | None = None
        self._checks: dict[Server, asyncio.Task[None]] = {}
        self._checkers: dict[Server, Checker] = {}
        self._looping = WarnOnce()
        address = group.settings.address
        self.found(known.get(address, ()))
        if endpoint_of(address) is None:
            self._resolver = Resolver(group.settings, address in known, self._looked_up)
            if address in known:
                group.counts.resolved_at = monotonic()
            self._resolving = tasks.forever(self._resolver.run, "resolve", group.settings.name)

    def found(self, answer: Sequence[Endpoint]) -> None:
        """Called with the addresses that the server's name has."""
        self._backend.resolved(self._group, self._without_loops(answer), monotonic())
        for server in [each for each in self._checks if each not in self._group.members]:
            self._end(server)
        for server in self._group.members:
            if server not in self._checks:
                self._begin(server)

    def _looked_up(self, answer: Sequence[Endpoint] | None) -> None:
        """Called with what a look-up has found, None if it has failed."""
        if answer is None:
            self._group.counts.resolve_failures += 1
        else:
            self._group.counts.resolved_at = monotonic()
            self.found(answer)

    def _without_loops(self, answer: Sequence[Endpoint]) -> list[Endpoint]:
        loops = [each for each in answer if leads_back(each, self._backend.settings.listen)]
        if loops:
            why = f"it leads back to this proxy, which listens on {name(loops[0][1])}"
            if self._looping.news(why):
                log.error("%s: server %s is not used: %s", self._backend.name, self._group.settings.name, why)
            for server in self._group.members:
                server.nowhere = why
        elif answer and self._looping.over():
            log.info("%s: server %s no longer leads back", self._backend.name, self._group.settings.name)
        return [each for each in answer if each not in loops]

    def check(self) -> None:
        """Check as the proxy's settings now say, or no longer."""
        for server in self._group.members:
            server.certificate_expires = 0.0
            if server not in self._checks or not self._asked():
                self._backend.uncheck(server, monotonic())
            self._end(server)
            self._begin(server)

    def _asked(self) -> bool:
        return self._backend.settings.health is not None and not self._group.settings.down

    def _begin(self, server: Server) -> None:
        health = self._backend.settings.health
        endpoint = server.endpoint
        if health is None or endpoint is None or not self._asked():
            return

        async def run() -> None:
            await asyncio.sleep(0)
            from lbproxy.checks.checker import Checker  # only now that connections move: h11 takes its time
            from lbproxy.checks.probe import Probe
            from lbproxy.checks.schedule import Schedule

            # Made here, to be tried again: a certificate that was there once may be missing at a restart.
            probe = Probe(health, str(server.settings.address), self._backend.check_preface)
            schedule = Schedule(health.interval, f"{self._backend.pool.node_id} {server.label}")
            observe = partial(self._observe, server, probe, schedule)
            checker = Checker(schedule, probe, endpoint, observe, partial(schedule.decides, server))
            self._checkers[server] = checker
            await checker.run()

        self._checks[server] = self._tasks.forever(run, "check", server.label)

    def _end(self, server: Server) -> None:
        self._checkers.pop(server, None)
        task = self._checks.pop(server, None)
        if task is not None:
            task.cancel()

    def _observe(self, server: Server, probe: Probe, schedule: Schedule, result: CheckResult, took: float) -> int:
        now = monotonic()
        server.counts.checked(result.kind, now, took)
        server.certificate_expires = probe.certificate_expires
        self._backend.observe(server, result, now, took)
        return schedule.pace(server)

    def hurry(self, server: Server) -> None:
        """Called when traffic has just failed at `server`: look again, at both."""
        if self._resolver is not None:
            self._resolver.hurry()
        if server in self._checkers:
            # One that is late is asked over the connection that is there: a new one would make it later.
            self._checkers[server].hurry(fresh=server.health.doubted and not server.late)

    def stop(self) -> None:
        """Look after it no longer."""
        if self._resolving is not None:
            self._resolving.cancel()
        for server in list(self._checks):
            self._end(server)
