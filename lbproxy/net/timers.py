"""Timers for many things that mostly never fire.

Each timer stands in at most one slot, the set of timers that are due in the same tick. So to put, move and drop one
costs a set operation, and a closed connection leaves nothing behind. Times within `_FAR` are kept to `TICK`; later
ones are rounded up to a whole second, so that thousands of idle timeouts share a few slots. A timer never comes before
the time it was first put at. Pure: the time comes in as an argument.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import Final

TICK: Final = 0.01
"""Seconds. Finer than any timeout that one would configure, coarse enough for a burst to share slots."""
_PER_SECOND: Final = 100
_FAR: Final = 10.0
"""Seconds. A connect deadline or the wait for a first byte must not be a second late; an idle timeout may."""

NEVER: Final = float("inf")


class Timer:
    """Something with a next time to be looked at."""

    __slots__ = ("slot",)

    def __init__(self) -> None:
        self.slot: Slot | None = None
        """Where it stands; the wheel's alone to change."""

    def due(self, now: float) -> float:
        """Called when its time has come, or an earlier one it stood at; returns when to be called next, or NEVER."""
        raise NotImplementedError


class Slot:
    """The timers that are due in one tick."""

    __slots__ = ("tick", "timers")

    def __init__(self, tick: int) -> None:
        self.tick = tick
        self.timers: set[Timer] = set()


class TimerWheel:
    """The slots by tick, and a heap of the ticks that have one."""

    def __init__(self) -> None:
        self._slots: dict[int, Slot] = {}
        self._ticks: list[int] = []

    def put(self, timer: Timer, when: float, now: float) -> None:
        """Have `timer` expire at `when` (seconds, by the clock that `now` is of), or earlier if it stands earlier.

        One that is called early says when to be called again. So a time that is put off again and again, as most are in
        the life of a connection, costs nothing.
        """
        tick = (int(when) + 1) * _PER_SECOND if when - now > _FAR else int(when * _PER_SECOND) + 1
        slot = timer.slot
        if slot is not None:
            if slot.tick <= tick:
                return
            slot.timers.discard(timer)
        slot = self._slots.get(tick)
        if slot is None:
            self._slots[tick] = slot = Slot(tick)
            heappush(self._ticks, tick)
        slot.timers.add(timer)
        timer.slot = slot

    def drop(self, timer: Timer) -> None:
        """Take `timer` out, wherever it stands."""
        slot = timer.slot
        if slot is not None:
            slot.timers.discard(timer)
            timer.slot = None

    def next(self) -> float:
        """Return the time of the earliest slot that holds anything, NEVER if none does."""
        while self._ticks:
            tick = self._ticks[0]
            if self._slots[tick].timers:
                return tick * TICK
            del self._slots[heappop(self._ticks)]
        return NEVER

    def expire(self, now: float) -> list[Timer]:
        """Take out and return the timers whose time has come."""
        expired: list[Timer] = []
        while self._ticks and self._ticks[0] * TICK <= now:
            for timer in self._slots.pop(heappop(self._ticks)).timers:
                timer.slot = None
                expired.append(timer)
        return expired
