"""What several workers show of the same proxy, as one.

What a server is and how it stands is the leader's to say. A figure is the sum of what the workers count, and of what
those have counted that are no more: a counter never falls because a process has died. What one has counted after it
was last asked dies with it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from typing import Any, Final, TypeVar

from lbproxy.balance.histogram import Histogram
from lbproxy.handover.parcel import Parcel
from lbproxy.status.snapshot import ProxyView, ServerView

View = TypeVar("View", ProxyView, ServerView)
Moved = Counter[tuple[str, str, str, int]]
"""Bytes by proxy, server (name and address) and way: 0 is up, 1 is down."""

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
        "max_conns",
        "max_connections",
        "checked_seconds_ago",
        "check_took_seconds",
        "certificate_expires",
        "source",
        "held_back",
        "named",
        "resolve_failures_total",
        "resolved_seconds_ago",
        "checks",
        "flips_total",
    )
)
"""What the leader says."""
GAUGES: Final = frozenset(("connections", "connecting"))
"""What a process that is no more has none of."""


def add(leader: ProxyView, others: Iterable[ProxyView]) -> ProxyView:
    """Return what the leader shows of a proxy, with the figures of others. A server that it has not is passed over."""
    for other in others:
        theirs = {(server.name, server.address): server for server in other.servers}
        servers = [
            _added(server, theirs[server.name, server.address]) if (server.name, server.address) in theirs else server
            for server in leader.servers
        ]
        leader = replace(_added(leader, other), servers=tuple(servers))
    return leader


def moved(parcels: Iterable[Parcel]) -> Moved:
    """Return the bytes that connections have moved so far."""
    found: Moved = Counter()
    for parcel in parcels:
        for way in (0, 1):
            found[parcel.proxy, *parcel.server, way] += parcel.moved[way]
    return found


def departed(view: ProxyView, taken: Moved) -> ProxyView:
    """Return what is left of the figures of a process that is no more: no gauge, and no byte that is in `taken`.

    Those are of connections that another process has taken over, and counts from their beginning.
    """
    servers = [
        replace(
            _without_gauges(server),
            bytes_in_total=server.bytes_in_total - taken[view.name, server.name, server.address, 0],
            bytes_out_total=server.bytes_out_total - taken[view.name, server.name, server.address, 1],
        )
        for server in view.servers
    ]
    return replace(_without_gauges(view), servers=tuple(servers))


def _without_gauges(view: View) -> View:
    zeros: dict[str, Any] = {each.name: 0 for each in fields(view) if each.name in GAUGES}
    return replace(view, **zeros)


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
            return {key: one.get(key, 0) + other.get(key, 0) for key in {**one, **other}}
        case int(), int():
            return one + other
    raise TypeError(f"no figures: {one!r}, {other!r}")
