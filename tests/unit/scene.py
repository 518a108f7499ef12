"""Real loopback servers behind a backend, for what dials them; turned by hand."""

from __future__ import annotations

import socket
from dataclasses import replace

from lbproxy.balance.health import State, Transition
from lbproxy.balance.pool import Pool
from lbproxy.config.model import Address, ProxyConfig, ServerConfig
from lbproxy.proxy.backend import Backend
from tests.unit.relay.hand import Bench

Where = tuple[str, int]


class Scene:
    """A backend of the given addresses, asked in the order given."""

    def __init__(self, bench: Bench, *places: Where, **settings: object) -> None:
        servers = tuple(ServerConfig(address=Address(*place), name=f"s{at}") for at, place in enumerate(places))
        proxy = replace(ProxyConfig(listen=(Address("127.0.0.1", 1),), servers=servers), **settings)  # type: ignore[arg-type]
        self.bench = bench
        self.flips: list[tuple[str, Transition]] = []
        self.failed: list[str] = []
        pool = Pool(proxy, "node", 0.0)
        self.backend = Backend(
            "p", proxy, pool, lambda server, flip: self.flips.append((server.name, flip)),
            lambda server: self.failed.append(server.name),
        )  # fmt: skip
        self.servers = pool.servers
        for order, (server, place) in enumerate(zip(self.servers, places, strict=True)):
            server.endpoints = [(socket.AF_INET, place)]
            server.order = order

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
