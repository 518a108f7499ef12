"""One proxy on a loop that a test turns by hand, in front of two sockets that listen and say nothing."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from dataclasses import replace

from lbproxy.balance.group import Group
from lbproxy.balance.pool import Pool
from lbproxy.balance.server import Endpoint, Server
from lbproxy.config.model import Address, ProxyConfig, ServerConfig
from lbproxy.net import sockets as socks
from lbproxy.net.timers import NEVER
from lbproxy.proxy.backend import Backend
from lbproxy.proxy.listener import ConnectionLimit
from lbproxy.proxy.proxy import Proxy, Shared
from tests.support.ports import free_port
from tests.unit.relay.hand import Bench


class Lookout:
    """What looks after one server: gives it its address, and writes down what it is told."""

    def __init__(self, backend: Backend, group: Group, hinder: Callable[[], None]) -> None:
        address = group.settings.address
        self._hinder = hinder
        backend.resolved(group, [(socket.AF_INET, (address.host, address.port))], 0.0)
        self.name = group.settings.name
        self.told: list[str] = []

    def found(self, answer: Sequence[Endpoint]) -> None:
        self.told.append(f"found {len(answer)}")

    def check(self) -> None:
        self._hinder()
        self.told.append("check")

    def hurry(self, server: Server) -> None:
        self.told.append("hurry")

    def stop(self) -> None:
        self._hinder()
        self.told.append("stop")


class Place:
    """A proxy on a loop that is turned by hand, in front of two sockets that listen and say nothing."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.loop = bench.loop
        self.behind = [bench.listen(), bench.listen()]
        servers = tuple(ServerConfig(address=Address(*each.getsockname()), name=f"s{at}")
                        for at, each in enumerate(self.behind))  # fmt: skip
        self.address = Address("127.0.0.1", free_port())
        self.settings = ProxyConfig(listen=(self.address,), servers=servers, first_byte_timeout=0, drain_timeout=0.05)
        self.limit = ConnectionLimit(100)
        pool = Pool(self.settings, "n", 0.0)
        self.lookouts: list[Lookout] = []
        self.hinder: Callable[[], None] = lambda: None
        """Called before a lookout does what it is told."""
        self.shared = Shared(bench.poller, self.limit, self.monitor)
        self.proxy = Proxy("p", self.settings, pool, self.shared)
        self.proxy.listen(self.address, socks.listen("p", self.address))

    def monitor(self, backend: Backend, group: Group) -> Lookout:
        """Make what looks after a server."""
        self.lookouts.append(Lookout(backend, group, lambda: self.hinder()))
        return self.lookouts[-1]

    def told(self) -> list[tuple[str, list[str]]]:
        """Return what each that was ever made has been told."""
        return [(each.name, each.told) for each in self.lookouts]

    def server(self, name: str) -> Server:
        """Return a server that is configured."""
        group = self.proxy.backend.pool.find(name)
        assert group
        (found,) = group.members
        return found

    def set_drain(self, server: Server, drain: bool) -> None:
        """Do what the operator's word does."""
        group = self.proxy.backend.pool.find(server.name)
        assert group
        self.proxy.set_drain(group, drain)

    def go_over(self, **changes: object) -> None:
        """Do what a reload does."""
        self.settings = replace(self.settings, **changes)  # type: ignore[arg-type]
        self.proxy.reconcile(self.settings, "n")

    def later(self, seconds: float) -> None:
        """Have every timer run that is due by then, and each as often as it asks for until then."""
        timers, now = self.bench.poller.timers, self.bench.poller.now
        while timers.next() <= now + seconds:
            at = timers.next()
            for item in timers.expire(at):
                when = item.due(at)
                if when < NEVER:
                    timers.put(item, when, at)
        self.loop.settle()

    def connect(self) -> socket.socket:
        """Return a client that was let in or turned away."""
        client = self.bench.keep(socket.create_connection((self.address.host, self.address.port)))
        client.setblocking(False)
        total = self.proxy.view(0.0).connections_total
        self.loop.until(lambda: self.proxy.view(0.0).connections_total > total)
        return client

    def linked(self) -> tuple[socket.socket, socket.socket, str]:
        """Return a client, its server's end, and the server's name."""
        before = set(self.proxy.sessions)
        client = self.connect()
        (session,) = set(self.proxy.sessions) - before
        self.loop.until(lambda: session.link)
        assert session.server
        far, _ = self.behind[int(session.server.name[1])].accept()
        far.setblocking(False)
        return client, self.bench.keep(far), session.server.name
