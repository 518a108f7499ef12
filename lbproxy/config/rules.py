"""What must hold between keys. A value that was already reported proves nothing, so it is left out here."""

from __future__ import annotations

import re
from collections.abc import Iterator

from lbproxy.config.model import Address, Config, HealthConfig, ProxyConfig
from lbproxy.config.report import Report, item, under
from lbproxy.config.scalars import duration

_FILES = ("ca_file", "cert_file", "key_file")
WILDCARDS = frozenset(("0.0.0.0", "::"))
_LOOPBACK = re.compile(r"127(\.[0-9]+){3}")


def check(config: Config, report: Report) -> None:
    """Report what is wrong with `config` as a whole; entries that could not be read are None in its tuples."""
    _overlaps(config, report)
    _loops(config, report)
    for name, proxy in config.proxies.items():
        place = under("proxies", name)
        _servers(proxy, place, report)
        _times(proxy, place, report)
        if proxy.health is not None:
            _pair(proxy.health, f"{place}.health", report)


def _overlaps(config: Config, report: Report) -> None:
    """Report every address that an earlier one is in the way of: the same, or one of both the wildcard."""
    bound: list[tuple[Address, str]] = []
    for where, address in _listens(config):
        other = next(((each, at) for each, at in bound if _overlap(address, each)), None)
        if other is None:
            bound.append((address, where))
            continue
        with_what = "listened on" if other[0] == address else f"part of {other[0]}, which is listened on"
        if address.host in WILDCARDS and other[0] != address:
            with_what = f"in the way of {other[0]}, which is listened on"
        report.add(where, f"{address} is {with_what} already, by {other[1]} on line {report.line(other[1])}")


def _listens(config: Config) -> Iterator[tuple[str, Address]]:
    for name, proxy in config.proxies.items():
        for index, address in enumerate(proxy.listen):
            if address is not None:
                yield item(f"{under('proxies', name)}.listen", index), address
    if config.admin is not None:
        for place, addresses in (("admin.listen", config.admin.listen), ("admin.probes", config.admin.probes or ())):
            for index, address in enumerate(addresses):
                if address is not None:
                    yield item(place, index) if len(addresses) > 1 else place, address


def _overlap(one: Address, other: Address) -> bool:
    """Whether only one of both can be listened on; [::] is for IPv6 alone here, as everywhere in lbproxy."""
    return one.port == other.port and (
        one.host == other.host
        or ((":" in one.host) == (":" in other.host) and not WILDCARDS.isdisjoint((one.host, other.host)))
    )


def files(config: Config) -> Iterator[tuple[str, str]]:
    """Yield the place and the name of every file that `config` asks for."""
    for name, proxy in config.proxies.items():
        if proxy.servers_from is not None and (kubernetes := proxy.servers_from.kubernetes) is not None:
            yield f"{under('proxies', name)}.servers_from.kubernetes.kubeconfig", kubernetes.kubeconfig
        for key in _FILES:
            if proxy.health is not None and (file := getattr(proxy.health, key)):
                yield f"{under('proxies', name)}.health.{key}", file


def _servers(proxy: ProxyConfig, place: str, report: Report) -> None:
    found = proxy.servers_from
    if found is None and not proxy.servers and not report.faulty(f"{place}.servers"):
        given = report.given(f"{place}.servers")
        report.add(f"{place}.servers", "must have at least one entry" if given else "is missing")
    keys = ("file", "dns", "kubernetes")
    faulty = any(report.faulty(f"{place}.servers_from.{key}") for key in keys)
    if found is not None and not faulty and not any(getattr(found, key) for key in keys):
        report.add(f"{place}.servers_from", "must have at least one of file, dns and kubernetes")
    first: dict[str, int] = {}
    for index, server in enumerate(proxy.servers):
        where = item(f"{place}.servers", index)
        if server is None or report.faulty(f"{where}.name"):
            continue
        if first.setdefault(server.name, index) != index:
            line = report.line(item(f"{place}.servers", first[server.name]))
            report.add(where, f"duplicate server name {server.name!r}, first given on line {line}")
    if proxy.servers and all(server is not None and server.down for server in proxy.servers):
        report.add(f"{place}.servers", "every server is marked down, none would be left")


def _loops(config: Config, report: Report) -> None:
    """Report every server that `loops` finds."""
    for name, index, why in loops(config):
        report.add(item(f"{under('proxies', name)}.servers", index), why)


def loops(config: Config) -> Iterator[tuple[str, int, str]]:
    """Yield every server that is the proxy that would dial it, or another one that leads back there.

    That is the name of the proxy, which of its servers, and why it is one.
    """
    holders = {address: name for name, proxy in config.proxies.items() for address in proxy.listen}
    for name, proxy in config.proxies.items():
        for index, server in enumerate(proxy.servers):
            for address in _ends(server.address) if server is not None else ():
                if address in proxy.listen:
                    yield name, index, f"{server.address} is this proxy itself, which listens on {address}"
                    break
                if address in holders and name in _behind(config, holders, holders[address]):
                    yield name, index, f"{server.address} is {holders[address]}, whose servers lead back to this proxy"
                    break


def _behind(config: Config, holders: dict[Address, str], name: str) -> set[str]:
    """Return the proxies that a client of `name` may come to."""
    seen: set[str] = set()
    ahead = [name]
    while ahead:
        at = ahead.pop()
        if at not in seen:
            seen.add(at)
            ends = (end for server in config.proxies[at].servers if server is not None for end in _ends(server.address))
            ahead += [holders[end] for end in ends if end in holders]
    return seen


def _ends(dialled: Address) -> list[Address]:
    """Return where somebody must listen on this machine to get what is sent to `dialled`."""
    hosts = [dialled.host]
    if dialled.host in ("localhost", "localhost."):
        hosts = ["127.0.0.1", "0.0.0.0", "::1", "::"]
    elif dialled.host == "::1":
        hosts.append("::")
    elif _LOOPBACK.fullmatch(dialled.host):
        hosts.append("0.0.0.0")
    return [Address(host, dialled.port) for host in hosts]


def _times(proxy: ProxyConfig, place: str, report: Report) -> None:
    attempt, deadline = f"{place}.connect_timeout", f"{place}.connect_deadline"
    if proxy.connect_timeout > proxy.connect_deadline and not (report.faulty(attempt) or report.faulty(deadline)):
        one, every = duration(proxy.connect_timeout), duration(proxy.connect_deadline)
        if report.given(attempt):
            report.add(attempt, f"must not be longer than connect_deadline ({every}), got {one}")
        else:
            report.add(deadline, f"must not be shorter than connect_timeout ({one}), got {every}")


def _pair(health: HealthConfig, place: str, report: Report) -> None:
    one, other = ("cert_file", "key_file") if health.key_file is None else ("key_file", "cert_file")
    if getattr(health, one) and not getattr(health, other) and not report.faulty(f"{place}.{other}"):
        report.add(f"{place}.{one}", f"needs {other} as well")
