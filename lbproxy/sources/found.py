"""What sources may say, and the configuration with what they have found in it.

Found servers stand behind those of the file. One address is one server, and the file's word on it stands; so a server
that is written into the file later stays the one it was, connections included.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from typing import Final, NamedTuple, Protocol

from lbproxy.config import rules
from lbproxy.config.found import FoundServer
from lbproxy.config.model import Address, Config, ServerConfig

MOST: Final = 32
"""Servers that one source may name. A control plane has 3, 5 or 7 masters; each one found is asked by every node every
few seconds, so an answer that names hundreds would turn all nodes against whoever is there."""


class Origin(NamedTuple):
    """One source of one proxy: `kind` is file, dns or kubernetes, `where` what it is asked for."""

    proxy: str
    kind: str
    where: str


class Listener(Protocol):
    """Who is told what a source says."""

    def answered(self, servers: Sequence[ServerConfig]) -> None:
        """Called with all servers that it names now. Raises ValueError if that is more than may be."""

    def failed(self, why: str) -> None:
        """Called when it could not be asked, or its answer not be read."""


def origins(config: Config) -> Iterator[Origin]:
    """Yield every source that `config` has."""
    for name, proxy in config.proxies.items():
        asked = proxy.servers_from
        if asked is None:
            continue
        if asked.file:
            yield Origin(name, "file", asked.file)
        if asked.dns:
            yield Origin(name, "dns", asked.dns)
        if asked.kubernetes:
            yield Origin(name, "kubernetes", asked.kubernetes.kubeconfig)


def accepted(servers: Sequence[ServerConfig], kind: str, good: set[Address]) -> tuple[FoundServer, ...]:
    """Return an answer as found servers, each address once; those in `good` have had good checks.

    Raises ValueError if there are more than MOST.
    """
    first: dict[Address, ServerConfig] = {}
    for server in servers:
        first.setdefault(server.address, server)
    if len(first) > MOST:
        raise ValueError(f"it names {len(first)} servers, and no more than {MOST} are believed")
    return tuple(
        FoundServer(**{each.name: getattr(server, each.name) for each in fields(ServerConfig)},
                    source=kind, good=server.address in good)
        for server in first.values()
    )  # fmt: skip


def merged(config: Config, found: Mapping[Origin, Sequence[FoundServer]]) -> tuple[Config, list[str]]:
    """Return `config` with what was found for it, and what was left out, in words.

    Left out is a server that leads back to its proxy, and one whose name another one has, be it as an address.
    """
    left_out: list[str] = []
    proxies = dict(config.proxies)
    for origin in origins(config):
        proxy = proxies[origin.proxy]
        servers = list(proxy.servers)
        for server in found.get(origin, ()):
            if any(server.address == other.address for other in servers):
                continue
            named = {other.name for other in servers} | {str(other.address) for other in servers}
            if server.name in named:
                server = replace(server, name=str(server.address))
            if server.name in named:
                left_out.append(f"{origin.proxy}: {server.address} from {origin.kind}: another server has that name")
            else:
                servers.append(server)
        proxies[origin.proxy] = replace(proxy, servers=tuple(servers))
    return _without_loops(replace(config, proxies=proxies), left_out)


def _without_loops(config: Config, left_out: list[str]) -> tuple[Config, list[str]]:
    proxies = dict(config.proxies)
    for name, index, why in rules.loops(config):
        server = config.proxies[name].servers[index]
        if isinstance(server, FoundServer):
            left_out.append(f"{name}: {why} (from {server.source})")
            stay = tuple(other for other in proxies[name].servers if other is not server)
            proxies[name] = replace(proxies[name], servers=stay)
    return replace(config, proxies=proxies), left_out


def outlived(
    now: Sequence[FoundServer], wanted: Sequence[FoundServer], others: Sequence[ServerConfig], up: set[str]
) -> tuple[FoundServer, ...]:
    """Return the servers to have: those `wanted`, and those of `now` too while none that stays is up.

    `others` are the proxy's that stay in any case, `up` the names of those that are up now. So an answer which names
    nothing but the wrong places takes nobody's last server away.
    """
    named = {server.address for server in wanted}
    leaving = [server for server in now if server.address not in named]
    had = {server.address: server.name for server in now}
    staying = {server.name for server in others} | {had[address] for address in named if address in had}
    return (*wanted, *leaving) if leaving and not staying & up else tuple(wanted)
