"""The connections of all workers, on their way to another process: see `handover.handing`."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from functools import partial
from socket import SocketType
from typing import Final

from lbproxy.config.model import Address
from lbproxy.errors import HandoverError, LbproxyError
from lbproxy.handover.fdqueue import receive
from lbproxy.handover.keeper import FdStore
from lbproxy.handover.parcel import Parcel, ProcessState
from lbproxy.handover.revive import close
from lbproxy.tasks import Tasks
from lbproxy.threads import in_thread
from lbproxy.workers.crew import Crew
from lbproxy.workers.member import Member

log = logging.getLogger(__name__)

_LEAVE: Final = 5.0
"""Seconds that a worker has to leave everything; what it has kept before counts otherwise."""


class CrewHanding:
    """Hands over what the workers have. `store` keeps it for a successor, None if nobody does."""

    marks = None

    def __init__(
        self,
        crew: Crew,
        listeners: dict[Address, SocketType],
        drained: Callable[[], list[str]],
        store: FdStore | None,
    ) -> None:
        self._crew = crew
        self._listeners = listeners
        self._drained = drained
        self._store = store
        self._parcels: list[Parcel] = []
        self._tasks = Tasks()
        self._holds = False

    def listeners(self) -> dict[Address, SocketType]:
        """See `Handing`."""
        return dict(self._listeners)

    def state(self) -> ProcessState:
        """See `Handing`."""
        names = [name for member in self._crew.members for name in self._crew.holding(member).names()]
        return {"drained": self._drained(), "carrier": 0, "sets": names}

    async def freeze(self) -> list[Parcel]:
        """See `Handing`."""
        if late := self._crew.late():
            raise HandoverError(f"worker {late[0]} does not answer")
        await self._crew.steady.acquire()
        self._holds = True
        for member in self._crew.members:
            if member.ended.is_set():
                raise HandoverError(f"worker {member.row + 1} is being replaced")
        # All of them to their end, so that nothing comes in of one after another has failed
        for outcome in await asyncio.gather(*map(self._freeze, self._crew.members), return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome
        return self._parcels

    async def _freeze(self, member: Member) -> None:
        holding = self._crew.holding(member)
        holding.drop_frozen()
        asking = self._tasks.spawn(member.outcome("freeze"), "freeze")
        asking.add_done_callback(lambda task: holding.stands_still.set())
        await holding.stands_still.wait()
        if holding.frozen >= 0:
            fd, holding.frozen = holding.frozen, -1
            with socket.socket(fileno=fd) as queue:
                found, _, wrong = await in_thread(partial(receive, queue, until_closed=True), "collect")
            for parcel in found:
                parcel.slot = parcel.serial = 0
            self._parcels += found
            if wrong:
                raise HandoverError(wrong[0])
        outcome = await asking
        if isinstance(outcome, LbproxyError):
            raise outcome
        if not outcome:
            raise HandoverError(f"worker {member.row + 1} could not tell of all its connections")

    async def thaw(self) -> None:
        """See `Handing`."""
        self._drop()
        await self._crew.ask(object, "thaw")
        if self._holds:
            self._holds = False
            self._crew.steady.release()

    async def leave(self) -> bool:
        """See `Handing`."""
        if self._store is None:
            return False
        async with self._crew.steady:
            left = await self._crew.ask(bool, "leave", patience=_LEAVE)
            if len(left) < len(self._crew.members):
                log.error("not every worker has left its connections to the next process")
            self._crew.kill()  # they stand still, and hold what is the next one's
            await asyncio.gather(*(member.ended.wait() for member in self._crew.members))
        return True

    def given(self) -> None:
        """See `Handing`."""
        self._drop()
        self._crew.kill()

    def _drop(self) -> None:
        for parcel in self._parcels:
            close(parcel)
        self._parcels = []
