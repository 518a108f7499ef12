"""Random configurations that are valid, and what a person would write for them."""

from __future__ import annotations

from dataclasses import MISSING, fields, is_dataclass
from typing import Any

from hypothesis import strategies as st

from lbproxy.config.model import (
    Address,
    Admin,
    Config,
    Duration,
    Health,
    Keepalive,
    Log,
    Proxy,
    Rebalance,
    Server,
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
ipv4 = st.ip_addresses(v=4).map(str).filter(lambda host: host != "0.0.0.0" and not host.startswith("127."))
ipv6 = st.ip_addresses(v=6).map(str).filter(lambda host: host not in ("::", "::1"))
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


def records(cls: Any, **given: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Return a strategy for a dataclass of the model; a key that is not in `given` is random or left out."""
    keys = {
        f.name: st.just(f.default) | values(members(cls)[f.name])
        for f in fields(cls)
        if f.default is not MISSING and f.name not in given
    }
    return st.builds(cls, **keys, **given)


servers = records(Server, name=names | st.just(""), address=addresses)
health = records(Health, cert_file=st.none(), key_file=st.none()) | records(Health, cert_file=words, key_file=words)


@st.composite
def configs(draw: st.DrawFn) -> Config:
    """Draw a configuration that `load` takes."""
    bound = st.builds(Address, st.ip_addresses().map(str), st.integers(10000, 65535))  # no port of a server
    listens = iter(draw(st.lists(bound, min_size=9, max_size=9, unique=True)))
    proxies = {}
    for name in draw(st.lists(names, min_size=1, max_size=3, unique=True)):
        proxies[name] = draw(
            records(
                Proxy,
                listen=st.just(tuple(next(listens) for _ in range(draw(st.integers(1, 2))))),
                servers=st.lists(servers, min_size=1, max_size=4, unique_by=lambda s: s.name)
                .map(tuple)
                .filter(lambda many: not all(s.down for s in many)),
                connect_timeout=durations(0.01, 3, zero=False),
                connect_deadline=durations(3, 600, zero=False),
                keepalive=records(Keepalive),
                rebalance=records(Rebalance),
                health=st.none() | health,
            )
        )
    admin = st.none() | st.just(Admin(listen=next(listens)))
    return draw(records(Config, proxies=st.just(proxies), admin=admin, log=records(Log)))


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
