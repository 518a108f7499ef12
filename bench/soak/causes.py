"""Who has ended a connection, and whether he may: what the access log says of it, and what was done just then."""

from __future__ import annotations

import itertools
import re
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

Span = tuple[str, float, float]
"""What was done, from when to when, in seconds since the epoch."""

_LINE: Final = re.compile(r"(\d\d):(\d\d):([\d.]+) .*access: p \S+:(\d+) -> (\S*) ([\d.]+)s in=\d+ out=\d+ (\S+)")
_NEAR: Final = 2.0
"""Seconds by which a line and the end that a client has seen may be apart."""
OWN: Final = ("server_down", "server_sick", "drained", "removed", "rebalance")
"""What lbproxy says when it ends one itself, by its documents."""
THEIRS: Final = ("server_rst", "server_fin", "server_timeout", "unreachable", "no_server")
"""What the fault of a server becomes."""
_NEVER: Final = ("error", "shutdown", "idle_timeout", *THEIRS)
"""What no connection at all may end by without a fault, but for the usual one; hostile clients end by all others."""
_USUAL: Final = "server_fin"
"""How a server ends what it has served."""
KILLED: Final = "lbproxy was killed"
REFUSED: Final = "refused"
"""A connect that was; never allowed."""
_AFTER: Final = 4.0
"""Seconds for which a fault may still show, once it is over: connect_deadline, and a poll of the server's."""
_DAY: Final = 86400


class Line(NamedTuple):
    """One of the access log."""

    at: float
    """Seconds of the day."""
    server: str
    lived: float
    reason: str


def lines(log: str) -> dict[int, list[Line]]:
    """Return those of an access log by the client's port."""
    found: dict[int, list[Line]] = defaultdict(list)
    for match in _LINE.finditer(log):
        hour, minute, second, port, server, lived, reason = match.groups()
        at = int(hour) * 3600 + int(minute) * 60 + float(second)
        found[int(port)].append(Line(at, server, float(lived), reason))
    return found


class Causes:
    """Of one target's connections: by its log, by what was done to it, and by the faults of servers by name."""

    def __init__(self, log: str, events: Iterable[Span], faults: Mapping[str, Sequence[Span]]) -> None:
        self._lines = lines(log)
        self._kills = [event for event in events if event[0].startswith("kill")]
        self._faults = faults

    def of(self, connection: dict[str, Any], server: str = "") -> tuple[str, bool]:
        """Return why a connection has ended, and whether it was allowed to; `server` is whose it was, if known.

        The port is 0 for a connection that was reset before its client could ask which one it has.
        """
        if REFUSED in (connection.get("what"), connection.get("ended")):
            return REFUSED, False
        at = _of_day(connection["gone"])
        line = self._line(connection, at)
        reason = line.reason if line else "not in the log"
        if reason in OWN:
            return reason, True
        if reason in ("not in the log", "shutdown") and _during(self._kills, at):
            return KILLED, True  # workers whose supervisor is killed say shutdown
        faults = self._of_server(server or (line.server if line else ""), at)
        if "kill" in faults:
            return "the server was killed", True
        fits = reason in THEIRS or connection.get("what") == "late" or not connection["port"]
        return (f"{reason} ({faults[-1]})", True) if faults and fits else (reason, False)

    def odd(self) -> list[str]:
        """Return the lines that no fault explains, of whichever client."""
        found = []
        for port, of_port in self._lines.items():
            for line in of_port:
                if line.reason not in _NEVER or line.reason == _USUAL:
                    continue
                if not _during(self._kills, line.at) and not self._of_server(line.server, line.at):
                    found.append(f"port {port}: {line}")
        return found

    def reasons(self, begin: float, minutes: int) -> dict[str, list[int]]:
        """Return how many connections have ended by each reason, in each of so many minutes from `begin`, and after."""
        found: dict[str, list[int]] = defaultdict(lambda: [0] * (minutes + 1))
        for line in itertools.chain(*self._lines.values()):
            minute = int(max(0.0, _apart(line.at, _of_day(begin))) / 60)
            found[line.reason][min(minute, minutes)] += 1
        return dict(sorted(found.items(), key=lambda item: -sum(item[1])))

    def _of_server(self, server: str, at: float) -> list[str]:
        """Return the faults of a server at a time; of any, if none was reached."""
        spans = self._faults.get(server)
        return _during(spans if spans is not None else [s for each in self._faults.values() for s in each], at)

    def _line(self, connection: dict[str, Any], at: float) -> Line | None:
        lived = connection["gone"] - connection["opened"]
        near = [line for line in self._lines[connection["port"]] if abs(_apart(line.at, at)) < _NEAR]
        return min(near, key=lambda line: abs(line.lived - lived), default=None)


def _of_day(at: float) -> float:
    then = time.localtime(at)
    return then.tm_hour * 3600 + then.tm_min * 60 + then.tm_sec + at % 1


def _apart(one: float, other: float) -> float:
    """Return how much later `one` is than `other`, both seconds of a day, over midnight too."""
    return (one - other + _DAY / 2) % _DAY - _DAY / 2


def _during(spans: Sequence[Span], at: float) -> list[str]:
    """Return what was going on at a time of the day, or just before."""
    return [what for what, begin, end in spans if -0.5 <= _apart(at, _of_day(begin)) <= end - begin + _AFTER]
