"""How a server is asked on and on, with real probes of real ports at short intervals."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
import uvloop

from lbproxy.balance.checked import CheckResult
from lbproxy.balance.server import Endpoint
from lbproxy.balance.state import State
from lbproxy.checks.checker import Checker
from lbproxy.checks.probe import Probe
from lbproxy.checks.schedule import DOUBTED, USUAL, Schedule
from lbproxy.config.model import HealthConfig
from tests.support.wait import FACTOR

uvloop.new_event_loop().close()  # libuv keeps a pipe from its first loop on, which no test is to be blamed for

UP = CheckResult(State.UP, "port open", "ok")
REFUSED = CheckResult(State.DOWN, "connection refused", "refused")
NEVER = 3600.0


class Run:
    """A checker at work on ports of this machine; `results` and `times` grow."""

    def __init__(self, health: HealthConfig, endpoint: Endpoint) -> None:
        self.results: list[CheckResult] = []
        self.times: list[float] = []
        self.pace = USUAL
        schedule = Schedule(health.interval, "")
        self.checker = Checker(schedule, Probe(health, "m1.example:6443"), endpoint, self._observe)
        self._heard = asyncio.Event()

    def _observe(self, result: CheckResult, _took: float) -> int:
        self.results.append(result)
        self.times.append(asyncio.get_running_loop().time())
        self._heard.set()
        return self.pace

    async def heard(self, count: int) -> None:
        """Wait until there are `count` results."""
        async with asyncio.timeout(10 * FACTOR):
            while len(self.results) < count:
                self._heard.clear()
                await self._heard.wait()


@contextlib.asynccontextmanager
async def running(run: Run) -> AsyncIterator[Run]:
    """Let it work within the block."""
    task = asyncio.create_task(run.checker.run())
    try:
        yield run
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@contextlib.contextmanager
def port() -> Any:
    """Give a port that listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def at(port: int) -> Endpoint:
    """Return the endpoint of a port."""
    return socket.AF_INET, ("127.0.0.1", port)


def often(kind: str = "tcp") -> HealthConfig:
    """Return checks as frequent as may be configured."""
    return HealthConfig(type=kind, interval=0.1)  # type: ignore[arg-type]


def test_checks_go_on_for_ever_and_follow_the_server() -> None:
    """Up while it listens, down when it does not."""

    async def main() -> None:
        with port() as number:
            run = Run(often(), at(number))
            async with running(run):
                await run.heard(2)
                assert set(run.results) == {UP}
        run = Run(often(), at(number))
        async with running(run):
            await run.heard(2)
        assert set(run.results) == {REFUSED}

    uvloop.run(main())


def test_the_first_check_comes_at_once_and_the_next_soon_while_in_doubt() -> None:
    """With an interval of an hour neither waits for it."""

    async def main() -> None:
        with port() as number:
            run = Run(HealthConfig(type="tcp", interval=NEVER), at(number))
            run.pace = DOUBTED
            async with running(run):
                await run.heard(2)

    uvloop.run(main())


def test_a_hurry_brings_the_next_check_forward() -> None:
    """Traffic has failed: the hour is not waited for, before the first check or after it."""

    async def main() -> None:
        with port() as number:
            run = Run(HealthConfig(type="tcp", interval=NEVER), at(number))
            async with running(run):
                for count in (1, 2):
                    run.checker.hurry()
                    await run.heard(count)

    uvloop.run(main())


def test_hurries_without_end_do_not_ask_more_often_than_allowed() -> None:
    """A server that fails all its traffic is not flooded with questions as well."""

    async def main() -> None:
        with port() as number:
            run = Run(often(), at(number))
            async with running(run):
                async with asyncio.timeout(10 * FACTOR):
                    while len(run.results) < 8:
                        run.checker.hurry()
                        await asyncio.sleep(0.001)
            elapsed = run.times[-1] - run.times[0]
            assert (len(run.times) - 1) * 0.1 <= elapsed + 0.05

    uvloop.run(main())


def test_now_and_then_the_connection_is_a_fresh_one() -> None:
    """A kept one still works when the port is closed to others: so every twelfth is new, and every one in doubt."""

    async def main() -> None:
        accepted = 0

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal accepted
            accepted += 1
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                while await reader.readuntil(b"\r\n\r\n"):
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        run = Run(often("http"), at(server.sockets[0].getsockname()[1]))
        async with running(run):
            await run.heard(24)
            assert 2 <= accepted <= 3
            run.pace = DOUBTED
            await run.heard(28)
            assert accepted >= 5
        server.close()
        await server.wait_closed()

    uvloop.run(main())


def test_a_question_that_hangs_delays_no_other() -> None:
    """Each server has a checker of its own."""

    async def main() -> None:
        with port() as hung, port() as live:
            stuck = Run(HealthConfig(type="http", interval=0.1, timeout=600), at(hung))
            free = Run(often(), at(live))
            async with running(stuck), running(free):
                await free.heard(5)
                assert stuck.results == []

    uvloop.run(main())


def test_what_could_not_be_asked_is_not_observed(caplog: pytest.LogCaptureFixture) -> None:
    """Out of descriptors: what was known of the server stands, and one line says so."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    async def main() -> None:
        with port() as number:
            run = Run(often(), at(number))
            async with running(run):
                await run.heard(1)
                resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
                try:
                    before = len(run.results)
                    await asyncio.sleep(0.5)
                    assert len(run.results) == before
                finally:
                    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
                await run.heard(before + 1)
            assert set(run.results) == {UP}

    with caplog.at_level(logging.WARNING, "lbproxy"):
        uvloop.run(main())
    assert caplog.messages == ["m1.example:6443 cannot be checked, what was known of it stands: too many open files"]
