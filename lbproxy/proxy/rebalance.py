"""Evening out: when a server comes back it has no connections and the others have all of them, for weeks.

Only the surplus is ever closed, what a server has beyond what least connections would give it if all came now, and
only connections on which nothing has moved for `quiet` seconds; their clients come back elsewhere. Servers that are
not up, backups and those within slow_start neither give nor take, and with fewer than two left nothing is done.

What is even on a node need not be so over many. A node with two connections and three masters is always even, and after
an outage of each master in turn all nodes have theirs on the same two. So for HOME seconds after a server has come back
that had lost all it had (or has come to be, for one that is found) a connection too many is even only where this node
would have put it if all came now: on the first in its order, in which every node has another one first.

Connections come and go, and short ones make a server uneven for as long as they live. So a surplus counts only once it
has been there for LASTING seconds, and of it the least that any look has seen in that time.

A round closes one connection (several, when `per_minute` asks for more than one a second), and the next one waits for
the time that its share of a minute takes and up to half as long again. The first round after a change waits a random
part of that, so that a thousand nodes which see the same server come back do not all begin at once.
"""

from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from heapq import heapify, heappop, heapreplace
from itertools import islice
from typing import Final, NamedTuple

from lbproxy.balance.rotation import pass_over
from lbproxy.balance.server import Server
from lbproxy.net.bugs import for_each
from lbproxy.net.timers import NEVER, Timer
from lbproxy.proxy.backend import Backend
from lbproxy.proxy.evict import Cuttable
from lbproxy.proxy.sessions import REBALANCED

log = logging.getLogger(__name__)

_LOOK: Final = 5.0
"""Seconds between two looks while there is nothing to do."""
_LEAST: Final = 1.0
"""Seconds between two rounds at least, and between two looks while there is a surplus."""
LASTING: Final = 10.0
"""Seconds that a surplus must last: longer than a request, and little beside the minute between two rounds."""
_AGAIN: Final = 3.0
"""Seconds between two rounds of which the first has found nobody quiet: a kubelet is, for some seconds out of ten."""
_JITTER: Final = 0.5
HOME: Final = 900.0
"""Seconds from the return of a server during which even is what the node's order says. After that nothing is moved for
its sake: connections that come and go by themselves make no two nodes alike."""


class Load(NamedTuple):
    """What one server carries, and the most that it may (0 = any number)."""

    connections: int
    weight: int = 1
    limit: int = 0


def surplus(loads: Sequence[Load], *, home: bool = False) -> list[int]:
    """Return how many connections each server has beyond its even share.

    The even share is what least connections would make of all of them. Among equals it goes to who has it already, so
    that nothing is closed only to come back where it was; or, to be at `home`, to whoever stands first.
    """
    none = [0] * len(loads)
    if len(loads) < 2:
        return none
    total = sum([load.connections for load in loads])
    weights = sum([load.weight for load in loads])
    even = []
    for load in loads:
        # Nobody gets less than that of so many (each has his part of a connection more or less, rounded up).
        sure = max(0, total - len(loads)) * load.weight // weights
        even.append(min(sure, load.limit) if load.limit else sure)
    queue = [
        (even[at] / load.weight, 0 if home else even[at] - load.connections, at)
        for at, load in enumerate(loads)
        if not load.limit or even[at] < load.limit
    ]
    heapify(queue)
    for _ in range(total - sum(even)):
        if not queue:
            return none  # all are full: what is closed could not come back
        at = queue[0][2]
        load = loads[at]
        even[at] += 1
        if even[at] == load.limit:
            heappop(queue)
        else:
            heapreplace(queue, (even[at] / load.weight, 0 if home else even[at] - load.connections, at))
    return [max(0, load.connections - share) for load, share in zip(loads, even, strict=True)]


def pace(per_minute: int) -> tuple[float, int]:
    """Return the least seconds between two rounds, and how many connections one of them may close."""
    period = max(_LEAST, 60 / per_minute)
    return period, max(1, int(per_minute * period / 60))


def sum_up(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Return the sum, by name, of what several proxies or processes have closed."""
    total: Counter[str] = Counter()
    for each in counts:
        total.update(each)
    return dict(total)


class Rebalancer(Timer):
    """Looks after one proxy's evenness: in the wheel by itself, or once when told to.

    `quiet` returns the sessions of a server on which nothing has moved for so many seconds; no more of them are
    looked at than are wanted. `serving` says whether clients that are cut could come back.
    """

    __slots__ = (
        "_at_home_until",
        "_backend",
        "_emptied",
        "_next_round",
        "_processes",
        "_quiet",
        "_rng",
        "_serving",
        "_surplus",
    )

    def __init__(
        self,
        backend: Backend,
        quiet: Callable[[Server, float], Iterable[Cuttable]],
        serving: Callable[[], bool],
        rng: random.Random | None = None,
        processes: int = 1,
    ) -> None:
        """`processes` look after the same servers, each in its share of the time."""
        super().__init__()
        self._backend = backend
        self._quiet = quiet
        self._serving = serving
        self._processes = processes
        self._rng = rng or random.Random()  # noqa: S311  # jitter, nothing secret
        self._surplus: dict[Server, int] = {}  # the least seen since there is one
        self._next_round = 0.0
        self._emptied: set[Server] = set()
        self._at_home_until = 0.0

    def due(self, now: float) -> float:
        """Close what a round may close; returns when to be called again."""
        per_minute = self._backend.settings.rebalance.per_minute
        if not per_minute or not self._serving():
            return NEVER
        period, most = pace(per_minute)
        period *= self._processes
        self._see_returns(now)
        self._look(now, period)
        if not self._surplus:
            return now + _LOOK
        if now >= self._next_round:
            largest_first = sorted(self._surplus.items(), key=lambda pair: -pair[1])
            closed = self._close(list(islice(self._choose(largest_first), most)))
            self._next_round = now + (period * self._rng.uniform(1, 1 + _JITTER) if closed else _AGAIN)
        return now + _LEAST

    def _look(self, now: float, period: float) -> None:
        """Take what is surplus now into what has been since the first look that found any."""
        found = dict(surplus_of(self._backend, now, home=now < self._at_home_until))
        if self._surplus:
            self._surplus = {server: min(count, found[server])
                             for server, count in self._surplus.items() if server in found}  # fmt: skip
        elif found:
            self._surplus = found
            self._next_round = max(self._next_round, now + LASTING + period * self._rng.random())

    def _see_returns(self, now: float) -> None:
        """Notice who has come back from an outage in which he had lost all connections, and may take some again."""
        for server in self._backend.pool.servers:
            if not server.usable():
                if not server.carried():
                    self._emptied.add(server)
            elif server in self._emptied and _admitted(self._backend, server, now):
                self._emptied.discard(server)
                self._at_home_until = now + HOME
        if self._emptied:
            self._emptied.intersection_update(self._backend.pool.servers)

    def once(self, now: float, *, dry_run: bool = False, beyond: Mapping[str, int] | None = None) -> dict[str, int]:
        """Close at once the surplus that there is and may be closed; returns how many, by server name.

        With `dry_run` nothing is closed. `beyond` is the surplus by server name, where somebody else has counted it.
        """
        found: Iterable[tuple[Server, int]]
        if beyond is None:
            found = surplus_of(self._backend, now, home=now < self._at_home_until)
        else:
            found = [(server, beyond.get(server.name, 0)) for server in self._backend.pool.servers]
        victims = list(self._choose(found))
        return _by_name(victims) if dry_run else self._close(victims)

    def _choose(self, found: Iterable[tuple[Server, int]]) -> Iterator[tuple[Server, Cuttable]]:
        for server, count in found:
            for victim in islice(self._quiet(server, self._backend.settings.rebalance.quiet), count):
                yield server, victim

    def _close(self, victims: Sequence[tuple[Server, Cuttable]]) -> dict[str, int]:
        """Close them; returns how many, by server name."""
        for server, _ in victims:
            pass_over(server, self._backend.pool.servers)
        for_each((victim for _, victim in victims), lambda victim: victim.cut(REBALANCED))
        counts = _by_name(victims)
        for name, count in counts.items():
            log.info("%s: closed %d surplus connections to %s", self._backend.name, count, name)
        return counts


def _by_name(victims: Iterable[tuple[Server, Cuttable]]) -> dict[str, int]:
    return dict(Counter(server.name for server, _ in victims))


def _admitted(backend: Backend, server: Server, now: float) -> bool:
    """Whether its slow_start is over."""
    return now - server.recovered_at >= backend.settings.slow_start


def surplus_of(backend: Backend, now: float, *, home: bool = False) -> list[tuple[Server, int]]:
    """Return the servers of a proxy that have more than their share, and how many more, the largest first."""
    servers = [
        server for server in backend.pool.ring
        if server.usable() and not server.backup and _admitted(backend, server, now)
    ]  # fmt: skip
    loads = [Load(server.carried(), server.weight, server.limit()) for server in servers]
    extra = surplus(loads, home=home)
    found = [(server, count) for server, count in zip(servers, extra, strict=True) if count]
    return sorted(found, key=lambda pair: -pair[1])
