"""Random configurations that are valid, and what a person would write for them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import MISSING, fields, is_dataclass, replace
from functools import cache
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from hypothesis import strategies as st

from lbproxy.config.model import (
    Address,
    Admin,
    Config,
    Duration,
    HealthConfig,
    Keepalive,
    Log,
    ProxyConfig,
    Rebalance,
    ServerConfig,
    Text,
    Whole,
)
from lbproxy.config.scalars import constraint, members, required, write

LETTERS = "abcxyzABC019"
names = st.builds(str.__add__, st.sampled_from(f"{LETTERS}_["), st.text(f"{LETTERS}_.:[]-", max_size=8))
words = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cs"), exclude_characters="\ufffe\uffff"),
    min_size=1,
    max_size=9,
)
ipv4 = st.integers(128 << 24, (1 << 32) - 1).map(lambda n: str(IPv4Address(n)))
ipv6 = st.integers(2, (1 << 128) - 1).map(lambda n: str(IPv6Address(n)))
labels = st.builds("{}{}z".format, st.sampled_from("abc09"), st.text("az09-", max_size=3))
hosts = (
    ipv4
    | ipv6
    | st.builds("{}{}".format, st.lists(labels, min_size=1, max_size=3).map(".".join), st.sampled_from(["", "."]))
)
addresses = st.builds(Address, hosts, st.integers(1, 9999))


@st.composite
def durations(draw: st.DrawFn, low: float, high: float, zero: bool) -> float:
    """Whole milliseconds, seconds, minutes and hours, and the limits."""
    unit = draw(st.sampled_from([0.001, 1, 60, 3600]))
    number = draw(st.integers(0, int(high / unit)))
    seconds = number / 1000 if unit == 0.001 else float(number * unit)
    if low <= seconds <= high or (zero and seconds == 0):
        return seconds
    return draw(st.sampled_from([low, high])) * 1.0


@cache
def values(hint: Any) -> st.SearchStrategy[Any]:
    """Return a strategy for what `hint` allows."""
    match constraint(required(hint)):
        case Whole(low, high):
            return st.sampled_from([low, high]) | st.integers(low, high)
        case Duration(low, high, zero):
            return durations(low, high, zero)
        case Text(_, pattern):
            return words if "\\x00" in pattern else st.from_regex(pattern, fullmatch=True).filter(lambda t: len(t) < 99)
        case bool():
            return st.booleans()
        case tuple() as choices:
            return st.sampled_from(choices)
        case list() as options:
            return st.one_of([values(option) for option in options])
        case other:
            raise TypeError(other)


@st.composite
def records(draw: st.DrawFn, /, cls: Any, **given: st.SearchStrategy[Any]) -> Any:
    """Draw a dataclass of the model; of the keys that are not in `given`, up to four are not the default."""
    others = [f.name for f in fields(cls) if f.default not in (MISSING, None, "", ()) and f.name not in given]
    chosen = draw(st.lists(st.sampled_from(others), max_size=4, unique=True))
    keys = {name: values(members(cls)[name]) for name in chosen} | given
    return cls(**{name: draw(each) for name, each in keys.items()})


servers = records(ServerConfig, name=names | st.just(""), address=addresses)
maybe = st.none() | words
health = records(HealthConfig, ca_file=maybe, server_name=st.none() | labels) | records(
    HealthConfig, cert_file=words, key_file=words
)


def _some(listens: Iterator[Address], least: int, draw: st.DrawFn) -> tuple[Address, ...]:
    return tuple(next(listens) for _ in range(draw(st.integers(least, 2))))


@st.composite
def configs(draw: st.DrawFn) -> Config:
    """Draw a configuration that `load` takes."""
    bound = st.builds(Address, st.sampled_from(["127.0.0.1", "0.0.0.0", "::1", "::"]), st.integers(10000, 65535))
    apart = st.lists(bound, min_size=10, max_size=10, unique_by=lambda a: (":" in a.host, a.port))
    listens = iter(draw(apart))
    proxies = {}
    for name in draw(st.lists(names, min_size=1, max_size=3, unique=True)):
        proxies[name] = draw(
            records(
                ProxyConfig,
                listen=st.just(_some(listens, 1, draw)),
                servers=st.lists(servers, min_size=1, max_size=3, unique_by=lambda s: s.name)
                .map(tuple)
                .filter(lambda many: not all(s.down for s in many)),
                connect_timeout=durations(0.01, 3, zero=False),
                connect_deadline=durations(3, 600, zero=False),
                keepalive=records(Keepalive),
                rebalance=records(Rebalance),
                health=st.none() | health,
            )
        )
    admin = st.none() | st.just(Admin(listen=_some(listens, 1, draw), probes=_some(listens, 0, draw) or None))
    config: Config = draw(records(Config, proxies=st.just(proxies), admin=admin, log=records(Log)))
    return config


@st.composite
def successors(draw: st.DrawFn, old: Config) -> Config:
    """Draw what `old` might become: things added, removed, changed, and addresses moved from proxy to proxy."""
    new = draw(configs())
    every = [*old.proxies.items(), *new.proxies.items()]
    free = draw(st.permutations(sorted({a for _, proxy in every for a in proxy.listen}, key=str)))
    proxies = {}
    for name in draw(st.lists(st.sampled_from([name for name, _ in every]), min_size=1, max_size=4, unique=True)):
        origin = draw(st.sampled_from([proxy for _, proxy in every]))
        kept = [replace(s, weight=draw(st.just(s.weight) | st.just(7))) for s in old.proxies.get(name, origin).servers]
        both = {server.name: server for server in (*origin.servers, *kept)}
        several = draw(st.lists(st.sampled_from(sorted(both)), min_size=1, unique=True))
        listen = tuple(free.pop() for _ in range(min(len(free), draw(st.integers(0, 2)))))
        proxies[name] = replace(origin, servers=tuple(both[each] for each in several), listen=listen)
    return replace(draw(st.sampled_from([old, new])), proxies=proxies)


def written(value: Any, *, terse: bool) -> Any:
    """Return `value` as plain lists, dicts, strings, numbers and booleans; `terse` leaves out the defaults."""
    if is_dataclass(value) and not isinstance(value, Address):
        found = {f.name: (getattr(value, f.name), f) for f in fields(value)}
        kept = {k: v for k, (v, f) in found.items() if v is not None and not (terse and v == _default(f))}
        return {key: written(each, terse=terse) for key, each in kept.items()}
    if isinstance(value, dict):
        return {key: written(each, terse=terse) for key, each in value.items()}
    if isinstance(value, tuple):
        return [written(each, terse=terse) for each in value]
    if isinstance(value, (bool, int)):
        return value
    return 0 if value == 0.0 else write(value)


def _default(field: Any) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()
