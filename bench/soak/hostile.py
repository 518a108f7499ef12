"""Clients who care for nothing: silent, slow, deaf, resetting, leaving, talking nonsense to admin and control."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

from bench.soak.server import HEADER
from tests.support.servers import LINGER_RESET
from tests.support.streams_checked import BULK, VISIT

COUNTS: Final = {"silent": 20, "trickling": 5, "deaf": 2, "resetting": 2, "leaving": 1, "nonsense": 2, "dawdling": 4}
_NOBODY: Final = 1 << 50
"""The number of a stream that is not asked for."""
_HELLO: Final = bytes([VISIT]) + bytes(HEADER - 1)


class Hostile:
    """All of one target: of its port, its admin port and its control socket."""

    def __init__(self, port: int, admin: int, control: str, seed: int) -> None:
        self._port, self._admin, self._control = port, admin, control
        self._luck = random.Random(seed)
        self._tasks: list[asyncio.Task[None]] = []

    def begin(self, share: float = 1.0) -> None:
        """Let them loose."""
        kinds: dict[str, Callable[[], Awaitable[None]]] = {
            "silent": self._silent, "trickling": self._trickling, "deaf": self._deaf, "resetting": self._resetting,
            "leaving": self._leaving, "nonsense": self._nonsense, "dawdling": self._dawdling,
        }  # fmt: skip
        loop = asyncio.get_running_loop()
        for name, count in COUNTS.items():
            for _ in range(max(1, round(count * share))):
                self._tasks.append(loop.create_task(self._again(kinds[name])))

    async def end(self) -> None:
        """Call them off."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _again(self, one: Callable[[], Awaitable[None]]) -> None:
        while True:
            await asyncio.sleep(self._luck.uniform(0.3, 0.9))
            with contextlib.suppress(OSError):
                await one()

    @contextlib.asynccontextmanager
    async def _reset_after(self, path: str | int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        if isinstance(path, int):
            reader, writer = await asyncio.open_connection("127.0.0.1", path)
        else:
            reader, writer = await asyncio.open_unix_connection(path)
        try:
            yield reader, writer
        finally:
            sock = writer.get_extra_info("socket")
            if isinstance(path, int) and sock is not None and not writer.transport.is_closing():
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
            writer.transport.abort()

    async def _silent(self) -> None:
        async with self._reset_after(self._port) as (reader, _):
            await _hear(reader, self._luck.uniform(5, 25))

    async def _trickling(self) -> None:
        async with self._reset_after(self._port) as (reader, writer):
            for byte in _HELLO:
                writer.write(bytes([byte]))
                await asyncio.sleep(1)
            await _hear(reader, 2)

    async def _deaf(self) -> None:
        async with self._reset_after(self._port) as (_, writer):
            writer.transport.pause_reading()
            writer.write(bytes([BULK]) + _NOBODY.to_bytes(HEADER - 1, "big"))
            await asyncio.sleep(self._luck.uniform(10, 30))

    async def _resetting(self) -> None:
        async with self._reset_after(self._port) as (_, writer):
            writer.write(_HELLO[: self._luck.randrange(HEADER + 1)] or _HELLO)

    async def _leaving(self) -> None:
        async with self._reset_after(self._port) as (reader, writer):
            writer.write(_HELLO[: self._luck.randrange(HEADER)])
            writer.write_eof()
            await _hear(reader, 5)

    async def _nonsense(self) -> None:
        size = self._luck.choice((1, 10, 1000, 100_000))
        words = (self._luck.randbytes(size), b"GET /metrics HTTP/1.1\r\n" + b"x: y\r\n" * size, b"GET " + b"/" * size,
                 b"[" * size, b'{"command": "status", "x": "' + b"y" * size, b'{"command": "nothing"}\n')  # fmt: skip
        async with self._reset_after(self._luck.choice((self._admin, self._control))) as (reader, writer):
            writer.write(self._luck.choice(words))
            await _hear(reader, 1)

    async def _dawdling(self) -> None:
        async with self._reset_after(self._luck.choice((self._admin, self._control))) as (reader, writer):
            writer.write(b"GET / HTTP/1.1\r\n")
            await _hear(reader, self._luck.uniform(5, 15))


async def _hear(reader: asyncio.StreamReader, seconds: float) -> None:
    """Read until it ends, for so many seconds at most."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while await reader.read(65536):
                pass
