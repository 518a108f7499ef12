"""The proxies of one process: those in force, and those that were removed and still have connections to end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from socket import SocketType

from lbproxy.balance.pool import Pool
from lbproxy.config.model import Address, ProxyConfig
from lbproxy.proxy.proxy import Proxy, Shared
from lbproxy.proxy.session import Session


class Proxies:
    """Makes proxies, and keeps them until they have ended."""

    def __init__(self, shared: Shared) -> None:
        self.named: dict[str, Proxy] = {}
        """Those in force, in the order of the file."""
        self._leaving: list[Proxy] = []
        self._shared = shared

    def open(self, name: str, settings: ProxyConfig, node_id: str) -> None:
        """Put a new proxy in force."""
        self.named[name] = self._make(name, settings, node_id)

    def keep(self, names: Iterable[str]) -> None:
        """Have those of these names in force, in this order; the connections of all others may drain."""
        kept = {name: self.named.pop(name) for name in names}
        for proxy in self.named.values():
            proxy.leave()
        self._leaving = [each for each in (*self._leaving, *self.named.values()) if len(each.sessions)]
        self.named = kept

    def of(self, name: str) -> Proxy:
        """Return the proxy that an inherited connection belongs to; of one not configured any more, one that leaves."""
        for proxy in self.all():
            if proxy.name == name:
                return proxy
        self._leaving.append(self._make(name, ProxyConfig(listen=(), servers=()), ""))
        return self._leaving[-1]

    def _make(self, name: str, settings: ProxyConfig, node_id: str) -> Proxy:
        return Proxy(name, settings, Pool(settings, node_id, self._shared.poller.now), self._shared)

    def all(self) -> list[Proxy]:
        """Return all, those in force first."""
        return [*self.named.values(), *self._leaving]

    def sessions(self) -> Iterator[Session]:
        """Return the connections of all."""
        return (session for proxy in self.all() for session in proxy.sessions)

    def listeners(self) -> dict[Address, SocketType]:
        """Return the listening sockets."""
        return {address: each.sock for proxy in self.named.values() for address, each in proxy.listeners.items()}

    def pause(self) -> None:
        """Leave clients in the backlog until `resume`."""
        for proxy in self.named.values():
            for listener in proxy.listeners.values():
                listener.pause()

    def resume(self) -> None:
        """Accept again."""
        for proxy in self.named.values():
            for listener in proxy.listeners.values():
                listener.resume()

    def set_drain(self, server: str, drain: bool) -> bool:
        """Take `server` out of rotation wherever it is, or put it back; False if it is nowhere."""
        found = False
        for proxy in self.named.values():
            match = proxy.backend.pool.find(server)
            if match is not None:
                proxy.set_drain(match, drain)
                found = True
        return found

    def drained(self) -> list[str]:
        """Return the names of the servers that the operator has taken out of rotation."""
        servers = (server for proxy in self.named.values() for server in proxy.backend.pool.servers)
        return sorted({server.name for server in servers if server.manual})

    def close(self, reason: str) -> None:
        """Cut every connection."""
        for proxy in self.all():
            proxy.sessions.close(reason)
