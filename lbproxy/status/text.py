"""What `lbproxy status`, `conns` and `events` print: the JSON of `shapes`, as tables for a terminal."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from lbproxy.balance.state import State
from lbproxy.form import told
from lbproxy.record import dataclass
from lbproxy.status.shapes import Connection, Event, ProxyStatus, Status
from lbproxy.status.table import Paint, as_it_is, duration, paragraph, size, table

_COLOURS: Final = {State.UP: "32", State.SICK: "33", State.DOWN: "31;1", State.DRAINING: "36", State.DISABLED: "36"}
"""Of a state: ECMA-48's SGR. The words say it all, the colour only helps to find them."""


@dataclass(frozen=True, slots=True)
class Screen:
    """Where text is shown: lines have at most `width` characters (0 is no limit)."""

    width: int = 0
    colour: bool = False

    @property
    def paint(self) -> Paint:
        """What colours a cell."""
        return _coloured if self.colour else as_it_is


_USUAL: Final = Screen()


def status_text(status: Status, screen: Screen = _USUAL) -> str:
    """Return what `lbproxy status` prints."""
    lines = paragraph(headline(status), screen.width)
    for alarm in alarms(status):
        lines += paragraph(alarm, screen.width)
    for proxy in status["proxies"]:
        lines += ["", *proxy_lines(status, proxy, screen)]
    return "\n".join(lines) + "\n"


def proxy_lines(status: Status, name: str, screen: Screen = _USUAL) -> list[str]:
    """Return how the proxy of that name is, and its servers."""
    proxy = status["proxies"][name]
    width = max(screen.width - 2, 1) if screen.width else 0
    spare = ("WEIGHT", "TOTAL", "FAILURES", "IN", "OUT")
    servers = table(server_rows(proxy), width, "REASON", spare, screen.paint)
    listens = ", ".join(proxy["listen"])
    return [*paragraph(f"{name} on {listens}: {summary(proxy)}", screen.width), *(f"  {line}" for line in servers)]


def workers_text(status: Status, screen: Screen = _USUAL) -> str:
    """Return what `lbproxy status --workers` prints below the rest."""
    workers = status.get("workers", [])  # a daemon of before the last upgrade of the package says nothing of them
    if not workers:
        return f"one process carries all connections: pid {status['pid']}\n"
    rows = [["WORKER", "PID", "FOR", "CONNS", "TOTAL", "CPU", "MEMORY"]]
    rows += (
        [
            str(number),
            str(each["pid"]),
            duration(each["uptime_seconds"]),
            str(each["connections"]),
            str(each["connections_total"]),
            duration(each["cpu_seconds"]),
            size(each["resident_bytes"]),
        ]
        for number, each in enumerate(workers, 1)
    )
    return "\n".join(table(rows, screen.width)) + "\n"


def conns_text(connections: list[Connection], owners: list[str] | None = None, screen: Screen = _USUAL) -> str:
    """Return what `lbproxy conns` prints; `owners` are the local processes that have the connections, if known."""
    if not connections:
        return "no open connections\n"
    owners = owners or [""] * len(connections)
    rows = [["PROXY", "CLIENT", "PROCESS", "SERVER", "AGE", "IDLE", "IN", "OUT"]]
    rows += (
        [
            c["proxy"],
            c["client"],
            owner,
            c["server"] or "(connecting)",
            duration(c["age_seconds"]),
            duration(c["idle_seconds"]),
            size(c["bytes_in"]),
            size(c["bytes_out"]),
        ]
        for c, owner in zip(connections, owners, strict=True)
    )
    return "\n".join(table(rows, screen.width, below="SERVER", spare=("PROXY", "IDLE"))) + "\n"


def events_text(events: list[Event], screen: Screen = _USUAL) -> str:
    """Return what `lbproxy events` prints, with the times of this machine."""
    if not events:
        return "no events\n"
    lines = []
    for event in events:
        when = datetime.fromisoformat(event["ts"]).astimezone().strftime("%Y-%m-%d %H:%M:%S")
        lines += paragraph(f"{when} {event['level'].upper():7} {event['logger']}: {event['msg']}", screen.width)
    return "\n".join(lines) + "\n"


def headline(status: Status) -> str:
    """Return which process this is, and with what."""
    return (
        f"{told(status['version'], status['form'], status['python'])}, pid {status['pid']}, "
        f"up {duration(status['uptime_seconds'])}, generation {status['generation']}, "
        f"configuration {status['config']['file']}"
    )


def alarms(status: Status) -> list[str]:
    """Return what an operator should know before all else, a line each."""
    found = _reload_alarm(status)
    # A daemon of before the last upgrade of the package says none of these
    failures = [f"{kind} {count}" for kind, count in status.get("task_failures", {}).items() if count]
    if failures:
        found.append(f"ERRORS OF LBPROXY'S OWN SINCE ITS START, the log tells them: {', '.join(failures)}")
    if replaced := status.get("workers_replaced", 0):
        found.append(f"{replaced} workers have died or hung since its start and were replaced, the log tells when")
    if dropped := status.get("log_lines_dropped", 0):
        found.append(f"{dropped} lines of the log were dropped since nobody read them in time")
    return found


def _reload_alarm(status: Status) -> list[str]:
    """Say, when the last reload failed, that it did, what still runs, and every reason given; else nothing."""
    if status["config"]["last_reload_successful"]:
        return []
    why = status["config"]["last_reload_error"] or "no reason given"
    alarm = f"LAST RELOAD FAILED, generation {status['generation']} stays in force:"
    return [alarm, *(f"  {line}" for line in why.splitlines())]


def summary(proxy: ProxyStatus) -> str:
    """Return how a proxy stands, in a line."""
    up, unchecked, of = count(proxy, State.UP), count(proxy, State.UNCHECKED), len(proxy["servers"])
    servers = f"{up} of {of} servers up" if up or unchecked else f"NO SERVER UP OF {of}"
    servers += f", {unchecked} unchecked" if unchecked else ""
    return f"{servers}, {proxy['connections']} connections open, {proxy['connections_total']} since start"


def count(proxy: ProxyStatus, *states: State) -> int:
    """Return how many servers are in one of `states`."""
    return sum(server["state"] in states for server in proxy["servers"].values())


def server_rows(proxy: ProxyStatus) -> list[list[str]]:
    """Return a row for each server, below one that names the columns."""
    rows = [["SERVER", "STATE", "FOR", "WEIGHT", "CONNS", "TOTAL", "FAILURES", "IN", "OUT", "REASON"]]
    for name, server in proxy["servers"].items():
        label = name if name == server["address"] else f"{name} ({server['address']})"
        if (source := server.get("source", "config")) != "config":  # of before the last upgrade none says it
            label += f" from {source}"
        rows.append(
            [
                f"{label} backup" if server["backup"] else label,
                server["state"],
                duration(server["since_seconds"]),
                str(server["weight"]),
                str(server["connections"]),
                str(server["connections_total"]),
                str(server["connect_failures_total"]),
                size(server["bytes_in_total"]),
                size(server["bytes_out_total"]),
                server["reason"],
            ]
        )
    return rows


def _coloured(head: str, cell: str) -> str:
    colour = _COLOURS.get(cell.strip()) if head == "STATE" else None  # type: ignore[call-overload] # a State is a str
    return f"\x1b[{colour}m{cell}\x1b[0m" if colour else cell
