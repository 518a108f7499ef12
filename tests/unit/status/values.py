"""Values that the tests of this folder show in many forms."""

from __future__ import annotations

from typing import Any

from lbproxy.balance.histogram import CONNECT, FIRST_BYTE, LIFE, Histogram
from lbproxy.status.render import status_json
from lbproxy.status.shapes import Status
from lbproxy.status.snapshot import ConnectionView, ProxyView, ReloadView, ServerView, Snapshot


def nothing(bounds: tuple[float, ...]) -> Histogram:
    """Return one that has counted nothing."""
    return Histogram((0,) * (len(bounds) + 1), 0.0)


def server(name: str, **fields: Any) -> ServerView:
    """Return a server that is up and has done nothing, but for `fields`."""
    values: dict[str, Any] = {
        "name": name,
        "address": name,
        "state": "up",
        "reason": "200 from /readyz",
        "since_seconds": 1.0,
        "weight": 1,
        "max_conns": 0,
        "backup": False,
        "connections": 0,
        "connections_total": 0,
        "connect_failures": {},
        "bytes_in_total": 0,
        "bytes_out_total": 0,
        "connect_seconds": nothing(CONNECT),
        "first_byte_seconds": nothing(FIRST_BYTE),
        "checks": {},
        "named": False,
        "resolve_failures_total": 0,
        "flips_total": 0,
        "replays_total": 0,
        "cuts": {},
    }
    return ServerView(**{**values, **fields})


def status(*servers: ServerView, **config: Any) -> Status:
    """Return the JSON form of a process with one proxy in front of `servers`."""
    return status_json(snapshot(*servers, **config))


def snapshot(*servers: ServerView, **config: Any) -> Snapshot:
    """Return a process with one proxy in front of `servers`."""
    proxy = ProxyView(
        name="kube-apiserver",
        listen=("127.0.0.1:6443", "[::1]:6443"),
        connections=2,
        connecting=0,
        connections_total=9,
        max_connections=0,
        rejected={},
        closed={},
        lived_seconds=nothing(LIFE),
        servers=servers,
    )
    return Snapshot(
        version="1.2.3",
        form="compiled",
        python="3.11.2",
        pid=812,
        uptime_seconds=93784.25,
        generation=3,
        loop_lag_seconds=0.001,
        config=ReloadView(file="/etc/lbproxy/lbproxy.yaml", **config),
        proxies=(proxy,),
    )


CONNECTION = ConnectionView(
    proxy="kube-apiserver",
    server="m1",
    client="127.0.0.1:40000",
    age_seconds=3700.0,
    idle_seconds=0.25,
    bytes_in=512,
    bytes_out=3 * 1024**2,
)
