"""Long-lived streams through a proxy, numbered and checked byte by byte at both far ends while it is restarted."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Self, cast

import uvloop

from tests.support.ports import free_port
from tests.support.wait import FACTOR, until

_PERIOD: Final = 1_048_573
"""A prime: no size that a program moves at once hides a gap."""
_BASE: Final = random.Random(5).randbytes(_PERIOD) * 2
_HEADER: Final = 8
_CHUNK: Final = 64 * 1024

STEADY, FAST, BULK, SLOW, HALF_CLIENT, HALF_SERVER, HELD, VISIT = range(8)
KINDS: Final = ("steady", "fast", "bulk", "slow", "half_client", "half_server", "held")
"""Small messages every 50 ms, or 10 ms; megabytes a second, to an end that reads at once, or hardly; one side ended
early; a message every 5 s."""
_PAUSES: Final = {STEADY: 0.05, FAST: 0.01, BULK: 0.02, SLOW: 0.02, HALF_CLIENT: 0.05, HALF_SERVER: 0.05, HELD: 5.0}


uvloop.new_event_loop().close()  # libuv makes a pipe for itself with its first loop, and keeps it: not a test's leak


def _piece(number: int, at: int, size: int) -> bytes:
    start = (number * 7919 + at) % _PERIOD
    return _BASE[start : start + size]


class End(asyncio.Protocol):
    """One end of a stream: sends its numbered bytes, checks those of the other."""

    def __init__(self, kind: int, number: int, client: bool) -> None:
        self.kind = kind
        self.number = number
        self.client = client
        self.sent = 0
        self.received = 0
        self.wrong = ""
        self.ended = ""
        """`eof` or `reset`, once it has."""
        self.gap = 0.0
        """The longest silence since `Numbered.mark`, in seconds."""
        self.heard = 0.0
        self.finished = False
        self._room = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=4 * _CHUNK)
        self.heard = time.monotonic()
        if self.client:
            self.transport.write(bytes([self.kind]) + self.number.to_bytes(_HEADER - 1, "big"))
            self.tick()

    def tick(self) -> None:
        """Send, and come again."""
        if self.finished or self.transport.is_closing():
            return
        if self.sent >= 1000 and self.kind == (HALF_CLIENT if self.client else HALF_SERVER):
            self.finish()
            return
        if self._room:
            size = 8 * _CHUNK if self.kind in (BULK, SLOW) else 100
            data = _piece(self.number + (not self.client), self.sent, size)
            self.transport.write(data)
            self.sent += len(data)
        if self.kind == SLOW and not self.client:
            if int(time.monotonic() * 10) % 4:
                self.transport.pause_reading()
            else:
                self.transport.resume_reading()
        asyncio.get_running_loop().call_later(_PAUSES[self.kind] * random.uniform(0.8, 1.2), self.tick)

    def pause_writing(self) -> None:
        self._room = False

    def resume_writing(self) -> None:
        self._room = True

    def finish(self) -> None:
        """Send no more."""
        if not self.finished:
            self.finished = True
            if not self.transport.is_closing():
                self.transport.resume_reading()
                self.transport.write_eof()

    def data_received(self, data: bytes) -> None:
        now = time.monotonic()
        if self.received:
            self.gap = max(self.gap, now - self.heard)
        self.heard = now
        at = 0
        while at < len(data) and not self.wrong:
            want = _piece(self.number + self.client, self.received, len(data) - at)
            if data[at : at + len(want)] != want:
                self.wrong = f"after byte {self.received}"
            at += len(want)
            self.received += len(want)

    def eof_received(self) -> bool:
        self.ended = "eof"
        return True  # the other direction is none of its business

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended = "reset" if exc else self.ended or "reset"


class Served(End):
    """The server's end; the first bytes say what it is."""

    def __init__(self, owner: Numbered) -> None:
        super().__init__(STEADY, 0, client=False)
        self._owner = owner
        self._head = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._owner.accepted.add(self)
        super().connection_made(transport)

    def eof_received(self) -> bool:
        super().eof_received()
        return len(self._head) == _HEADER  # who has not even said what it is will not be answered

    def connection_lost(self, error: Exception | None) -> None:
        self._owner.accepted.discard(self)
        super().connection_lost(error)

    def data_received(self, data: bytes) -> None:
        if len(self._head) < _HEADER:
            missing = _HEADER - len(self._head)
            self._head, data = self._head + data[:missing], data[missing:]
            if len(self._head) < _HEADER:
                return
            self.kind, self.number = self._head[0], int.from_bytes(self._head[1:], "big")
            if self.kind == VISIT:
                self.transport.write(b"welcome\n")
                self.transport.close()
                return
            self._owner.served[self.number] = self
            self.tick()
        if data:
            super().data_received(data)


@dataclass
class Visits:
    """What became of short connections."""

    done: int = 0
    refused: int = 0
    cut: int = 0
    slowest: float = 0.0


@dataclass
class Report:
    """What became of the streams: `intact` to the last byte both ways, `cut`, or `wrong`."""

    intact: int = 0
    cut: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


class Numbered:
    """A server for streams on a free port and the clients of it, in a thread with a loop; a context manager.

    It serves on each of `hosts`; `address` is the first.
    """

    def __init__(self, hosts: Sequence[str] = ("127.0.0.1",)) -> None:
        self._hosts = hosts
        self.port = free_port()
        self.address = f"{hosts[0]}:{self.port}"
        self.clients: dict[int, End] = {}
        self.served: dict[int, Served] = {}
        self.accepted: set[Served] = set()
        """Those of them that are open, and what has not said yet what it is."""
        self.visits = Visits()
        self._visiting = False

    def __enter__(self) -> Self:
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self._do(self._serve())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def _do(self, coro: Any) -> Any:
        future: Future[Any] = asyncio.run_coroutine_threadsafe(coro, self._loop)
        return future.result(120 * FACTOR)

    async def _serve(self) -> None:
        self._server = await self._loop.create_server(lambda: Served(self), self._hosts, self.port, backlog=4096)

    async def _close(self) -> None:
        self._visiting = False
        self._server.close()
        for end in (*self.clients.values(), *self.served.values(), *self.accepted):
            end.finished = True
            end.transport.abort()
        while self.accepted:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)

    def open(self, port: int, **counts: int) -> None:
        """Open streams through the proxy on `port`: how many of each of KINDS; returns when all are served."""
        kinds = [KINDS.index(kind) for kind, count in counts.items() for _ in range(count)]
        self._do(self._open(port, kinds))
        until(lambda: len(self.served) >= len(self.clients), "every stream has reached the server", 30)

    async def _open(self, port: int, kinds: list[int]) -> None:
        for kind in kinds:
            number = 2 * len(self.clients)
            end = End(kind, number, client=True)
            await self._loop.create_connection(lambda end=end: end, "127.0.0.1", port)  # type: ignore[misc]
            self.clients[number] = end

    def visit(self, port: int, per_second: float) -> None:
        """Make short connections from now on, so many a second, until `stop_visits`."""
        self._visiting = True

        async def visits() -> None:
            due = self._loop.time()
            running = set()
            while self._visiting:
                task = self._loop.create_task(self._visit(port))
                running.add(task)
                task.add_done_callback(running.discard)
                due += 1 / per_second
                await asyncio.sleep(max(0.0, due - self._loop.time()))
            await asyncio.gather(*running)

        self._visits = asyncio.run_coroutine_threadsafe(visits(), self._loop)

    async def _visit(self, port: int) -> None:
        began = time.monotonic()
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            self.visits.refused += 1
            return
        try:
            writer.write(bytes([VISIT]) + bytes(_HEADER - 1))
            answer = await reader.read()
        except OSError:
            answer = b""
        writer.transport.abort()
        if answer == b"welcome\n":
            self.visits.done += 1
            self.visits.slowest = max(self.visits.slowest, time.monotonic() - began)
        else:
            self.visits.cut += 1

    def stop_visits(self) -> Visits:
        """End them and return what became of them."""
        self._visiting = False
        self._visits.result(30 * FACTOR)
        return self.visits

    def mark(self) -> None:
        """Measure silences from now on."""
        for end in (*self.clients.values(), *self.served.values()):
            end.gap = 0.0

    def pauses(self) -> list[float]:
        """Return the longest silence of each direction of the `fast` streams since `mark`, in ascending order."""
        ends = (*self.clients.values(), *self.served.values())
        return sorted(end.gap for end in ends if end.kind == FAST and not end.ended)

    def progress(self, seconds: float = 30) -> None:
        """Wait until every stream that lives has moved again in each direction that is open."""
        pairs = [(self.clients[number], self.served[number]) for number in self.clients]
        before = {ear: ear.received for pair in pairs for ear, mouth in (pair, pair[::-1])
                  if not mouth.finished and not ear.ended}  # fmt: skip
        until(lambda: all(end.ended or end.received > before[end] for end in before), "every stream moves", seconds)

    def alive(self) -> int:
        """Return how many streams have not been cut."""
        return sum(not self._cut(number) for number in self.clients)

    def _cut(self, number: int) -> bool:
        pair = self.clients[number], self.served[number]
        return any(ear.ended == "reset" or (ear.ended == "eof" and not mouth.finished)
                   for ear, mouth in (pair, pair[::-1]))  # fmt: skip

    def finish(self) -> Report:
        """Have every end say its last, wait until the other has heard it all, and return what became of each."""
        report = Report()
        cut_before = {number for number in self.clients if self._cut(number)}
        pairs = {number: (self.clients[number], self.served[number]) for number in self.clients}

        def finish_all() -> None:
            for pair in pairs.values():
                for end in pair:
                    end.finish()

        self._loop.call_soon_threadsafe(finish_all)
        self._wait(lambda: all(end.ended for pair in pairs.values() for end in pair))
        for number, pair in pairs.items():
            name = f"{KINDS[pair[0].kind]} {number}"
            wrong = [end.wrong for end in pair if end.wrong]
            if wrong:
                report.wrong.append(f"{name}: {wrong[0]}")
            elif number in cut_before or any(end.ended != "eof" for end in pair):
                report.cut.append(f"{name}: {'/'.join(end.ended or 'open' for end in pair)}")
            elif pair[0].received != pair[1].sent or pair[1].received != pair[0].sent:
                report.wrong.append(f"{name}: {pair[0].sent} -> {pair[1].received}, "
                                    f"{pair[1].sent} -> {pair[0].received}")  # fmt: skip
            else:
                report.intact += 1
        return report

    def forget(self) -> None:
        """Reset what is left of every stream."""
        for end in (*self.clients.values(), *self.served.values()):
            self._loop.call_soon_threadsafe(end.transport.abort)
        until(lambda: not self.accepted, "every end is closed")
        self.clients.clear()
        self.served.clear()

    def _wait(self, done: Callable[[], bool]) -> None:
        end = time.monotonic() + 30 * FACTOR
        while not done() and time.monotonic() < end:
            time.sleep(0.02)
