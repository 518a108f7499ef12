"""When a server is asked, so that a thousand nodes ask it evenly: pure, and the same for a node and a server each time.

    DOUBTED   none has answered yet, or the last ones say that it is worse: every second, over a new connection
    USUAL     every interval, give or take a tenth
    IDLE      up, and this node has no connection there and had none since: every second interval (with several
              workers, who checks knows of what they have open, and not of what has come and gone)
    PATIENT   late, as all others are: twice as long after each time, up to four intervals, and any length up to that.
              What makes all of them late are too many that ask

Nodes come to ask at the same moment: they boot together, or have all just met the same failure. So the first interval
after doubt has any length from a second to a whole one, and from then on they are spread as evenly as chance does it.
The same goes for the new connections, of which each costs the server a handshake.
"""

from __future__ import annotations

from random import Random
from typing import Final

from lbproxy.balance.server import Server
from lbproxy.balance.state import State

DOUBTED: Final = 0
USUAL: Final = 1
IDLE: Final = 2
PATIENT: Final = 3

_HURRY: Final = 1.0
"""Seconds between two checks at least."""
_JITTER: Final = 0.1
"""Share of the interval, either way. Not more, because a server that has gone silent is to be known within 10 s: an
interval and two timeouts, by default 5.5 s and 4."""
_PATIENCE: Final = 4
"""Intervals between two checks at most while all servers are late. 10,000 nodes are 500 handshakes a second then."""
_FRESH_EVERY: Final = 12
"""Every so many checks a new connection: a kept one still works when the port is closed to everybody else. Of 5,000
nodes that is 83 handshakes a second for each master; clients that cannot connect bring one about at once."""


class Schedule:
    """When to ask one server every `interval` seconds; `seed` tells this node and server from all others."""

    def __init__(self, interval: float, seed: str) -> None:
        self._rng = Random(seed)  # noqa: S311 (spreads load, guards nothing)
        self._interval = interval
        self.least = min(_HURRY, interval)
        """Seconds from the start of a check to that of the next, at least."""
        self._pace = DOUBTED
        self._patience = 1
        self._kept = 0
        self._had = 0  # connections, until the last check

    def pace(self, server: Server) -> int:
        """Return at which pace `server` is to be asked as things stand, now that it has answered."""
        had, self._had = self._had, server.counts.connections_total
        if server.like_all:
            return PATIENT
        if server.health.checked.unsettled:
            return DOUBTED
        busy = server.carried() or self._had != had
        return IDLE if server.health.state is State.UP and not busy else USUAL

    def decides(self, server: Server) -> bool:
        """Return whether the next check may be the one that makes the server worse: it is to find out how much."""
        checked = server.health.checked
        return not server.like_all and (checked.unsettled or checked.fall == 1 or checked.state is not State.UP)

    def first(self) -> float:
        """Return the seconds until the first check."""
        return self._rng.uniform(0, self.least)

    def next(self, pace: int) -> float:
        """Return the seconds from the start of a check to that of the next."""
        before, self._pace = self._pace, pace
        patience, self._patience = self._patience, min(2 * self._patience, _PATIENCE) if pace == PATIENT else 1
        if pace == DOUBTED:
            return self.least
        if pace == PATIENT:
            return self._interval * self._rng.uniform(patience / 2, patience)
        if before == DOUBTED:
            self._kept = self._rng.randrange(_FRESH_EVERY)
            return self._rng.uniform(self.least, self._interval * (1 + _JITTER))
        return self._interval * self._rng.uniform(1 - _JITTER, 1 + _JITTER) * (2 if pace == IDLE else 1)

    def fresh(self) -> bool:
        """Return whether the check that is due takes a new connection."""
        self._kept += 1
        if self._pace != DOUBTED and self._kept < _FRESH_EVERY:
            return False
        self._kept = 0
        return True
