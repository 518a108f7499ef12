"""What the workers keep for whoever comes next, in the supervisor's hands: a set each, see `handover.sets`.

When a worker dies, the next one gets its connections from here; when the supervisor dies too, systemd has all of it.
Without systemd the supervisor's hands are enough for the death of a worker.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable

from lbproxy.handover.keeper import FdStore
from lbproxy.handover.sets import Content, name_of, parse, unload
from lbproxy.workers.wire import FROZEN


class Holding:
    """One set: what a worker has had kept, and what it has last been frozen with."""

    def __init__(self, number: int, store: FdStore | None) -> None:
        self._number = number
        self._store = store
        self._parts: dict[str, int] = {}
        self.frozen = -1
        """The queue with all connections of a worker that stands still; whoever takes it owns it."""
        self.stands_still = asyncio.Event()
        """Set when there is one."""

    def part(self, keep: bool, name: str, fds: list[int]) -> None:
        """Keep a part, or forget it, as a worker says."""
        for extra in fds[1:]:
            os.close(extra)
        if keep and fds and name == FROZEN:
            self.drop_frozen()
            self.frozen = fds[0]
            self.stands_still.set()
        elif keep and fds:
            self._close(name)
            self._parts[name] = fds[0]
            if self._store is not None:
                self._store.store(name_of(self._number, name), fds[:1])
        elif name in self._parts:
            self._close(name)
            if self._store is not None:
                self._store.forget(name_of(self._number, name))

    def names(self) -> list[str]:
        """Return what systemd knows its parts by."""
        return [name_of(self._number, part) for part in self._parts]

    def content(self) -> Content:
        """Return what can go on of a worker that is no more."""
        return unload(self._parts)

    def forget(self) -> None:
        """Keep nothing of it any longer: somebody else has all."""
        self.drop_frozen()
        for name in list(self._parts):
            self.part(False, name, [])

    def drop_frozen(self) -> None:
        """Close the queue of a standstill that nobody has asked for any more."""
        if self.frozen >= 0:
            os.close(self.frozen)
            self.frozen = -1
        self.stands_still.clear()

    def _close(self, name: str) -> None:
        fd = self._parts.pop(name, -1)
        if fd >= 0:
            os.close(fd)


class Estate:
    """Makes sets."""

    def __init__(self, store: FdStore | None) -> None:
        self._store = store
        self._last = 0

    def after(self, names: Iterable[str]) -> None:
        """Give new sets higher numbers than those have that a predecessor has left, by the names of their parts."""
        self._last = max((part[0] for name in names if (part := parse(name)) is not None), default=self._last)

    def holding(self) -> Holding:
        """Return a new set."""
        self._last += 1
        return Holding(self._last, self._store)
