"""Taking connections off a server: all at once, or spread over a few seconds.

An eviction whose reason has gone away by the time it is due does nothing. When it is due is up to who plans it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, Protocol

from lbproxy.net.bugs import for_each
from lbproxy.net.timers import NEVER, Timer

_STEP: Final = 0.1
"""Seconds between two shares of an eviction that is spread."""
_ASK_AGAIN: Final = 1.0
"""Seconds between two looks while it may not begin."""


class Cuttable(Protocol):
    """A session, as far as those need one who take it off its server."""

    def cut(self, reason: str) -> None:
        """Close both sides with a reset."""

    def crashed(self) -> None:
        """Let go of everything: a bug of ours was met."""


class Eviction(Timer):
    """A plan to cut what `victims` returns at that time, for `reason`, over `spread` seconds.

    It waits while `may` says no, and then for `grace` seconds more; it is dropped once `still` says no.
    """

    __slots__ = ("_ends", "_grace", "_held", "_may", "_reason", "_spread", "_still", "_total", "_victims")

    def __init__(
        self,
        reason: str,
        victims: Callable[[], Iterable[Cuttable]],
        still: Callable[[], bool],
        may: Callable[[], bool] = lambda: True,
        spread: float = 0.0,
        grace: float = 0.0,
    ) -> None:
        super().__init__()
        self._grace = grace
        self._held = False
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
            self._held = True
            return now + _ASK_AGAIN
        if self._held and self._grace:
            self._held = False
            return now + self._grace
        victims = list(self._victims())
        if self._ends == NEVER:
            self._ends = now + self._spread
            self._total = len(victims)
        left = self._ends - now
        # Counted from the whole, not from what is left: ten victims would otherwise all be gone in a second.
        stay = 0 if left < _STEP else int(self._total * (left - _STEP) / self._spread)
        share = max(0, len(victims) - stay)
        for_each(victims[:share], lambda victim: victim.cut(self._reason))
        return now + _STEP if share < len(victims) else NEVER
