"""The forms a snapshot takes: JSON for programs, a table for a terminal, a page for a browser.

JSON comes first (see `shapes`). Text and page are made from it, so that the CLI, which gets JSON over the control
socket, and the admin endpoint, which has the snapshot, show the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from lbproxy.balance.state import State
from lbproxy.form import told
from lbproxy.status.shapes import Connection, ProxyStatus, ServerStatus, Status

if TYPE_CHECKING:
    from lbproxy.status.snapshot import ConnectionView, ProxyView, ServerView, Snapshot

_LEFT = {"SERVER", "STATE", "REASON", "PROXY", "CLIENT"}
"""Columns of words; the others hold numbers and are aligned to the right."""

_STYLE = """
body{font:14px/1.5 system-ui,sans-serif;margin:2em;color:#222}h2{margin:1.5em 0 .3em;font-size:1.1em}
table{border-collapse:collapse}th,td{padding:.2em .8em;border-bottom:1px solid #ddd;text-align:right}
th{font-weight:600;color:#666}td.word,th.word{text-align:left}.alarm{color:#b00020;font-weight:600;white-space:pre-wrap}
.up{color:#0a7d32}.unchecked,.draining,.disabled{color:#666}.sick{color:#b36b00}.down{color:#b00020;font-weight:600}
"""


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


def status_text(status: Status) -> str:
    """Return what `lbproxy status` prints."""
    lines = [_headline(status), *_alarms(status)]
    for name, proxy in status["proxies"].items():
        lines += ["", f"{name} on {', '.join(proxy['listen'])}: {_proxy_summary(proxy)}"]
        lines += (f"  {line}" for line in _aligned(_server_rows(proxy)))
    return "\n".join(map(_printable, lines)) + "\n"


def conns_text(connections: list[Connection]) -> str:
    """Return what `lbproxy conns` prints."""
    if not connections:
        return "no open connections\n"
    rows = [["PROXY", "CLIENT", "SERVER", "AGE", "IDLE", "IN", "OUT"]]
    rows += (
        [
            c["proxy"],
            c["client"],
            c["server"] or "(connecting)",
            _seconds(c["age_seconds"]),
            _seconds(c["idle_seconds"]),
            _bytes(c["bytes_in"]),
            _bytes(c["bytes_out"]),
        ]
        for c in connections
    )
    return "\n".join(map(_printable, _aligned(rows))) + "\n"


def status_page(status: Status) -> Iterator[str]:
    """Yield a self-contained HTML page that reloads itself, a row at a time; everything in it is escaped."""
    from html import escape  # the CLI has no use for its entity tables

    yield (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="5">'
        f"<title>lbproxy</title><style>{_STYLE}</style><body><h1>lbproxy</h1><p>{escape(_headline(status))}</p>\n"
    )
    if alarm := _alarms(status):
        yield f'<p class="alarm">{escape(chr(10).join(alarm))}</p>\n'
    for name, proxy in status["proxies"].items():
        alarm_class = "" if _in(proxy, State.UP, State.UNCHECKED) else ' class="alarm"'
        yield (
            f"<h2>{escape(name)}</h2><p{alarm_class}>{escape(', '.join(proxy['listen']))}: "
            f"{escape(_proxy_summary(proxy))}</p><table>\n"
        )
        heads, *rows = _server_rows(proxy)
        word = [' class="word"' if head in _LEFT else "" for head in heads]
        yield "<tr>" + "".join(f"<th{w}>{escape(h)}</th>" for w, h in zip(word, heads, strict=True)) + "</tr>\n"
        for row, server in zip(rows, proxy["servers"].values(), strict=True):
            cells = "".join(f"<td{w}>{escape(cell)}</td>" for w, cell in zip(word, row, strict=True))
            yield f'<tr class="{escape(server["state"])}">{cells}</tr>\n'
        yield "</table>\n"
    yield '<p><a href="/status">status</a> <a href="/metrics">metrics</a> <a href="/readyz">readyz</a></p>\n'
    yield "</body></html>\n"


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
    }


def _headline(status: Status) -> str:
    return (
        f"{told(status['version'], status['form'], status['python'])}, pid {status['pid']}, "
        f"up {_seconds(status['uptime_seconds'])}, generation {status['generation']}, "
        f"configuration {status['config']['file']}"
    )


def _alarms(status: Status) -> list[str]:
    """Say what an operator should know before all else."""
    alarms = _reload_alarm(status)
    # A daemon of before the last upgrade of the package says neither
    failures = [f"{kind} {count}" for kind, count in status.get("task_failures", {}).items() if count]
    if failures:
        alarms.append(f"ERRORS OF LBPROXY'S OWN SINCE ITS START, the log tells them: {', '.join(failures)}")
    if dropped := status.get("log_lines_dropped", 0):
        alarms.append(f"{dropped} lines of the log were dropped since nobody read them in time")
    return alarms


def _reload_alarm(status: Status) -> list[str]:
    """Say, when the last reload failed, that it did, what still runs, and every reason given; else nothing."""
    if status["config"]["last_reload_successful"]:
        return []
    why = status["config"]["last_reload_error"] or "no reason given"
    alarm = f"LAST RELOAD FAILED, generation {status['generation']} stays in force:"
    return [alarm, *(f"  {line}" for line in why.splitlines())]


def _in(proxy: ProxyStatus, *states: State) -> int:
    """Return how many servers are in one of `states`."""
    return sum(server["state"] in states for server in proxy["servers"].values())


def _proxy_summary(proxy: ProxyStatus) -> str:
    up, unchecked, of = _in(proxy, State.UP), _in(proxy, State.UNCHECKED), len(proxy["servers"])
    servers = f"{up} of {of} servers up" if up or unchecked else f"NO SERVER UP OF {of}"
    servers += f", {unchecked} unchecked" if unchecked else ""
    return f"{servers}, {proxy['connections']} connections open, {proxy['connections_total']} since start"


def _server_rows(proxy: ProxyStatus) -> list[list[str]]:
    rows = [["SERVER", "STATE", "FOR", "WEIGHT", "CONNS", "TOTAL", "FAILURES", "IN", "OUT", "REASON"]]
    for name, server in proxy["servers"].items():
        label = name if name == server["address"] else f"{name} ({server['address']})"
        rows.append(
            [
                f"{label} backup" if server["backup"] else label,
                server["state"],
                _seconds(server["since_seconds"]),
                str(server["weight"]),
                str(server["connections"]),
                str(server["connections_total"]),
                str(server["connect_failures_total"]),
                _bytes(server["bytes_in_total"]),
                _bytes(server["bytes_out_total"]),
                server["reason"],
            ]
        )
    return rows


def _aligned(rows: list[list[str]]) -> Iterable[str]:
    """Yield `rows` as lines; the first one names the columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    justify = [str.ljust if head in _LEFT else str.rjust for head in rows[0]]
    for row in rows:
        yield "  ".join(j(cell, w) for j, cell, w in zip(justify, row, widths, strict=True)).rstrip()


def _printable(line: str) -> str:
    """Blank out control characters: a reason may quote what a server sent, and a terminal obeys escapes."""
    return "".join(c if c.isprintable() else "?" for c in line)


def _seconds(seconds: float) -> str:
    """Return a duration with its two leading units: `0.3s`, `42s`, `4m 10s`, `3h 12m`, `5d 2h`."""
    if seconds < 10:
        return f"{seconds:.1f}s"
    whole = int(seconds)
    for unit, size, next_unit, next_size in (("d", 86400, "h", 3600), ("h", 3600, "m", 60), ("m", 60, "s", 1)):
        if whole >= size:
            return f"{whole // size}{unit} {whole % size // next_size}{next_unit}"
    return f"{whole}s"


def _bytes(count: int) -> str:
    """Return a byte count with a binary unit: `999 B`, `1.5 KiB`, `20.0 GiB`."""
    if count < 1024:
        return f"{count} B"
    size, units = count / 1024, iter(("KiB", "MiB", "GiB", "TiB", "PiB"))
    unit = next(units)
    # 1023.95 and above would print as 1024.0 of the smaller unit
    while size >= 1023.95 and (larger := next(units, None)):
        size, unit = size / 1024, larger
    return f"{size:.1f} {unit}"
