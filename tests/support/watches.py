"""Connections that are held and, when they end, made anew at once, as the kubelet's watches are."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from tests.support.wait import until


class Watches:
    """`count` of them to `ports` of loopback in turn, behind which each server says a line first; a context manager."""

    def __init__(self, ports: Sequence[int], count: int) -> None:
        self._ports = list(itertools.islice(itertools.cycle(ports), count))
        self._failed: list[str] = []
        self.begun = 0
        """How many connections have been made, those made anew included."""

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="watches", daemon=True)
        self._thread.start()
        until(lambda: self.begun + len(self._failed) >= len(self._ports), "every watch has begun", 20)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.failed()

    def failed(self) -> list[str]:
        """End them all, and return a line for each attempt to connect that led to no server."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._all.cancel)
            self._thread.join()
        return self._failed

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._main())

    async def _main(self) -> None:
        self._all = asyncio.gather(*(self._watch(port) for port in self._ports), return_exceptions=True)
        try:
            await self._all
        except asyncio.CancelledError:
            pass

    async def _watch(self, port: int) -> None:
        while True:
            line = b""
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError as error:
                self._failed.append(f"port {port}: {error!r}")
                await asyncio.sleep(0.1)
                continue
            try:
                line = await reader.readline()
                self.begun += bool(line)
                await reader.read()
            except OSError:
                pass  # it was cut
            finally:
                writer.transport.abort()
            if not line:
                self._failed.append(f"port {port}: no server")
                await asyncio.sleep(0.1)
