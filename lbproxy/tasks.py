"""The one owner of asyncio tasks: each has a name, a strong reference, and somebody who hears of its failure."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Final, Literal, TypeVar, get_args

T = TypeVar("T")

log = logging.getLogger(__name__)

Kind = Literal["bind", "check", "find", "follow", "keep", "resolve", "tick", "watch", "worker"]
"""What runs for ever; the `task` label of `lbproxy_task_failures_total`."""
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)

_FIRST_PAUSE: Final = 1.0
_LONGEST_PAUSE: Final = 30.0
"""Seconds between a failure and the next try. A run that lasted longer than this was well, and begins anew with 1 s."""


class Tasks:
    """A set of running tasks. A task that dies of an exception is logged as a bug; nothing else stops for it."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[object]] = set()
        self.failures: dict[str, int] = dict.fromkeys(KINDS, 0)
        """How often a task of each kind has failed that was to run for ever."""

    def spawn(self, coro: Coroutine[object, None, T], name: str) -> asyncio.Task[T]:
        """Start `coro` as a task called `name` and keep it until it ends."""
        task = asyncio.get_running_loop().create_task(coro, name=name)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return task

    def forever(self, run: Callable[[], Coroutine[object, None, None]], kind: Kind, of: str = "") -> asyncio.Task[None]:
        """Start a task that runs `run` until it is cancelled, and again whenever it fails or ends by itself.

        `of` tells it from others of its kind in the log.
        """
        name = f"{kind} {of}".rstrip()
        return self.spawn(self._forever(run, kind, name), name)

    async def _forever(self, run: Callable[[], Coroutine[object, None, None]], kind: Kind, name: str) -> None:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        pause = 0.0
        while True:
            began = loop.time()
            try:
                await run()
                raise RuntimeError("it ended by itself")
            except (Exception, asyncio.CancelledError) as error:
                # A future inside that somebody else has cancelled looks the same, and must not end it.
                if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
                    raise
                self.failures[kind] += 1
                pause = next_pause(pause, loop.time() - began)
                log.error("task %s ended with an error, and is started again in %g s", name, pause, exc_info=error)
            await asyncio.sleep(pause)

    def _ended(self, task: asyncio.Task[object]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("task %s ended with an error", task.get_name(), exc_info=error)

    async def cancel(self) -> None:
        """Cancel every task and wait until all are gone."""
        running = [task for task in self._running if task is not asyncio.current_task()]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def next_pause(last: float, ran: float) -> float:
    """Return the seconds to wait after a run of `ran` seconds that failed; `last` is the wait before it, 0 if none."""
    if not last or ran > _LONGEST_PAUSE:
        return _FIRST_PAUSE
    return min(2 * last, _LONGEST_PAUSE)
