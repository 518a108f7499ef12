"""How long something took, counted into buckets."""

from __future__ import annotations

from typing import Final, NamedTuple

BUCKETS: Final[tuple[float, ...]] = tuple(0.001 * 2**n for n in range(14))
"""Upper bounds in seconds: 1 ms to 8.2 s, doubling, as k3s' dial histogram has them."""
_BOUNDS: Final = BUCKETS


class Histogram(NamedTuple):
    """Observations per bucket of `BUCKETS` (not cumulative; the last entry counts those above all) and their sum."""

    counts: tuple[int, ...]
    total_seconds: float


class Seconds:
    """Counts durations into the buckets of a histogram."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS) + 1)
        self.total = 0.0

    def add(self, seconds: float) -> None:
        """Count one."""
        at = 0
        for bound in _BOUNDS:
            if seconds <= bound:
                break
            at += 1
        counts = self.counts
        counts[at] = counts[at] + 1
        self.total += seconds

    def view(self) -> Histogram:
        """Return it frozen."""
        return Histogram(tuple(self.counts), self.total)
