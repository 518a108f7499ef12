"""Taking connections off a server: all at once, or after a while and spread over a few seconds.

    down       at once, with a reset: nothing will ever come from there, and the client should reconnect now
    sick       after GRACE, only while another server is up, spread over SPREAD: it still answers, and may recover
    draining   when drain_timeout is over: until then the server or the clients end them themselves
    removed    likewise

An eviction whose reason has gone away by the time it is due does nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, Protocol

from lbproxy.net.timers import NEVER, Timer

GRACE: Final = 15.0
"""Seconds a server may be sick before its connections are moved off: a restarting etcd member is back by then, and
the 40 s after which a silent node is NotReady are not over."""
SPREAD: Final = 3.0
_STEP: Final = 0.1


class Cuttable(Protocol):
    """A session, as far as an eviction needs one."""

    def cut(self, reason: str) -> None:
        """Close both sides with a reset."""


class Eviction(Timer):
    """A plan to cut what `victims` returns at that time, for `reason`, over `spread` seconds.

    It waits while `may` says no, and is dropped once `still` says no.
    """

    __slots__ = ("_ends", "_may", "_reason", "_spread", "_still", "_total", "_victims")

    def __init__(
        self,
        reason: str,
        victims: Callable[[], Iterable[Cuttable]],
        still: Callable[[], bool],
        may: Callable[[], bool] = lambda: True,
        spread: float = 0.0,
    ) -> None:
        super().__init__()
        self._reason = reason
        self._victims = victims
        self._still = still
        self._may = may
        self._spread = spread
        self._ends = NEVER
        self._total = 0

    def due(self, now: float) -> float:
        """Cut a share; returns when to be called for the next one."""
        if not self._still():
            return NEVER
        if not self._may():
            self._ends = NEVER
            return now + 1.0
        victims = list(self._victims())
        if self._ends == NEVER:
            self._ends = now + self._spread
            self._total = len(victims)
        left = self._ends - now
        # Counted from the whole, not from what is left: ten victims would otherwise all be gone in a second.
        stay = 0 if left < _STEP else int(self._total * (left - _STEP) / self._spread)
        share = max(0, len(victims) - stay)
        for victim in victims[:share]:
            victim.cut(self._reason)
        return now + _STEP if share < len(victims) else NEVER
