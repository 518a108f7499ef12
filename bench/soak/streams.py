"""Streams that are checked at both ends, by kind always the same number; one that ends makes room for the next."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import random
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from tests.support.streams_checked import BULK, HALF_SERVER, KINDS, End

POPULATION: Final = {"steady": 12, "fast": 2, "bulk": 1, "slow": 1, "half_client": 2, "half_server": 2, "held": 60}
_STUCK: Final = 30.0
"""Seconds after which a stream that has been ended, and does not end, is stuck."""
_NEXT: Final = 0.5


class Stream(End):
    """A client's end; `lost` is called when it has ended."""

    def __init__(self, number: int, kind: int, lost: Callable[[Stream], None]) -> None:
        super().__init__(kind, number, client=True)
        self.opened = time.time()
        self.gone = 0.0
        self.port = 0
        self.stuck = self.deserted = False
        """It did not end, or the other side ended it before its time."""
        self._lost = lost

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        with contextlib.suppress(OSError):  # it is reset already
            self.port = transport.get_extra_info("sockname")[1]
        super().connection_made(transport)

    def eof_received(self) -> bool:
        super().eof_received()
        if self.kind != HALF_SERVER and not self.finished:
            self.deserted = True
            self.transport.close()
        self._settle()
        return True

    def finish(self) -> None:
        with contextlib.suppress(OSError):  # it has ended, and the loop does not know yet
            super().finish()
        self._settle()

    def _settle(self) -> None:
        if self.ended == "eof" and self.finished:
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.gone = time.time()
        self._lost(self)

    def record(self, target: str) -> dict[str, Any]:
        """Return what there is to know of it."""
        return {
            "target": target, "number": self.number, "kind": KINDS[self.kind], "port": self.port,
            "opened": self.opened, "gone": self.gone, "ended": self.ended, "finished": self.finished,
            "sent": self.sent, "received": self.received, "wrong": self.wrong, "stuck": self.stuck,
            "deserted": self.deserted,
        }  # fmt: skip


class Streams:
    """All of one target; `first` is the number of the first one. Lives are between a fifth of `life` seconds and it."""

    def __init__(self, target: str, port: int, first: int, life: float, share: float = 1.0) -> None:
        self.target, self.port = target, port
        self.records: list[dict[str, Any]] = []
        self._number = first
        self._life = life
        self._luck = random.Random(first)
        self._share = share
        self._ending = False
        self._tasks: list[asyncio.Task[None]] = []

    def begin(self, population: Mapping[str, int] = POPULATION) -> None:
        """Open them all, and keep on."""
        loop = asyncio.get_running_loop()
        for kind, count in population.items():
            for _ in range(max(1, round(count * self._share))):
                self._tasks.append(loop.create_task(self._keep(KINDS.index(kind))))

    async def finish(self) -> None:
        """End all and wait for it."""
        self._ending = True
        await asyncio.gather(*self._tasks)

    async def _keep(self, kind: int) -> None:
        await asyncio.sleep(self._luck.uniform(0, _NEXT))
        while not self._ending:
            await self._one(kind)
            await asyncio.sleep(_NEXT if kind != BULK else self._luck.uniform(3, 6))

    async def _one(self, kind: int) -> None:
        over = asyncio.Event()
        self._number += 2
        stream = Stream(self._number, kind, lambda _: over.set())
        try:
            await asyncio.get_running_loop().create_connection(lambda: stream, "127.0.0.1", self.port)
        except OSError as error:  # any but a refusal comes after the connect, before the loop has looked
            stream.ended, stream.gone = ("refused" if error.errno == errno.ECONNREFUSED else "reset"), time.time()
            self.records.append(stream.record(self.target))
            return
        life = 0.3 if kind == BULK else self._luck.uniform(0.2, 1) * self._life
        end = time.monotonic() + life
        while not over.is_set() and not self._ending and time.monotonic() < end:
            await _wait(over, min(0.5, max(0.0, end - time.monotonic())))
        if not over.is_set():
            stream.finish()
            if not await _wait(over, _STUCK):
                stream.stuck = True
                stream.transport.abort()
                await over.wait()
        self.records.append(stream.record(self.target))


async def _wait(event: asyncio.Event, seconds: float) -> bool:
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return False
    return True
