"""Servers that are found, beside those of the file: what sources say becomes a configuration, which is gone over to.

The way there is that of a reload, in the daemon's turn, and there is no other. What a source says is taken in once it
has said nothing else for SETTLED: an API server that starts adds, removes and adds itself again.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from asyncio import Task
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Final

from lbproxy.config.diff import diff
from lbproxy.config.model import Address, Config, ServerConfig
from lbproxy.errors import LbproxyError
from lbproxy.process.dataplane import DataPlane
from lbproxy.process.phases import Event, Life
from lbproxy.process.reload import Reloader
from lbproxy.process.watch import Watch
from lbproxy.tasks import Tasks
from lbproxy.threads import in_thread
from lbproxy.warnonce import WarnOnce

if TYPE_CHECKING:
    from lbproxy.config.found import FoundServer
    from lbproxy.sources.found import Origin
    from lbproxy.sources.kept import Kept

log = logging.getLogger(__name__)

SETTLED: Final = 1.0
_AT_LATEST: Final = 3.0
"""Seconds of quiet before an answer is taken in, and after which it is all the same."""
_LOOK: Final = 1.0
"""Seconds between two looks for a found server's first good check."""
_FRESH: Final = 3600.0
"""Seconds after which what is kept on disk gets its new age, if nothing else has changed."""


def place(control: str) -> str:
    """Return where what was found is kept: in the service's own directory, else beside the control socket."""
    state = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    return os.path.join(state, "found.json") if state else f"{control}.found.json"


class Source:
    """One source at work: what it has said, and what of it is in force."""

    def __init__(self, origin: Origin, kept: Kept | None, stir: asyncio.Event) -> None:
        self.origin = origin
        self.at = kept.at if kept else 0.0
        """When it answered last (Unix time), 0 if never."""
        self.servers: tuple[FoundServer, ...] = kept.servers if kept else ()
        """What is in force."""
        self.wanted: tuple[FoundServer, ...] | None = None
        """What it says, None as long as it has not."""
        self.put_off = WarnOnce()
        """Whether it has been told that its word is not followed yet."""
        self._stir = stir
        self._warning = WarnOnce()

    def answered(self, servers: Sequence[ServerConfig]) -> None:
        """Take in all that it names now. Raises ValueError if that is too much."""
        from lbproxy.sources.found import accepted

        if not servers:
            self.failed("it names no server")
            return
        found = accepted(servers, self.origin.kind, {server.address for server in self.servers if server.good})
        if self._warning.over():
            log.info("%s: %s answers again", self.origin.proxy, self._name)
        self.at = time.time()
        if found != (self.servers if self.wanted is None else self.wanted):
            self._stir.set()
        self.wanted = found

    def failed(self, why: str) -> None:
        """Take in that it has said nothing that could be used: what is in force stays so."""
        if self._warning.news(why):
            log.warning("%s: no servers from %s, what was found before stays: %s", self.origin.proxy, self._name, why)

    @property
    def _name(self) -> str:
        return f"{self.origin.kind} ({self.origin.where})"


class Following:
    """All sources of a process. `file` is where what they have said is kept."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._kept: dict[Origin, Kept] | None = None
        self._sources: dict[Origin, Source] = {}
        self._running: dict[tuple[Origin, tuple[Address, ...]], Task[None]] = {}
        self._stir = asyncio.Event()
        self._applied: Config | None = None
        self._written: dict[Origin, Kept] = {}
        self._warning = WarnOnce()

    def merged(self, config: Config) -> Config:
        """Return `config` with what was found for it so far; what its sources have to say comes later."""
        if all(proxy.servers_from is None for proxy in config.proxies.values()):
            if self._sources:
                self._stir.set()
            self._applied = config
            return config
        from lbproxy.sources.found import merged, origins

        for origin in origins(config):
            if origin not in self._sources:
                self._sources[origin] = Source(origin, self._recalled(origin), self._stir)
                self._stir.set()
        found, left_out = merged(config, {origin: source.servers for origin, source in self._sources.items()})
        if left_out and self._warning.news("\n".join(left_out)):
            for line in left_out:
                log.error("not used: %s", line)
        self._applied = found
        return found

    def _recalled(self, origin: Origin) -> Kept | None:
        """Return what is on disk of it, which is read once."""
        if self._kept is None:
            from lbproxy.sources import kept

            try:
                self._kept = kept.read(self._file)
            except LbproxyError as error:
                log.warning("what was found before cannot be recalled: %s", error)
                self._kept = {}
        found = self._kept.get(origin)
        if found:
            age = max(0, round(time.time() - found.at))
            count = len(found.servers)
            log.info("%s: %d servers that %s named %d s ago, until it answers", origin.proxy, count, origin.kind, age)
        return found

    async def follow(self, tasks: Tasks, plane: DataPlane, life: Life, reloader: Reloader) -> None:
        """Ask the sources of the configuration in force, and go over to what they find; until cancelled."""
        try:
            while True:
                await self._settled()
                try:
                    async with life.turn(Event.RELOAD):
                        await self._go_over(tasks, plane, reloader.config)
                except LbproxyError as error:
                    if self._warning.news(str(error)):
                        log.error("what was found cannot be gone over to: %s", error)
                    self._soon()
        finally:
            for task in self._running.values():
                task.cancel()
            self._running.clear()

    async def _settled(self) -> None:
        """Wait until something has been said, and nothing else for a moment."""
        loop = asyncio.get_running_loop()
        await self._stir.wait()
        first = loop.time()
        while loop.time() < first + _AT_LATEST:
            self._stir.clear()
            try:
                async with asyncio.timeout(SETTLED):
                    await self._stir.wait()
            except TimeoutError:
                return
        self._stir.clear()

    def _soon(self) -> None:
        asyncio.get_running_loop().call_later(_LOOK, self._stir.set)

    async def _go_over(self, tasks: Tasks, plane: DataPlane, config: Config) -> None:
        before = self._applied
        self._tend(tasks, config)
        if not self._sources:
            return
        snapshot = await plane.snapshot()
        up = {(p.name, s.name) for p in snapshot.proxies for s in p.servers if s.state == "up"}
        for source in self._sources.values():
            self._settle(source, config, {name for proxy, name in up if proxy == source.origin.proxy})
        if (now := self.merged(config)) != before:
            lines = await plane.apply(now)
            for line in lines if diff(before or config, now) else ():
                log.info("%s", line)
        await self._keep()
        if any(not server.good for each in self._sources.values() for server in each.servers):
            self._soon()

    def _tend(self, tasks: Tasks, config: Config) -> None:
        """Have a task for each source that is configured, and none for others."""
        from lbproxy.sources.found import origins

        wanted = {(origin, config.proxies[origin.proxy].listen): origin for origin in origins(config)}
        for key in [key for key in self._running if key not in wanted]:
            self._running.pop(key).cancel()
        for key, origin in wanted.items():
            if key not in self._running:
                ask = partial(_ask, origin, key[1], self._sources[origin])
                self._running[key] = tasks.forever(ask, "find", f"{origin.proxy} {origin.kind}")
        self._sources = {origin: self._sources[origin] for origin in wanted.values()}

    def _settle(self, source: Source, config: Config, up: set[str]) -> None:
        """Put in force what a source says, as far as it may be; `up` are the servers of its proxy that are."""
        from lbproxy.sources.found import accepted, outlived

        origin = source.origin
        good = {server.address for server in source.servers if server.good or server.name in up}
        wanted = accepted(source.servers if source.wanted is None else source.wanted, origin.kind, good)
        of_others = [s for each, other in self._sources.items() if each.proxy == origin.proxy and other is not source
                     for s in other.servers]  # fmt: skip
        staying = [*config.proxies[origin.proxy].servers, *of_others]
        source.servers = outlived(source.servers, wanted, staying, up)
        if len(source.servers) == len(wanted):
            source.put_off.over()
            return
        self._soon()
        if source.put_off.news("it"):
            log.warning("%s: none of the servers that %s names is up: the others stay", origin.proxy, origin.kind)

    async def _keep(self) -> None:
        from lbproxy.sources import kept

        found = {origin: kept.Kept(each.at, each.servers) for origin, each in self._sources.items() if each.servers}
        if not any(_news(each, self._written.get(origin)) for origin, each in found.items()):
            return
        try:
            await in_thread(partial(kept.write, self._file, found), "keep what was found")
            self._written = found
        except OSError as error:
            if self._warning.news(str(error)):
                log.warning("what was found cannot be kept in %s: %s", self._file, error.strerror)


def _news(now: Kept, before: Kept | None) -> bool:
    return before is None or now.servers != before.servers or now.at - before.at > _FRESH


async def _ask(origin: Origin, listens: tuple[Address, ...], source: Source) -> None:
    if origin.kind == "kubernetes":
        from lbproxy.sources import kubernetes

        await kubernetes.follow(origin.where, listens, source)
    elif origin.kind == "dns":
        from lbproxy.sources import dns

        await dns.follow(origin.where, source)
    else:
        from lbproxy.sources import files

        with closing(Watch(origin.where)) as watch:
            await files.follow(origin.where, watch.wait, source)
