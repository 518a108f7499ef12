"""Long connections that carry random bytes to an `Echo` and back all the time, hashed at both ends of the way."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
import threading
from types import TracebackType
from typing import Self

from tests.support.wait import FACTOR

_LARGEST = 16 * 1024
_PAUSE = 0.05


class Streams:
    """`count` such connections to a port of loopback, as a context manager; open when the block begins.

    `finish` ends them and returns what is wrong, a line for each stream that was broken.
    """

    def __init__(self, port: int, count: int) -> None:
        self._port = port
        self._count = count
        self._stop = asyncio.Event()
        self._open = threading.Semaphore(0)
        self._broken: list[str] = []
        self.bytes = 0
        """Bytes that have come back."""

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="streams", daemon=True)
        self._thread.start()
        for _ in range(self._count):
            assert self._open.acquire(timeout=20 * FACTOR), "a stream did not begin"
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.finish()

    def finish(self) -> list[str]:
        """Send EOF on each, wait for that of the other end, and return what was wrong."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()
        return self._broken

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._all())

    async def _all(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for number in range(self._count):
                tasks.create_task(self._one(number))

    async def _one(self, number: int) -> None:
        sent, got, server = hashlib.sha256(), hashlib.sha256(), "?"
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError as error:
            self._broken.append(f"stream {number}: {error!r}")
            self._open.release()
            return
        try:
            server = (await reader.readuntil(b"\n")).decode().strip()
            self._open.release()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._send(writer, sent, random.Random(number)))
                tasks.create_task(self._receive(reader, got))
            if sent.digest() != got.digest():
                self._broken.append(f"stream {number} to {server}: what came back is not what was sent")
        except* (OSError, asyncio.IncompleteReadError) as group:
            self._broken.append(f"stream {number} to {server}: {group.exceptions[0]!r}")
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _send(self, writer: asyncio.StreamWriter, sent: hashlib._Hash, rng: random.Random) -> None:
        while not self._stop.is_set():
            data = rng.randbytes(rng.randint(1, _LARGEST))
            sent.update(data)
            writer.write(data)
            await writer.drain()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), rng.uniform(0, 2 * _PAUSE))
        writer.write_eof()

    async def _receive(self, reader: asyncio.StreamReader, got: hashlib._Hash) -> None:
        while data := await reader.read(1 << 16):
            got.update(data)
            self.bytes += len(data)
