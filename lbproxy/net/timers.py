"""Timers for many things that mostly never fire.

Each item stands in at most one slot. A slot is a set of items that are due in the same tick, so to put, move and
drop an item costs a set operation, and a closed connection leaves nothing behind. Times within `_FAR` are kept to
`TICK`; later ones are rounded up to a whole second, so that thousands of idle timeouts share a few slots. An item never
comes before the time it was first put at. Pure: the time comes in as an argument.
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
        self.slot = 0
        """The tick it is filed under, 0 for none; the wheel's alone to change."""

    def due(self, now: float) -> float:
        """Do what is due at `now`; returns when to be called next, NEVER for not again."""
        raise NotImplementedError


class TimerWheel:
    """The slots, and a heap of the ticks that have one."""

    def __init__(self) -> None:
        self._slots: dict[int, set[Timer]] = {}
        self._ticks: list[int] = []

    def put(self, item: Timer, when: float, now: float) -> None:
        """Have `item` expire at `when` (seconds, any clock that `now` is of), or earlier if that is where it stands.

        Whoever is called early says when to come again. So a time that is put off and off again, as nearly every one
        is in the life of a connection, costs nothing.
        """
        tick = (int(when) + 1) * _PER_SECOND if when - now > _FAR else int(when * _PER_SECOND) + 1
        if item.slot:
            if item.slot <= tick:
                return
            self.drop(item)
        item.slot = tick
        slot = self._slots.get(tick)
        if slot is None:
            self._slots[tick] = {item}
            heappush(self._ticks, tick)
        else:
            slot.add(item)

    def drop(self, item: Timer) -> None:
        """Take `item` out, wherever it stands."""
        if item.slot:
            slot = self._slots.get(item.slot)
            if slot is not None:
                slot.discard(item)
            item.slot = 0

    def next(self) -> float:
        """Return the time of the earliest slot that holds anything, NEVER if none does."""
        while self._ticks:
            tick = self._ticks[0]
            if self._slots[tick]:
                return tick * TICK
            del self._slots[heappop(self._ticks)]
        return NEVER

    def expire(self, now: float) -> list[Timer]:
        """Take out and return every item whose time has come."""
        expired: list[Timer] = []
        last = int(now * _PER_SECOND)
        while self._ticks and self._ticks[0] <= last:
            for item in self._slots.pop(heappop(self._ticks)):
                item.slot = 0
                expired.append(item)
        return expired
