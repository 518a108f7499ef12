"""Real loopback servers behind a backend, for what dials them; turned by hand."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from dataclasses import replace

from lbproxy.balance.group import Group
from lbproxy.balance.health import Transition
from lbproxy.balance.pool import Pool
from lbproxy.balance.server import Endpoint, Server
from lbproxy.balance.state import State
from lbproxy.config.model import Address, ProxyConfig, ServerConfig
from lbproxy.proxy.backend import Backend
from lbproxy.proxy.listener import ConnectionLimit
from lbproxy.proxy.proxies import Proxies
from lbproxy.proxy.proxy import Shared
from tests.unit.relay.hand import Bench

Where = tuple[str, int]


class Scene:
    """A backend of the given addresses, asked in the order given."""

    def __init__(self, bench: Bench, *places: Where, **settings: object) -> None:
        servers = tuple(ServerConfig(address=Address(*place), name=f"s{at}") for at, place in enumerate(places))
        proxy = replace(ProxyConfig(listen=(Address("127.0.0.1", 1),), servers=servers), **settings)  # type: ignore[arg-type]
        self.bench = bench
        self.transitions: list[tuple[str, Transition]] = []
        self.failed: list[str] = []
        pool = Pool(proxy, "node", 0.0)
        self.backend = Backend(
            "p", proxy, pool, lambda server, transition: self.transitions.append((server.name, transition)),
            lambda server: self.failed.append(server.name),
        )  # fmt: skip
        self.servers = pool.servers
        for order, (server, place) in enumerate(zip(self.servers, places, strict=True)):
            server.endpoint = (socket.AF_INET, place)
            server.turn = 1_000_000 * (len(places) - order)  # so great a lead that no turn changes the order

    def states(self) -> list[State]:
        """Return what is believed of each server."""
        return [server.health.state for server in self.servers]

    def idle(self) -> bool:
        """Whether no server is counted to carry anything."""
        return not any(server.connections for server in self.servers)


def open_port(bench: Bench) -> Where:
    """Return an address that takes connections."""
    where: Where = bench.listen().getsockname()
    return where


def closed_port(bench: Bench) -> Where:
    """Return an address that refuses them: bound, and not listening."""
    sock = bench.keep(socket.socket())
    sock.bind(("127.0.0.1", 0))
    where: Where = sock.getsockname()
    return where


class Unwatched:
    """What looks after a server: gives it its address, and does nothing else."""

    def __init__(self, backend: Backend, group: Group) -> None:
        address = group.settings.address
        backend.resolved(group, [(socket.AF_INET, (address.host, address.port))], 0.0)

    def found(self, answer: Sequence[Endpoint]) -> None:
        """Do nothing."""

    def check(self) -> None:
        """Do nothing."""

    def hurry(self, server: Server) -> None:
        """Do nothing."""

    def stop(self) -> None:
        """Do nothing."""


class House:
    """Proxies on a bench, each in front of a server of its own that listens."""

    def __init__(self, bench: Bench, unkept: Callable[[int], None] = lambda slot: None) -> None:
        self.bench = bench
        self.limit = ConnectionLimit(100)
        self.proxies = Proxies(Shared(bench.poller, self.limit, Unwatched, unkept))
        self.behind: dict[str, socket.socket] = {}

    def open(self, name: str, **settings: object) -> socket.socket:
        """Put a proxy in force whose server is called as itself; returns its listening socket."""
        listener, self.behind[name] = self.bench.listen(), self.bench.listen()
        server = ServerConfig(address=Address(*self.behind[name].getsockname()), name=name)
        config = ProxyConfig(listen=(), servers=(server,), first_byte_timeout=0)
        self.proxies.open(name, replace(config, **settings), "node")  # type: ignore[arg-type]
        listener.setblocking(False)
        self.proxies.named[name].listen(Address(*listener.getsockname()), listener)
        return listener

    def connect(self, name: str) -> tuple[socket.socket, socket.socket]:
        """Return a client and its server's end, which are connected through the proxy."""
        proxy = self.proxies.named[name]
        (address,) = proxy.listeners
        client = self.bench.keep(socket.create_connection((address.host, address.port)))
        before = set(proxy.sessions)
        self.bench.loop.until(lambda: any(each.link for each in set(proxy.sessions) - before), "the client is served")
        server = self.bench.keep(self.behind[name].accept()[0])
        client.setblocking(False)
        server.setblocking(False)
        return client, server

    def close(self) -> None:
        """Cut everything."""
        self.proxies.close("over")
        self.bench.loop.settle()
