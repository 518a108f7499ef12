"""How everything is, as frozen values: what /metrics, /status and `lbproxy status` are made from.

The data plane makes one whenever it is asked; nothing in it refers back to live objects. Counters count from the start
of the process.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from lbproxy.balance.histogram import Histogram
from lbproxy.balance.state import State
from lbproxy.record import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerView:
    """One server of one proxy. `reason` says in words why its `state` is what it is."""

    name: str
    address: str
    state: State
    reason: str
    since_seconds: float
    weight: int
    max_conns: int
    """0 = no limit."""
    backup: bool
    source: str = "config"
    """Who names it: config, file, dns, kubernetes."""
    held_back: bool = False
    """Whether it was found and is not used before its first good check."""
    connections: int
    connections_total: int
    connect_failures: Mapping[str, int]
    """By reason: refused, timeout, ..."""
    bytes_in_total: int
    bytes_out_total: int
    connect_seconds: Histogram
    first_byte_seconds: Histogram
    checks: Mapping[str, int]
    """Active checks by result."""
    checked_seconds_ago: float | None = None
    """None if no check has answered yet."""
    check_took_seconds: float | None = None
    certificate_expires: float | None = None
    """Unix time at which the certificate that it shows to checks ends, the first of those of its addresses."""
    named: bool
    """Whether its address is a host name."""
    resolve_failures_total: int
    resolved_seconds_ago: float | None = None
    """None for an IP address, and while its name is not known yet."""
    flips_total: int
    replays_total: int
    """Connections whose first flight was sent to another server because this one did not answer it."""
    cuts: Mapping[str, int]
    """Connections closed by lbproxy's own decision, by reason: down, sick, drain, rebalance, ..."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyView:
    """One proxy. `rejected` counts by reason the clients that were not served, `closed` all others that have ended."""

    name: str
    listen: tuple[str, ...]
    connections: int
    connecting: int
    """Of `connections`, those that no server has been reached for yet."""
    connections_total: int
    max_connections: int
    """0 = as many as there are descriptors for."""
    rejected: Mapping[str, int]
    closed: Mapping[str, int]
    lived_seconds: Histogram
    """How long those in `closed` were open."""
    servers: tuple[ServerView, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReloadView:
    """The configuration in force and what became of the attempts to replace it."""

    file: str
    last_reload_successful: bool = True
    last_reload_error: str | None = None
    last_success_timestamp: float = 0.0
    """Unix time."""
    reloads: Mapping[str, int] = field(default_factory=dict)
    """Reloads by result: success, failure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What the process takes of the machine. `started` is Unix time."""

    cpu_seconds: float
    virtual_bytes: int
    resident_bytes: int
    open_fds: int
    max_fds: int
    started: float


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerView:
    """One of several processes that carry connections; `number` begins with 1."""

    number: int
    pid: int
    uptime_seconds: float
    connections: int
    connections_total: int
    cpu_seconds: float
    resident_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The whole process. `generation` grows by one with each change of the configuration, from 1."""

    version: str
    form: str
    """compiled or plain."""
    python: str
    pid: int
    uptime_seconds: float
    generation: int
    config: ReloadView
    loop_lag_seconds: float
    proxies: tuple[ProxyView, ...]
    task_failures: Mapping[str, int] = field(default_factory=dict)
    """Errors of our own in what must run for ever, by kind (`tasks.Kind`); all kinds are there."""
    log_lines_dropped: int = 0
    handed: Mapping[str, int] = field(default_factory=dict)
    """Connections of the process before this one: those that go on here (success), and those that were reset."""
    kept: int = 0
    """Open connections that a next process would find, should this one be killed."""
    usage: Usage | None = None
    taken_at: float = 0.0
    """Unix time."""
    host: str = ""
    workers: tuple[WorkerView, ...] = ()
    """The processes that carry the connections, where it is not this one."""
    workers_replaced: int = 0
    """Those that had to be replaced, since they had died or hung."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionView:
    """One open connection; `server` is empty while none has been reached yet. bytes_in is client to server."""

    proxy: str
    server: str
    client: str
    age_seconds: float
    idle_seconds: float
    bytes_in: int
    bytes_out: int


def unusable(snapshot: Snapshot) -> list[str]:
    """Names of the proxies that have no server in a state that takes new connections, for /readyz."""
    return [p.name for p in snapshot.proxies if not any(map(_taking, p.servers))]


def bereft(snapshot: Snapshot, server: str) -> list[str]:
    """Names of the proxies in which none but `server` (its name or address) takes new connections."""
    found = []
    for proxy in snapshot.proxies:
        meant = [each for each in proxy.servers if server in (each.name, each.address)]
        others = [each for each in proxy.servers if each not in meant]
        if any(each.state not in (State.DRAINING, State.DISABLED) for each in meant) and not any(map(_taking, others)):
            found.append(proxy.name)
    return found


def _taking(server: ServerView) -> bool:
    return server.state in (State.UP, State.UNCHECKED) and not server.held_back
