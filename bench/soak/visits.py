"""Short connections at a steady rate."""

from __future__ import annotations

import asyncio
import errno
import time
from collections import Counter
from typing import Any

from bench.soak.server import HEADER
from tests.support.streams_checked import VISIT

_LATE = 15.0
"""Seconds after which nobody waits any more."""


class Visitors:
    """Those of one target; `failed` has one entry for each that was not served."""

    def __init__(self, target: str, port: int, per_second: float) -> None:
        self._target, self._port, self._rate = target, port, per_second
        self.counts: Counter[str] = Counter()
        self.failed: list[dict[str, Any]] = []
        self.slowest = 0.0
        self._ending = False

    async def run(self) -> None:
        """Make them until `end`."""
        loop = asyncio.get_running_loop()
        due, running = loop.time(), set()
        while not self._ending:
            task = loop.create_task(self._visit())
            running.add(task)
            task.add_done_callback(running.discard)
            due += 1 / self._rate
            await asyncio.sleep(max(0.0, due - loop.time()))
        await asyncio.gather(*running)

    def end(self) -> None:
        """Make no more."""
        self._ending = True

    async def _visit(self) -> None:
        began, at, port, what, answer = time.monotonic(), time.time(), 0, "", b""
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError as error:
            what = "refused" if error.errno == errno.ECONNREFUSED else "reset"
        else:
            port = writer.get_extra_info("sockname")[1]
            try:
                writer.write(bytes([VISIT]) + bytes(HEADER - 1))
                answer = await asyncio.wait_for(reader.read(), _LATE)
            except TimeoutError:
                what = "late"
            except OSError:
                what = "reset"
            writer.transport.abort()
        if answer == b"welcome\n":
            what = "served"
            self.slowest = max(self.slowest, time.monotonic() - began)
        what = what or "fin"
        self.counts[what] += 1
        if what != "served":
            self.failed.append({"target": self._target, "port": port, "opened": at, "gone": time.time(), "what": what})
