"""The clock, and the masters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from typing import TYPE_CHECKING, Final

from lbproxy.net.timers import NEVER, Timer

if TYPE_CHECKING:
    from bench.fleet.clients import Client


class Clock:
    """Virtual time. To the code of lbproxy it is the poller: `now`, and `at` for timers."""

    def __init__(self) -> None:
        self.now = 0.0
        self._due: list[tuple[float, int, Callable[[], object]]] = []
        self._numbers = count()

    def call(self, delay: float, do: Callable[[], object]) -> None:
        """Call `do` in so many seconds."""
        heappush(self._due, (self.now + max(0.0, delay), next(self._numbers), do))

    def at(self, timer: Timer, when: float) -> None:
        """Call `timer.due` at `when`, and then when it says."""

        def due() -> None:
            again = timer.due(self.now)
            if again != NEVER:
                self.at(timer, again)

        self.call(when - self.now, due)

    def run(self, until: float) -> None:
        """Let time pass."""
        due = self._due
        while due and due[0][0] <= until:
            self.now, _, do = heappop(due)
            do()
        self.now = until


NAMES_GONE: Final = "names gone"
"""Of no master: name servers answer nothing any more."""
UP: Final = "up"
REFUSING: Final = "refusing"
"""The process is gone, its kernel refuses."""
SILENT: Final = "silent"
"""The machine is gone."""
HUNG: Final = "hung"
"""The kernel accepts, the process does nothing."""
DRAINING: Final = "draining"
"""/readyz says [-]shutdown, all else works."""
SLOW: Final = "slow"
"""/readyz takes longer than any check waits, all else works."""


class Master:
    """An API server that can do `rate` handshakes a second; who comes faster waits his turn.

    What nobody waits for any more is done all the same: the server finds that out when it writes. With `one_queue`
    requests over connections that are there wait behind the handshakes, as where the processors are what is short.
    """

    def __init__(self, clock: Clock, name: str, rate: float, one_queue: bool = False) -> None:
        self.name = name
        self.state = UP
        self.clients: dict[Client, None] = {}
        """As they came: what follows from their order is the same in each run."""
        self.connects: Counter[int] = Counter()
        """By second: connections of clients, also those that nobody waited for in the end."""
        self.checks: Counter[int] = Counter()
        self.check_handshakes: Counter[int] = Counter()
        self._clock = clock
        self._rate = rate
        self._one_queue = one_queue
        self._free_at = 0.0

    def handshake(self, check: bool = False) -> float:
        """Take a connection in; returns the seconds until it has done TLS, NEVER if it never will."""
        now = self._clock.now
        (self.check_handshakes if check else self.connects)[int(now)] += 1
        if self.state == HUNG:
            return NEVER
        self._free_at = max(self._free_at, now) + 1 / self._rate
        return self._free_at - now

    def answer(self) -> float:
        """Return the seconds until it answers over a connection that is there, NEVER if it never will."""
        if self.state == HUNG:
            return NEVER
        return 0.001 + (max(0.0, self._free_at - self._clock.now) if self._one_queue else 0.0)

    def turn(self, state: str) -> None:
        """Be in another state; a process that goes takes its connections along."""
        self.state = state
        if state == REFUSING:
            for client in list(self.clients):
                client.broken()
        elif state in (SILENT, HUNG):
            for client in list(self.clients):
                client.unheard()
