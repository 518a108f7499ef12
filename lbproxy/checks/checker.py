"""Asks a server how it is, at the times of its schedule, and sooner when something seems to be happening.

Each server has a checker and a task of its own, so that a question that hangs delays no other.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from lbproxy.balance.checked import CheckResult
from lbproxy.balance.server import Endpoint
from lbproxy.checks.answer import NotAsked
from lbproxy.checks.probe import Probe
from lbproxy.checks.schedule import DOUBTED, Schedule
from lbproxy.warnonce import WarnOnce

log = logging.getLogger(__name__)


class Checker:
    """Knows when to ask one server, for as long as `run` runs; what is asked is the probe's to know.

    `endpoint` is where it is asked. `observe` is called with each result and how many seconds it took, and returns at
    which pace of `schedule` the next check should come. `decides` says whether the next one may change the state.
    """

    def __init__(
        self,
        schedule: Schedule,
        probe: Probe,
        endpoint: Endpoint,
        observe: Callable[[CheckResult, float], int],
        decides: Callable[[], bool] = lambda: True,
    ) -> None:
        self._schedule = schedule
        self._probe = probe
        self._endpoint = endpoint
        self._observe = observe
        self._decides = decides
        self._fresh = False
        self._hurried = asyncio.Event()
        self._warning = WarnOnce()

    def hurry(self, fresh: bool = True) -> None:
        """Ask as soon as may be; over a new connection, if it is a `fresh` one that has just failed."""
        self._fresh = self._fresh or fresh
        self._hurried.set()

    async def run(self) -> None:
        """Ask for ever."""
        loop = asyncio.get_running_loop()
        schedule = self._schedule
        earliest = loop.time()
        due = earliest + schedule.first()
        pace = DOUBTED
        try:
            while True:
                await self._sleep(earliest, due)
                fresh = schedule.fresh() or self._fresh
                self._fresh = False
                self._hurried.clear()
                start = loop.time()
                result = await self._ask(fresh)
                if result is not None:
                    pace = self._observe(result, loop.time() - start)
                earliest = start + schedule.least
                due = start + schedule.next(pace)
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
        answer = await self._probe.ask(self._endpoint, fresh, self._decides())
        if not isinstance(answer, NotAsked):
            self._warning.over()
            return answer
        if self._warning.news(answer.reason):
            log.warning("%s cannot be checked, what was known of it stands: %s", self._probe.host, answer.reason)
        return None
