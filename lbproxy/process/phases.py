"""The daemon's life: its phases, what may happen in each, and who waits for his turn.

Three kinds of things happen to a daemon: it is told to stop, by a signal and at any time; it is asked for a reload or
an upgrade, which take a while and of which one at a time can be under way; and what it has begun ends.

    STARTING      names are looked up, ports bound, connections of a predecessor taken over
    SERVING       clients are served and nothing else is under way
    RELOADING     clients are served, and another configuration is gone over to
    HANDING_OVER  clients are served but for a moment, and another process gets ready to take over
    STOPPING      told to stop: connections have time to end
    CUTTING       told again: they have not
    GONE          the connections are over or another process's; this one has only to end

`TABLE` says what each event leads to. A reload or an upgrade that cannot be yet waits (WAIT) until it can, or until it
never will: then it is refused, with the words that stand in the table. A stop never waits, and does not end what is
under way: whoever stops the daemon waits for that (`Life.idle`), and an upgrade looks out for the stop (`Life.until`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from enum import Enum
from typing import Final

from lbproxy.errors import LbproxyError


class Phase(Enum):
    """Where the daemon is in its life."""

    STARTING = "starting"
    SERVING = "serving"
    RELOADING = "reloading"
    HANDING_OVER = "handing over"
    STOPPING = "stopping"
    CUTTING = "cutting"
    GONE = "gone"


class Event(Enum):
    """What happens to it."""

    STARTED = "it serves"
    RELOAD = "a reload is asked for"
    UPGRADE = "an upgrade is asked for"
    DONE = "a reload or an upgrade has ended, well or not"
    HANDED = "another process has taken over"
    STOP = "a signal has told it to stop"
    OVER = "it could not start, or its connections are over"


WAIT: Final = None
ENDING: Final = frozenset({Phase.STOPPING, Phase.CUTTING, Phase.GONE})

_STOPS = "the daemon is stopping"
_BUSY = "another upgrade or a stop is under way"
_LEFT = "another process has taken over meanwhile: ask again"

TABLE: Final[Mapping[Event, Mapping[Phase, Phase | str | None]]] = {
    Event.STARTED: {
        Phase.STARTING: Phase.SERVING,
        Phase.STOPPING: Phase.STOPPING,
        Phase.CUTTING: Phase.CUTTING,
    },
    Event.RELOAD: {
        Phase.STARTING: WAIT,
        Phase.SERVING: Phase.RELOADING,
        Phase.RELOADING: WAIT,
        Phase.HANDING_OVER: WAIT,
        Phase.STOPPING: _STOPS,
        Phase.CUTTING: _STOPS,
        Phase.GONE: _LEFT,
    },
    Event.UPGRADE: {
        Phase.STARTING: WAIT,
        Phase.SERVING: Phase.HANDING_OVER,
        Phase.RELOADING: WAIT,
        Phase.HANDING_OVER: _BUSY,
        Phase.STOPPING: _BUSY,
        Phase.CUTTING: _BUSY,
        Phase.GONE: _LEFT,
    },
    Event.DONE: {
        Phase.RELOADING: Phase.SERVING,
        Phase.HANDING_OVER: Phase.SERVING,
        Phase.STOPPING: Phase.STOPPING,
        Phase.CUTTING: Phase.CUTTING,
        Phase.GONE: Phase.GONE,
    },
    Event.HANDED: {
        Phase.HANDING_OVER: Phase.GONE,
    },
    Event.STOP: {
        Phase.STARTING: Phase.STOPPING,
        Phase.SERVING: Phase.STOPPING,
        Phase.RELOADING: Phase.STOPPING,
        Phase.HANDING_OVER: Phase.STOPPING,
        Phase.STOPPING: Phase.CUTTING,
        Phase.CUTTING: Phase.CUTTING,
        Phase.GONE: Phase.GONE,
    },
    Event.OVER: {
        Phase.STARTING: Phase.GONE,
        Phase.STOPPING: Phase.GONE,
        Phase.CUTTING: Phase.GONE,
    },
}
"""What is not in it does not happen."""


class OutOfTurnError(LbproxyError):
    """What was asked for will not be done any more; says why."""


class Life:
    """The phase that the daemon is in, and those who wait for another one."""

    def __init__(self) -> None:
        self.phase = Phase.STARTING
        self._turns = 0  # those that are had or waited for
        self._changed = asyncio.Event()
        self._limits: list[tuple[Phase, asyncio.Timeout]] = []

    def hear(self, event: Event) -> None:
        """Go where `event` leads, which is neither to be waited for nor refused."""
        then = TABLE[event][self.phase]
        if not isinstance(then, Phase):
            raise OutOfTurnError(f"bug: {event.value}, while {self.phase.value}")
        if then is not self.phase:
            self.phase = then
            for phase, limit in self._limits:
                if phase is then:
                    limit.reschedule(0)
            self._wake()

    @asynccontextmanager
    async def turn(self, event: Event) -> AsyncIterator[None]:
        """Do what is asked for in the body, once it can be done. Raises OutOfTurnError when it never can."""
        self._turns += 1
        try:
            while (then := TABLE[event][self.phase]) is WAIT:
                await self._changed.wait()
            if isinstance(then, str):
                raise OutOfTurnError(then)
            self.hear(event)
            try:
                yield
            finally:
                self.hear(Event.DONE)
        finally:
            self._turns -= 1
            self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def idle(self) -> None:
        """Wait until nobody has a turn or waits for one."""
        while self._turns:
            await self._changed.wait()

    async def ending(self) -> None:
        """Wait until the daemon is to end, or has gone."""
        while self.phase not in ENDING:
            await self._changed.wait()

    @asynccontextmanager
    async def until(self, phase: Phase) -> AsyncIterator[None]:
        """Break the body off as soon as `phase` comes, with a TimeoutError that the caller sees."""
        async with asyncio.timeout(None) as limit:
            self._limits.append((phase, limit))
            try:
                if self.phase is phase:
                    limit.reschedule(0)
                yield
            finally:
                self._limits.remove((phase, limit))
