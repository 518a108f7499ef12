"""How long something took, counted into buckets."""

from __future__ import annotations

from typing import Final, NamedTuple

CONNECT: Final[tuple[float, ...]] = tuple(0.00025 * 2**n for n in range(14))
"""Upper bounds in seconds: 0.25 ms, about what a connect takes within a rack, to 2 s; three are the usual deadline."""
FIRST_BYTE: Final[tuple[float, ...]] = tuple(0.001 * 2**n for n in range(14))
"""1 ms to 8.2 s, doubling, as k3s' dial histogram has them."""
LIFE: Final[tuple[float, ...]] = (0.1, 1.0, 10.0, 60.0, 300.0, 600.0, 1800.0, 3600.0, 14400.0, 86400.0)
"""A request's, a watch's (an API server ends it after 5 to 10 minutes), a day: the kubelet keeps its connection."""


class Histogram(NamedTuple):
    """Observations per bucket (not cumulative; the last entry counts those above all bounds) and their sum."""

    counts: tuple[int, ...]
    total_seconds: float


class Seconds:
    """Counts durations into the buckets below `bounds`."""

    __slots__ = ("_bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, seconds: float) -> None:
        """Count one."""
        at = 0
        for bound in self._bounds:
            if seconds <= bound:
                break
            at += 1
        counts = self.counts
        counts[at] = counts[at] + 1
        self.total += seconds

    def view(self) -> Histogram:
        """Return it frozen."""
        return Histogram(tuple(self.counts), self.total)
