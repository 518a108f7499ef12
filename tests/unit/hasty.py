"""A loop whose seconds take no time: what is due in an hour is due at once, after all that is due before it."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Hasty(selectors.DefaultSelector):
    """A selector that never waits: its clock jumps to when something is due."""

    clock = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        """Take the waiting for done."""
        assert timeout is not None, "nothing would ever happen"
        self.clock += timeout
        return super().select(0)


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run `main` in such a loop, to its end."""
    selector = Hasty()
    loop = asyncio.SelectorEventLoop(selector)
    loop.time = lambda: selector.clock  # type: ignore[method-assign]
    try:
        return loop.run_until_complete(main)
    finally:
        loop.close()
