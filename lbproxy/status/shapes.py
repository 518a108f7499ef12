"""The JSON that programs read: `lbproxy status --json` and `/status`, `lbproxy conns --json`, `lbproxy events --json`.

Public: a key that is here stays, with its meaning. Counters count from the start of the process, durations are in
seconds, sizes in bytes; `in` is from client to server.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypedDict


class ServerStatus(TypedDict):
    """One server of one proxy. `reason` says in words why its `state` is what it is, `since_seconds` for how long.

    `source` is who names it: config, file, dns or kubernetes.
    """

    address: str
    state: str
    reason: str
    since_seconds: float
    weight: int
    backup: bool
    connections: int
    connections_total: int
    connect_failures_total: int
    bytes_in_total: int
    bytes_out_total: int
    connect_failures: Mapping[str, int]
    checks: Mapping[str, int]
    flips_total: int
    replays_total: int
    cuts: Mapping[str, int]
    checked_seconds_ago: float | None
    check_took_seconds: float | None
    source: str


class ProxyStatus(TypedDict):
    """One proxy; `servers` by name, in the order of the file."""

    listen: list[str]
    connections: int
    connections_total: int
    servers: dict[str, ServerStatus]


class ConfigStatus(TypedDict):
    """Where the configuration comes from, and whether the last attempt to replace it was applied."""

    file: str
    last_reload_successful: bool
    last_reload_error: str | None


class WorkerStatus(TypedDict):
    """One of several processes that carry connections."""

    pid: int
    uptime_seconds: float
    connections: int
    connections_total: int
    cpu_seconds: float
    resident_bytes: int


class Status(TypedDict):
    """A whole process; `proxies` by name, in the order of the file.

    `task_failures` are errors of lbproxy's own in what must run for ever, by kind. `workers` are the processes that
    carry the connections, empty where `pid` does it itself; `workers_replaced` says how many have died or hung.
    """

    version: str
    form: str
    python: str
    pid: int
    uptime_seconds: float
    generation: int
    config: ConfigStatus
    proxies: dict[str, ProxyStatus]
    task_failures: dict[str, int]
    log_lines_dropped: int
    host: str
    workers: list[WorkerStatus]
    workers_replaced: int


class Connection(TypedDict):
    """One open connection; `server` is empty while none has been reached yet."""

    proxy: str
    server: str
    client: str
    age_seconds: float
    idle_seconds: float
    bytes_in: int
    bytes_out: int


class Event(TypedDict):
    """Something that has happened, as in a line of the log with `log.format: json`; `ts` is ISO 8601, UTC."""

    ts: str
    level: str
    logger: str
    msg: str
