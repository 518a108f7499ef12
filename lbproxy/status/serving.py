"""What the admin endpoint and the control socket have in common: clients in tasks, not too many, and an end to all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine

from lbproxy.tasks import Tasks

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[None, None, None]]
"""Converses with one client to the end; its connection is cut after that."""


class Clients:
    """The clients of one listening socket, at most `limit` at a time; each is served in a task called `name`."""

    def __init__(self, serve: Serve, tasks: Tasks, name: str, limit: int) -> None:
        self._serve = serve
        self._tasks = tasks
        self._name = name
        self._limit = limit
        self._serving: set[asyncio.Task[None]] = set()
        self._resting: dict[asyncio.Task[None], None] = {}  # those with no request, longest first

    def __len__(self) -> int:
        return len(self._serving)

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Called by the listening socket for each client: serve it, or cut one if there are enough.

        Who has rested for longest makes room; where nobody rests it is the one that has come.
        """
        if len(self._serving) >= self._limit:
            if not self._resting:
                writer.transport.abort()
                return
            longest = next(iter(self._resting))
            self._forget(longest)
            longest.cancel()
        task = self._tasks.spawn(self._serve(reader, writer), self._name)
        self._serving.add(task)
        task.add_done_callback(self._forget)
        # Here and not in a finally of the task: one that is cancelled before its first step runs no finally
        task.add_done_callback(lambda _: writer.transport.abort())

    def rest(self) -> None:
        """Called in a client's task while it waits for the next request, if for any."""
        task = asyncio.current_task()
        if task in self._serving:
            self._resting[task] = None

    def work(self) -> None:
        """Called in a client's task when a request has come."""
        task = asyncio.current_task()
        if task in self._resting:
            del self._resting[task]

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._serving.discard(task)
        self._resting.pop(task, None)

    async def close(self, grace: float = 0.0) -> None:
        """Cut everybody off, and wait until all are gone; a request under way has `grace` seconds to its answer."""
        for task in list(self._resting):
            task.cancel()
        serving = self._serving - {asyncio.current_task()}
        if serving and grace:
            await asyncio.wait(serving, timeout=grace)
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)


class Turns:
    """Lets one through at a time, `between` seconds after the one before; bytes move in between."""

    def __init__(self, between: float) -> None:
        self._between = between
        self._lock = asyncio.Lock()
        self._next = 0.0

    async def mine(self) -> None:
        """Wait for one's turn, in the order of asking."""
        loop = asyncio.get_running_loop()
        async with self._lock:
            await asyncio.sleep(max(0.0, self._next - loop.time()))
            self._next = loop.time() + self._between
