"""When to ask a server how it is: at jittered intervals, and sooner when something seems to be happening.

Each server has a checker and a task of its own, so that a question that hangs delays no other.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from itertools import count
from typing import Final

from lbproxy.balance.checked import CheckResult
from lbproxy.balance.server import Endpoint
from lbproxy.checks.answer import NotAsked
from lbproxy.checks.probe import Probe
from lbproxy.config.model import HealthConfig
from lbproxy.warnonce import WarnOnce

log = logging.getLogger(__name__)

_HURRY: Final = 1.0
"""Seconds between two checks at least."""
_JITTER: Final = 0.1
"""Share of the interval, either way: a thousand nodes must not ask at the same moment. Not more, because a server that
has gone silent is to be known within 10 s: an interval and two timeouts, by default 5.5 s and 4."""
_FRESH_EVERY: Final = 6
"""Every so many checks a new connection: a kept one still works when the port is closed to everybody else."""


def hurried(interval: float) -> float:
    """Return the seconds from the start of a check to that of the next at least, and when there is reason to hurry."""
    return min(_HURRY, interval)


def jittered(interval: float, rng: random.Random) -> float:
    """Return the seconds from the start of a check to that of the next when there is none."""
    return interval * rng.uniform(1 - _JITTER, 1 + _JITTER)


class Checker:
    """Knows when to ask one server, for as long as `run` runs; what is asked is the probe's to know.

    `endpoint` is where it is asked. `observe` is called with each result and how many seconds it took, and returns
    whether the server is between two states, so that the next check should come soon.
    """

    def __init__(
        self,
        health: HealthConfig,
        probe: Probe,
        endpoint: Endpoint,
        observe: Callable[[CheckResult, float], bool],
    ) -> None:
        self._interval = health.interval
        self._probe = probe
        self._endpoint = endpoint
        self._observe = observe
        self._hurried = asyncio.Event()
        self._warning = WarnOnce()
        self._rng = random.Random()  # noqa: S311  # jitter, nothing secret

    def hurry(self) -> None:
        """Ask as soon as may be, over a new connection: traffic has just failed."""
        self._hurried.set()

    async def run(self) -> None:
        """Ask for ever."""
        loop = asyncio.get_running_loop()
        earliest = loop.time()
        due = earliest + self._rng.uniform(0, hurried(self._interval))
        unsettled = False
        try:
            for number in count():
                await self._sleep(earliest, due)
                fresh = unsettled or self._hurried.is_set() or number % _FRESH_EVERY == 0
                self._hurried.clear()
                start = loop.time()
                result = await self._ask(fresh)
                if result is not None:
                    unsettled = self._observe(result, loop.time() - start)
                earliest = start + hurried(self._interval)
                due = earliest if unsettled else start + jittered(self._interval, self._rng)
        finally:
            self._probe.close()

    async def _sleep(self, earliest: float, due: float) -> None:
        """Sleep until `due`, or, once hurried, until `earliest`."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout_at(due):
                await self._hurried.wait()
        except TimeoutError:
            return
        await asyncio.sleep(earliest - loop.time())

    async def _ask(self, fresh: bool) -> CheckResult | None:
        """Return the result, None if it could not be asked."""
        answer = await self._probe.ask(self._endpoint, fresh)
        if not isinstance(answer, NotAsked):
            self._warning.over()
            return answer
        if self._warning.news(answer.reason):
            log.warning("%s cannot be checked, what was known of it stands: %s", self._probe.host, answer.reason)
        return None
