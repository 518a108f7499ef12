"""A source on a loop of its own, and what it says."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

from lbproxy.config.model import ServerConfig
from lbproxy.sources.found import accepted
from tests.support.wait import FACTOR


class Heard:
    """Writes down what a source says, each thing once."""

    def __init__(self) -> None:
        self.told: list[list[str] | str] = []

    def answered(self, servers: Sequence[ServerConfig]) -> None:
        accepted(servers, "dns", set())
        self._note([str(server.address) for server in servers])

    def failed(self, why: str) -> None:
        self._note(why)

    def _note(self, what: list[str] | str) -> None:
        if not self.told or self.told[-1] != what:
            self.told.append(what)


def follow(source: Callable[[Heard], Coroutine[Any, Any, None]], then: Callable[[Heard], Awaitable[None]]) -> Heard:
    """Run a source and what happens meanwhile; return what was heard."""
    heard = Heard()

    async def run() -> None:
        task = asyncio.create_task(source(heard))
        try:
            await then(heard)
            assert not task.done(), "it goes on for ever"
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    asyncio.run(run())
    return heard


async def until(probe: Callable[[], bool], what: object = "") -> None:
    """Wait for a condition."""
    async with asyncio.timeout(20 * FACTOR):
        while not probe():
            await asyncio.sleep(0.01)
