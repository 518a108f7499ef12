"""What must hold between keys. A value that was already reported proves nothing, so it is left out here."""

from __future__ import annotations

import re
from collections.abc import Iterator

from lbproxy.config.model import Address, Config, HealthConfig, ProxyConfig
from lbproxy.config.report import Report, item, under
from lbproxy.config.scalars import duration

_FILES = ("ca_file", "cert_file", "key_file")
_LOOPBACK = re.compile(r"127(\.[0-9]+){3}")


def check(config: Config, report: Report) -> None:
    """Report what is wrong with `config` as a whole; entries that could not be read are None in its tuples."""
    bound: dict[Address, str] = {}
    for name, proxy in config.proxies.items():
        place = under("proxies", name)
        for index, address in enumerate(proxy.listen):
            where = item(f"{place}.listen", index)
            if address is not None and (other := bound.setdefault(address, where)) != where:
                report.add(where, _taken(address, other, report))
        _servers(proxy, place, report)
        _loops(proxy, place, report)
        _times(proxy, place, report)
        if proxy.health is not None:
            _pair(proxy.health, f"{place}.health", report)
    if config.admin is not None and (taken := bound.get(config.admin.listen)):
        report.add("admin.listen", _taken(config.admin.listen, taken, report))


def _taken(address: Address, other: str, report: Report) -> str:
    return f"{address} is listened on already, by {other} on line {report.line(other)}"


def files(config: Config) -> Iterator[tuple[str, str]]:
    """Yield the place and the name of every file that `config` asks for."""
    for name, proxy in config.proxies.items():
        for key in _FILES:
            if proxy.health is not None and (file := getattr(proxy.health, key)):
                yield f"{under('proxies', name)}.health.{key}", file


def _servers(proxy: ProxyConfig, place: str, report: Report) -> None:
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


def _loops(proxy: ProxyConfig, place: str, report: Report) -> None:
    own = set(proxy.listen)
    for index, server in enumerate(proxy.servers):
        for address in _ends(server.address) if server is not None else ():
            if address in own:
                where = item(f"{place}.servers", index)
                report.add(where, f"{server.address} is this proxy itself, which listens on {address}")
                break


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
