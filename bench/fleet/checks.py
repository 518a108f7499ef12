"""The checks of a node by lbproxy's rules: its schedule and its judgement; what is written here is the probe."""

from __future__ import annotations

from functools import partial
from typing import Final

from bench.fleet.world import DRAINING, HUNG, REFUSING, SILENT, SLOW, Clock, Master
from lbproxy.balance.checked import CheckResult
from lbproxy.balance.server import Server
from lbproxy.checks.answer import NotAsked, judge, judge_failure
from lbproxy.checks.schedule import Schedule
from lbproxy.net.timers import NEVER
from lbproxy.proxy.backend import Backend

_SHUTDOWN: Final = b"[-]shutdown failed: reason withheld\nreadyz check failed\n"
_WAITED: Final = 10.0
"""Seconds for which a handshake of a check is gone on with (checks.probe)."""


class Checks:
    """The checks of one server by one node."""

    def __init__(self, clock: Clock, backend: Backend, server: Server, master: Master, node: str) -> None:
        health = backend.settings.health
        assert health is not None
        self._timeout = health.timeout
        self._clock = clock
        self._backend = backend
        self._server = server
        self._master = master
        self._schedule = Schedule(health.interval, f"{node} {server.label}")
        self._earliest = clock.now
        self._hurried = False
        self._fresh = False
        self._kept = False
        """Whether there is a connection from the last check."""
        self._begun_at = -NEVER
        self._done_at = 0.0
        self._number = 0
        self._asking = False
        self._plan(clock.now + self._schedule.first())

    def _plan(self, when: float) -> None:
        self._number += 1
        self._clock.call(when - self._clock.now, partial(self._ask, self._number))

    def hurry(self, fresh: bool) -> None:
        """Ask as soon as may be."""
        self._fresh = self._fresh or fresh
        if not self._hurried:
            self._hurried = True
            if not self._asking:
                self._plan(max(self._earliest, self._clock.now))

    def _ask(self, number: int) -> None:
        if number != self._number:
            return
        self._asking = True
        start = self._clock.now
        fresh = self._schedule.fresh() or self._fresh
        self._hurried = self._fresh = False
        took, result = self._answer(fresh, self._schedule.decides(self._server))
        self._clock.call(took, partial(self._observe, start, result))

    def _answer(self, fresh: bool, decides: bool) -> tuple[float, CheckResult]:
        """Return how many seconds the answer takes, and what it is."""
        master = self._master
        if master.state not in (REFUSING, SILENT):
            master.checks[int(self._clock.now)] += 1
        if master.state == REFUSING:
            self._kept, self._begun_at = False, -NEVER
            refused = ConnectionRefusedError(111, "Connection refused")
            return 0.0, _checked(judge_failure(refused, "connect", self._timeout))
        if master.state in (SILENT, HUNG):
            return self._late("connect" if master.state == SILENT else "TLS handshake")
        if self._kept:
            # The first half of the time is for the connection that is there; then a new one is made beside it.
            late = master.answer()
            if late > self._timeout / 2 and decides and master.handshake(check=True) > self._timeout / 2:
                return self._late("TLS handshake")
            if late > self._timeout:
                return self._late("HTTP", kept=True)
            if fresh and self._shake_hands() > self._timeout:
                return self._late("TLS handshake", alive=True)
        elif (late := self._shake_hands()) > self._timeout:
            return self._late("TLS handshake")
        if master.state == SLOW:
            return self._late("HTTP", alive=True)
        self._kept = True
        return late, judge(500, _SHUTDOWN) if master.state == DRAINING else judge(200, b"ok")

    def _shake_hands(self) -> float:
        """Return the seconds that a handshake takes from now on, be it one that an earlier question has begun."""
        now = self._clock.now
        if now - self._begun_at > _WAITED:
            self._begun_at = now
            self._done_at = now + self._master.handshake(check=True)
        late = max(0.0, self._done_at - now)
        if late <= self._timeout:
            self._begun_at = -NEVER
        return late

    def _late(self, stage: str, *, alive: bool = False, kept: bool = False) -> tuple[float, CheckResult]:
        self._kept = self._kept and (alive or kept)
        return self._timeout, _checked(judge_failure(TimeoutError(), stage, self._timeout, alive=alive))

    def _observe(self, start: float, result: CheckResult) -> None:
        self._asking = False
        self._backend.observe(self._server, result, self._clock.now, self._clock.now - start)
        self._earliest = start + self._schedule.least
        due = start + self._schedule.next(self._schedule.pace(self._server))
        self._plan(max(self._earliest if self._hurried else due, self._clock.now))


def _checked(result: CheckResult | NotAsked) -> CheckResult:
    assert isinstance(result, CheckResult)
    return result
