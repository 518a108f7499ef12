"""Clients on the node: new connections at a pace, and held ones that come back when they are cut; all on record."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Coroutine
from concurrent.futures import Future
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from tests.support.netns import Namespace, inside

CLOSED = (OSError, asyncio.IncompleteReadError)
BUSY = 0.1
"""Seconds between two lines of a busy held connection."""
_AGAIN = 0.05
"""Seconds before a client that could not reconnect tries again."""
_PATIENCE = 5.0
"""Seconds that it waits for an answer."""
_LONGEST = 10.0
"""Seconds that a new connection waits for one."""


@dataclass
class Try:
    """One connection: when it was begun (time.monotonic), how long until the answer, who answered or what failed."""

    start: float
    seconds: float = 0.0
    server: str = ""
    error: str = ""
    late: float = 0.0
    """How much later than planned it was begun: then it is this process that is slow, not the proxy."""

    @property
    def end(self) -> float:
        """When the answer came, or the failure."""
        return self.start + self.seconds


@dataclass
class Held:
    """One client that holds a connection, and comes back whenever that is cut.

    `server` is its first one; `ended`, `how` and `back` tell of the first cut (None while there was none).
    """

    busy: bool
    server: str = ""
    ended: float | None = None
    how: str = ""
    back: Try | None = None
    refused: int = 0
    """Tries to come back that failed."""


class Clients:
    """A thread with an event loop in the node's namespace; a context manager. `port` is the proxy's."""

    def __init__(self, port: int, tls: ssl.SSLContext | None, ns: Namespace | None) -> None:
        self._port = port
        self._tls = tls
        self._ns = ns
        self._keeping: list[asyncio.Task[None]] = []

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="clients")
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self) -> None:
        with inside(self._ns):
            self._loop.run_forever()
            self._loop.run_until_complete(self._clear_up())
            self._loop.close()

    async def _clear_up(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0.01)  # transports close in the iteration after

    def _soon(self, coro: Coroutine[Any, Any, Any]) -> Future[Any]:
        return asyncio.run_coroutine_threadsafe(coro, self._loop)

    def arrive(self, per_second: float, seconds: float, stay: float = 0.0) -> Future[list[Try]]:
        """Make new connections for `seconds`; each is kept for `stay` when it has its answer."""
        return self._soon(self._arrive(per_second, seconds, stay))

    async def _arrive(self, per_second: float, seconds: float, stay: float) -> list[Try]:
        begin = time.monotonic()
        tries = []
        async with asyncio.TaskGroup() as tasks:
            for number in range(round(per_second * seconds)):
                planned = begin + number / per_second
                await asyncio.sleep(planned - time.monotonic())
                tries.append(tasks.create_task(self._one(planned, stay)))
        return [each.result() for each in tries]

    async def _one(self, planned: float = 0.0, stay: float = 0.0) -> Try:
        tried = Try(time.monotonic())
        tried.late = tried.start - planned if planned else 0.0
        writer = None
        try:
            async with asyncio.timeout(_LONGEST):
                reader, writer = await self._connect()
                tried.server = await _say(b"hold\n" if stay else b"hello\n", reader, writer)
        except CLOSED as error:
            tried.error = type(error).__name__
        tried.seconds = time.monotonic() - tried.start
        if writer is not None:
            await asyncio.sleep(0 if tried.error else stay)
            writer.transport.abort()
        return tried

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        sock = socket.socket()
        sock.setblocking(False)
        try:
            await self._loop.sock_connect(sock, ("127.0.0.1", self._port))
        except BaseException:
            sock.close()
            raise
        return await asyncio.open_connection(
            sock=sock, ssl=self._tls, server_hostname="localhost" if self._tls else None)  # fmt: skip

    def persist(self, count: int, seconds: float, pause: float = 0.1) -> Future[list[Try]]:
        """Have `count` clients try for `seconds`, each again `pause` after it has failed or been served."""
        return self._soon(self._persist(count, seconds, pause))

    async def _persist(self, count: int, seconds: float, pause: float) -> list[Try]:
        until = time.monotonic() + seconds
        tries = []

        async def keep_trying() -> None:
            while time.monotonic() < until:
                tries.append(await self._one())
                await asyncio.sleep(pause)

        await asyncio.gather(*(keep_trying() for _ in range(count)))
        return tries

    def hold(self, count: int, busy: int = 0) -> list[Held]:
        """Open `count` connections, `busy` of them with traffic all the time, and return them when all are there.

        Their clients come back whenever they are cut.
        """
        held = [Held(number < busy) for number in range(count)]
        there: Future[None] = self._soon(self._hold(held))
        there.result(60)
        return held

    async def _hold(self, held: list[Held]) -> None:
        for each in held:
            reader, writer = await self._connect()
            each.server = await _say(b"hold\n", reader, writer)
            # A task that only waits for a stream is known to nobody else: asyncio holds its readers weakly.
            self._keeping.append(self._loop.create_task(self._keep(each, reader, writer)))

    async def _keep(self, held: Held, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                how = await _until_cut(held.busy, reader, writer)
                writer.transport.abort()
                if held.ended is None:
                    held.how, held.ended = how, time.monotonic()
                back, reader, writer = await self._come_back(held)
                held.back = held.back or back
        finally:
            writer.transport.abort()

    async def _come_back(self, held: Held) -> tuple[Try, asyncio.StreamReader, asyncio.StreamWriter]:
        while True:
            tried = Try(time.monotonic())
            writer = None
            try:
                async with asyncio.timeout(_PATIENCE):
                    reader, writer = await self._connect()
                    tried.server = await _say(b"hold\n", reader, writer)
            except CLOSED:
                if writer is not None:
                    writer.transport.abort()
                held.refused += 1
                await asyncio.sleep(_AGAIN)
                continue
            tried.seconds = time.monotonic() - tried.start
            return tried, reader, writer


async def _until_cut(busy: bool, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
    """Return how the connection ended; a busy one sends lines as long as it can."""
    try:
        while True:
            if busy:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(BUSY):
                        if not await reader.read(1 << 16):
                            return "EOF"
                        await asyncio.sleep(BUSY)
                writer.write(b"busy\n")
            elif not await reader.read(1 << 16):
                return "EOF"
    except OSError as error:
        return type(error).__name__


async def _say(line: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
    writer.write(line)
    return (await reader.readuntil(b"\n")).decode().strip()
