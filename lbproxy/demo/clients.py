"""The traffic of the demo: clients that keep a connection for a few requests, then make a new one, and count."""

from __future__ import annotations

import asyncio
from collections import Counter

CUT, FAILED = "open connections cut", "new connections failed"
_REQUESTS = 10
"""Requests on one connection."""
_PAUSE = 0.3
"""Seconds between two of them."""
_PATIENCE = 10.0
"""Seconds that one connection may take."""


class Clients:
    """Clients of 127.0.0.1:`port`; `counts` has the answers by the name of the server, and what went wrong."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.counts: Counter[str] = Counter()

    async def run(self) -> None:
        """Be one of them, until cancelled."""
        while True:
            try:
                async with asyncio.timeout(_PATIENCE):
                    await self._connection()
            except (OSError, asyncio.IncompleteReadError):
                await asyncio.sleep(0.2)

    async def _connection(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        broken = FAILED
        try:
            for _ in range(_REQUESTS):
                writer.write(b"GET / HTTP/1.1\r\nHost: demo\r\n\r\n")
                await reader.readuntil(b"\r\n\r\n")
                self.counts[(await reader.readline()).decode().strip()] += 1
                broken = CUT
                await asyncio.sleep(_PAUSE)
            broken = ""
        finally:
            writer.transport.abort()
            if broken:
                self.counts[broken] += 1
