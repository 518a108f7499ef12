"""The workers together: hired, told what to do, and replaced when they die or hang.

A worker that dies leaves what it had kept in its holding (`estate`). The next one of its row is born, takes that over
at rest, keeps it in a holding of its own, and only then lets it go on; the old holding is forgotten. One that does not
beat for 5 s is killed, and then it has died.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from functools import partial
from socket import SocketType
from typing import Final, NamedTuple, TypeVar

from lbproxy.config.model import Address, Config
from lbproxy.errors import LbproxyError
from lbproxy.handover.fdqueue import FdQueue
from lbproxy.handover.inherit import drop
from lbproxy.handover.parcel import Parcel
from lbproxy.handover.revive import close
from lbproxy.handover.sets import Content, merge
from lbproxy.proxy.crew import Picture
from lbproxy.record import dataclass
from lbproxy.tasks import Tasks
from lbproxy.threads import in_thread
from lbproxy.workers.board import Board
from lbproxy.workers.estate import Estate, Holding
from lbproxy.workers.member import PATIENCE, Member
from lbproxy.workers.nursery import Nursery
from lbproxy.workers.wire import Heard

log = logging.getLogger(__name__)

Answer = TypeVar("Answer")

_LOOK: Final = 0.5
"""Seconds between two looks at the heartbeats."""
_HUNG: Final = 10
"""Looks in a row that find none: then a worker is given up, after 5 s. Looks are counted and not time, for a machine
that stood still makes nobody late."""
LATE: Final = 3
"""The same for one that is not to be waited for."""
_AGAIN: Final = 1.0
"""Seconds between two tries to replace a worker."""
_TAKE: Final = 20.0
"""Seconds that a worker has to take over connections."""


class Orders(NamedTuple):
    """What a new worker has to know."""

    config: Config
    listeners: Mapping[Address, SocketType]
    pictures: Mapping[str, Picture]
    drained: list[str]


@dataclass(slots=True)
class Left:
    """What a worker has left, and those that were to take its place and could not."""

    good: list[Parcel] = field(default_factory=list)
    reset: int = 0
    holdings: list[Holding] = field(default_factory=list)
    """In which it is all kept until somebody else keeps it."""


class Crew:
    """The workers. `orders` tells what a new one has to know, `heard` is called with what they see of servers."""

    def __init__(
        self,
        board: Board,
        estate: Estate,
        nursery: Nursery | None,
        orders: Callable[[], Orders],
        heard: Callable[[Heard], None],
    ) -> None:
        """Without a `nursery` one is started."""
        self.members: list[Member] = []
        self.steady = asyncio.Lock()
        """Held while a worker is replaced, and by whoever needs all of them meanwhile."""
        self.replaced = 0
        """Workers that had to be replaced so far."""
        self.on_loss: Callable[[int, Sequence[Parcel]], None] = lambda row, taken: None
        """Called when a worker is no more, with the connections that another one takes over."""
        self._board = board
        self._estate = estate
        self._nursery = nursery
        self._orders = orders
        self._heard = heard
        self._tasks = Tasks()
        self._silent = [0] * board.rows
        self._beats = [0] * board.rows
        self._holdings: dict[Member, Holding] = {}
        self._manning: list[asyncio.Task[None]] = []

    async def hire(self) -> None:
        """Have as many workers as the board has rows, which do nothing yet. Raises LbproxyError."""
        hired = await asyncio.gather(*map(self._start, range(self._board.rows)), return_exceptions=True)
        self.members = [each for each in hired if isinstance(each, Member)]
        for each in hired:
            if isinstance(each, BaseException):
                raise each

    async def begin(self, parcels: Sequence[Parcel]) -> None:
        """Have them serve, and go on with what a predecessor has left. Raises LbproxyError."""
        shares = [parcels[row :: self._board.rows] for row in range(self._board.rows)]
        await asyncio.gather(*(self._adopt(member, shares[member.row]) for member in self.members))
        await asyncio.gather(*(member.call("begin") for member in self.members))
        for parcel in parcels:
            close(parcel)
        self._tasks.forever(self._look, "worker", "heartbeats")
        for row in range(self._board.rows):
            self._manning.append(self._tasks.forever(partial(self._keep_manned, row), "worker", str(row + 1)))

    def holding(self, member: Member) -> Holding:
        """Return what a worker has had kept."""
        return self._holdings[member]

    async def ask(
        self, answers: type[Answer], verb: str, *arguments: object, patience: float = PATIENCE
    ) -> list[Answer]:
        """Return the answers of the workers that answer."""
        return [answer for _, answer in await self.each(answers, verb, *arguments, patience=patience)]

    async def each(
        self, answers: type[Answer], verb: str, *arguments: object, patience: float = PATIENCE
    ) -> list[tuple[int, Answer]]:
        """Return the answers of the workers that answer and live on, with their rows."""
        members = [member for member in self.members if not member.ended.is_set()]  # the others are being replaced
        given = await asyncio.gather(
            *(member.call(verb, *arguments, patience=patience) for member in members), return_exceptions=True
        )
        for member, answer in zip(members, given, strict=True):
            if isinstance(answer, BaseException) and not member.ended.is_set():
                log.warning("%s: %s", verb, answer)
        return [
            (member.row, answer)
            for member, answer in zip(members, given, strict=True)
            if isinstance(answer, answers) and not member.ended.is_set()
        ]

    async def apply(self, opened: Mapping[Address, SocketType]) -> None:
        """Have all go over to the configuration in force, with new sockets; who cannot is replaced by one who does."""
        orders = self._orders()
        fds = [sock.fileno() for sock in opened.values()]

        async def tell(member: Member) -> None:
            try:
                await member.call("apply", orders.config, orders.pictures, list(opened), fds=fds)
            except LbproxyError as error:
                log.error("worker %d does not go over to the new configuration: %s", member.row + 1, error)
                member.kill()

        await asyncio.gather(*map(tell, self.members))

    def late(self) -> list[int]:
        """Return the numbers of the workers that have not beaten for a while."""
        return [row + 1 for row, looks in enumerate(self._silent) if looks >= LATE]

    async def dismiss(self) -> None:
        """Have all end, without a word to anybody about their connections."""
        for task in self._manning:
            task.cancel()
        await asyncio.gather(*self._manning, return_exceptions=True)
        await asyncio.gather(*(member.dismiss() for member in self.members))
        if self._nursery is not None:
            self._nursery.close()
        await self._tasks.cancel()

    def kill(self) -> None:
        """End all at once: another process has what they had."""
        for task in self._manning:
            task.cancel()
        for member in self.members:
            member.kill()

    async def _start(self, row: int) -> Member:
        holding: list[Holding] = []

        def part(keep: bool, name: str, fds: list[int]) -> None:
            if not holding:
                holding.append(self._estate.holding())
                self._holdings[member] = holding[0]
            holding[0].part(keep, name, fds)

        member = Member(row, self._tasks, self._heard, part)
        orders = self._orders()
        try:
            try:
                await member.start(self._born_of(), self._board, orders.config, orders.listeners)
            except LbproxyError:  # the nursery may have been killed
                await member.dismiss()
                if self._nursery is not None:
                    self._nursery.close()
                self._nursery = None
                member = Member(row, self._tasks, self._heard, part)
                await member.start(self._born_of(), self._board, orders.config, orders.listeners)
        except BaseException:
            await member.dismiss()
            raise
        return member

    def _born_of(self) -> Nursery:
        if self._nursery is None:
            try:
                self._nursery = Nursery.start()
            except OSError as error:
                raise LbproxyError(f"no process for workers: {error.strerror}") from None
        return self._nursery

    async def _adopt(self, member: Member, parcels: Sequence[Parcel]) -> None:
        """Have a worker take over connections, at rest and kept. Raises LbproxyError."""
        orders = self._orders()
        if not parcels:
            await member.call("adopt", orders.pictures, orders.drained, patience=_TAKE)
            return
        queue = FdQueue()
        queue.sender.settimeout(_TAKE)
        with queue.receiver as receiver:
            asking = self._tasks.spawn(
                member.outcome("adopt", orders.pictures, orders.drained, fds=[receiver.fileno()], patience=_TAKE),
                "adopt",
            )
            await asyncio.sleep(0)  # now the worker has the other end
        complete = await in_thread(partial(queue.send, parcels), "deal")
        queue.sender.close()
        outcome = await asking
        if isinstance(outcome, LbproxyError):
            raise outcome
        if not complete:
            raise LbproxyError(f"worker {member.row + 1} has not taken all of {len(parcels)} connections")

    async def _keep_manned(self, row: int) -> None:
        """Replace a worker whenever it has ended, until cancelled."""
        while True:
            dead, left = self.members[row], Left()
            await dead.ended.wait()
            async with self.steady:
                await self._bury(row, left)
            said = "worker %d (pid %d) has died: %d of its connections go on with another one, %d are reset"
            log.error(said, row + 1, dead.pid, len(left.good), left.reset)
            while not await self._replaced(row, left):
                await asyncio.sleep(_AGAIN)

    async def _bury(self, row: int, left: Left) -> None:
        """Take in what a worker has left: it is newer than what there is."""
        dead = self.members[row]
        await dead.dismiss()
        holding = self._holdings.pop(dead, None)
        if holding is not None:
            left.holdings.append(holding)
            whole = merge([holding.content(), Content(left.good, [], [], [])])
            left.good = whole.good
            left.reset += len(whole.holed)
            drop(whole.holed)
        self.on_loss(row, left.good)

    async def _replaced(self, row: int, left: Left) -> bool:
        """Have a new worker go on with what was left; returns whether it does. Before that nothing is forgotten."""
        async with self.steady:
            try:
                self.members[row] = member = await self._start(row)
                await self._adopt(member, left.good)
                await member.call("begin")
            except LbproxyError as error:
                log.error("worker %d cannot be started: %s", row + 1, error)
                await self._bury(row, left)
                return False
        self.replaced += 1
        for parcel in left.good:
            close(parcel)
        for holding in left.holdings:
            holding.forget()
        return True

    async def _look(self) -> None:
        """Kill whoever has hung up on everybody, until cancelled."""
        while True:
            await asyncio.sleep(_LOOK)
            for member in list(self.members):
                beat = self._board.heard(member.row)
                self._silent[member.row] = 0 if beat != self._beats[member.row] else self._silent[member.row] + 1
                self._beats[member.row] = beat
                if self._silent[member.row] >= _HUNG and not member.ended.is_set():
                    log.error("worker %d (pid %d) hangs: killed", member.row + 1, member.pid)
                    member.kill()
                    self._silent[member.row] = 0
