"""The proxies in the process that leads: servers, names and checks, without a connection. See `proxy.crew`."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from time import monotonic
from typing import Final

from lbproxy.balance.checked import CheckResult
from lbproxy.balance.group import Group
from lbproxy.balance.server import Server
from lbproxy.balance.suspicion import TrafficResult
from lbproxy.checks.monitor import Monitor
from lbproxy.checks.resolve import Known
from lbproxy.config.model import Config
from lbproxy.handover.inherit import Finder
from lbproxy.handover.parcel import Parcel
from lbproxy.net.poller import Poller
from lbproxy.process.identity import node_id
from lbproxy.proxy.backend import CIRCULAR, PROVED, SILENT, TRIED, WANTED, Backend, Sign
from lbproxy.proxy.circles import REST, WHY, say
from lbproxy.proxy.crew import Crew, Picture, find, paint
from lbproxy.proxy.listener import ConnectionLimit
from lbproxy.proxy.proxies import Proxies
from lbproxy.proxy.proxy import Shared
from lbproxy.proxy.rebalance import surplus_of
from lbproxy.status.snapshot import ProxyView
from lbproxy.tasks import Tasks
from lbproxy.workers.board import Board, Columns
from lbproxy.workers.wire import Heard

_GATHER: Final = 0.01
"""Seconds in which changes are gathered before the workers are told: a failure is often several."""


class Leader:
    """Knows how servers are. `tell` is called with the pictures of proxies that have changed."""

    def __init__(
        self, poller: Poller, tasks: Tasks, board: Board, tell: Callable[[Mapping[str, Picture]], None]
    ) -> None:
        self.known: Known = {}
        """Where servers are that are about to be added."""
        self._poller = poller
        self._tasks = tasks
        self._tell = tell
        self._columns = Columns(board)
        crew = Crew(board.shares(), self._changed, follows=False)
        self.proxies = Proxies(Shared(poller, ConnectionLimit(0), self._monitor, crew=crew))
        self._told: dict[str, Picture] = {}
        self._due: asyncio.TimerHandle | None = None
        self._out: dict[Server, asyncio.TimerHandle] = {}

    def _monitor(self, backend: Backend, group: Group) -> Monitor:
        return Monitor(self._tasks, backend, group, self.known)

    def go_over(self, config: Config) -> None:
        """Have the proxies and servers of a configuration; those that stay keep everything."""
        node = node_id(config)
        for name, settings in config.proxies.items():
            if name in self.proxies.named:
                self.proxies.named[name].reconcile(settings, node)
            else:
                self.proxies.open(name, settings, node)
        self.proxies.keep(config.proxies)

    def locate(self, parcels: Iterable[Parcel]) -> None:
        """Take it from connections where servers are whose name is not known."""
        Finder(parcels, self.proxies.of, self._poller.now)

    def heard(self, heard: Heard) -> None:
        """Take in what a worker has seen of a server."""
        proxy = self.proxies.named.get(heard.proxy)
        server = find(proxy.backend, heard.key, heard.place) if proxy is not None else None
        if proxy is None or server is None:
            return
        backend, now = proxy.backend, monotonic()
        if isinstance(heard.sign, CheckResult | TrafficResult):
            backend.observe(server, heard.sign, now)
        elif heard.sign == SILENT:
            backend.silent(server, now)
        elif heard.sign == WANTED:
            backend.nobody()
        elif heard.sign == PROVED:
            server.health.suspicion.proved = True
        elif heard.sign == TRIED:
            server.health.suspicion.begin_trial(now)
        elif heard.sign == CIRCULAR:
            self._leave_out(backend, server)
        self._changed(backend, server, heard.sign)

    def _leave_out(self, backend: Backend, server: Server) -> None:
        """Have nobody dial a server that leads back, for as long as the worker does not that has found out."""
        known = self._out.pop(server, None)
        if known is None:
            server.circular = WHY
            say(backend, server)
        else:
            known.cancel()
        self._out[server] = asyncio.get_running_loop().call_later(REST, self._let_in, server)

    def _let_in(self, server: Server) -> None:
        del self._out[server]
        server.circular = ""
        self.changed()

    def _changed(self, backend: Backend, server: Server, sign: Sign) -> None:
        self.changed()

    def changed(self) -> None:
        """Tell the workers soon, if it is not as they were told last."""
        if self._due is None:
            self._due = asyncio.get_running_loop().call_later(_GATHER, self._tell_news)

    def _tell_news(self) -> None:
        self._due = None
        pictures = self.pictures()
        news = {name: picture for name, picture in pictures.items() if picture != self._told.get(name)}
        self._told = pictures
        if news:
            self._tell(news)

    def pictures(self) -> dict[str, Picture]:
        """Return how all is."""
        pictures = {name: paint(proxy.backend, self._columns.of) for name, proxy in self.proxies.named.items()}
        self._columns.sweep()
        return pictures

    def views(self) -> list[ProxyView]:
        """Return the proxies as they are here, without the workers' figures."""
        now = monotonic()
        return [proxy.view(now) for proxy in self.proxies.named.values()]

    def surplus(self) -> dict[str, Counter[str]]:
        """Return how many connections each server has beyond its even share, by proxy and name."""
        found: dict[str, Counter[str]] = {}
        for name, proxy in self.proxies.named.items():
            found[name] = Counter()
            for server, count in surplus_of(proxy.backend, monotonic()):
                found[name][server.name] += count
        return found

    def close(self) -> None:
        """Tell nobody any more."""
        for handle in (self._due, *self._out.values()):
            if handle is not None:
                handle.cancel()
