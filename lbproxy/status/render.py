"""A snapshot as the JSON that programs read, in the shape that `shapes` says.

Text and page are made from this, so that the CLI, which gets it over the control socket, and the admin endpoint, which
has the snapshot, show the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lbproxy.status.shapes import Connection, ProxyStatus, ServerStatus, Status, WorkerStatus

if TYPE_CHECKING:
    from lbproxy.status.snapshot import ConnectionView, ProxyView, ServerView, Snapshot, WorkerView


def status_json(snapshot: Snapshot) -> Status:
    """Return `snapshot` in the shape of `lbproxy status --json` and `/status`, ready for `json.dumps`."""
    return {
        "version": snapshot.version,
        "form": snapshot.form,
        "python": snapshot.python,
        "pid": snapshot.pid,
        "uptime_seconds": round(snapshot.uptime_seconds, 3),
        "generation": snapshot.generation,
        "config": {
            "file": snapshot.config.file,
            "last_reload_successful": snapshot.config.last_reload_successful,
            "last_reload_error": snapshot.config.last_reload_error,
        },
        "proxies": {proxy.name: _proxy_json(proxy) for proxy in snapshot.proxies},
        "task_failures": dict(snapshot.task_failures),
        "log_lines_dropped": snapshot.log_lines_dropped,
        "host": snapshot.host,
        "workers": [_worker_json(worker) for worker in snapshot.workers],
        "workers_replaced": snapshot.workers_replaced,
    }


def conn_json(connection: ConnectionView) -> Connection:
    """Return `connection` in the shape of `lbproxy conns --json`."""
    return {
        "proxy": connection.proxy,
        "server": connection.server,
        "client": connection.client,
        "age_seconds": round(connection.age_seconds, 3),
        "idle_seconds": round(connection.idle_seconds, 3),
        "bytes_in": connection.bytes_in,
        "bytes_out": connection.bytes_out,
    }


def _worker_json(worker: WorkerView) -> WorkerStatus:
    return {
        "pid": worker.pid,
        "uptime_seconds": round(worker.uptime_seconds, 3),
        "connections": worker.connections,
        "connections_total": worker.connections_total,
        "cpu_seconds": worker.cpu_seconds,
        "resident_bytes": worker.resident_bytes,
    }


def _proxy_json(proxy: ProxyView) -> ProxyStatus:
    return {
        "listen": list(proxy.listen),
        "connections": proxy.connections,
        "connections_total": proxy.connections_total,
        "servers": {server.name: _server_json(server) for server in proxy.servers},
    }


def _server_json(server: ServerView) -> ServerStatus:
    return {
        "address": server.address,
        "state": server.state,
        "reason": server.reason,
        "since_seconds": round(server.since_seconds, 3),
        "weight": server.weight,
        "backup": server.backup,
        "connections": server.connections,
        "connections_total": server.connections_total,
        "connect_failures_total": sum(server.connect_failures.values()),
        "bytes_in_total": server.bytes_in_total,
        "bytes_out_total": server.bytes_out_total,
        "connect_failures": dict(server.connect_failures),
        "checks": dict(server.checks),
        "flips_total": server.flips_total,
        "replays_total": server.replays_total,
        "cuts": dict(server.cuts),
        "checked_seconds_ago": _rounded(server.checked_seconds_ago),
        "check_took_seconds": _rounded(server.check_took_seconds),
        "source": server.source,
    }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 4)
