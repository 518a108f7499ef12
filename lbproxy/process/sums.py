"""What several workers show of the same proxy, as one.

A figure is a sum; what a server is and how it stands is taken from one of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, Final, TypeVar

from lbproxy.balance.histogram import Histogram
from lbproxy.balance.state import SEVERITY
from lbproxy.status.snapshot import ProxyView, ServerView

View = TypeVar("View", ProxyView, ServerView)

NO_FIGURES: Final = frozenset(
    (
        "name",
        "listen",
        "servers",
        "address",
        "state",
        "reason",
        "since_seconds",
        "weight",
        "backup",
        "source",
        "held_back",
        "max_conns",
        "max_connections",
        "checked_seconds_ago",
        "check_took_seconds",
        "certificate_expires",
        "named",
        "resolved_seconds_ago",
    )
)


def add_proxies(one: ProxyView, other: ProxyView) -> ProxyView:
    """Return what two workers show of one proxy. A server that only one of them has yet is there too."""
    theirs = {(server.name, server.address): server for server in other.servers}
    servers = []
    for server in one.servers:
        twin = theirs.pop((server.name, server.address), None)
        servers.append(_added(*_worse_first(server, twin)) if twin is not None else server)
    return replace(_added(one, other), servers=(*servers, *theirs.values()))


def _worse_first(one: ServerView, other: ServerView) -> tuple[ServerView, ServerView]:
    """Put the worse state first: what a worker sees is wrong with a server is what one wants to be told."""
    return (one, other) if SEVERITY[one.state] >= SEVERITY[other.state] else (other, one)


def _added(one: View, other: View) -> View:
    """Return `one` with the figures of both."""
    figures = [each.name for each in fields(one) if each.name not in NO_FIGURES]
    sums: dict[str, Any] = {name: _sum(getattr(one, name), getattr(other, name)) for name in figures}
    return replace(one, **sums)


def _sum(one: object, other: object) -> object:
    match one, other:
        case Histogram(), Histogram():
            counts = tuple(a + b for a, b in zip(one.counts, other.counts, strict=True))
            return Histogram(counts, one.total_seconds + other.total_seconds)
        case Mapping(), Mapping():
            return dict(Counter(one) + Counter(other))
        case int(), int():
            return one + other
    raise TypeError(f"no figures: {one!r}, {other!r}")
