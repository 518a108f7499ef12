"""Several workers, hired and replaced as the supervisor has it done."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

import pytest

from lbproxy.config.model import Config
from lbproxy.errors import LbproxyError
from lbproxy.status.snapshot import Snapshot
from lbproxy.workers.crew import Crew, Orders
from lbproxy.workers.estate import Estate
from lbproxy.workers.handing import CrewHanding
from tests.live.test_worker import Place, config_of
from tests.support.clients import connect, greeting, receive, receive_line
from tests.support.ports import free_port
from tests.support.servers import Echo
from tests.support.wait import FACTOR


class Hired:
    """A crew of one on a board of its own; `refuse` has no new worker told what it must know."""

    def __init__(self, config: Config) -> None:
        self.place = Place(config)
        self.refuse = False
        self.crew = Crew(self.place.board, Estate(None), self.place.nursery, self.orders, self.place.heard.append)

    def orders(self) -> Orders:
        """Return them."""
        if self.refuse:
            raise LbproxyError("there is no such file")
        return Orders(self.place.config, self.place.listeners, self.place.pictures(), [])


@asynccontextmanager
async def hired(config: Config) -> AsyncIterator[Hired]:
    """Have a crew serve."""
    made = Hired(config)
    try:
        await made.crew.hire()
        await made.crew.begin([])
        yield made
    finally:
        await made.crew.dismiss()
        for member in made.crew.members:
            made.crew.holding(member).forget()
        for sock in made.place.listeners.values():
            sock.close()
        made.place.board.close()


class Held(NamedTuple):
    """A crew of one with a connection."""

    made: Hired
    handing: CrewHanding
    client: socket.socket

    async def works(self) -> bool:
        """Whether bytes come back."""
        self.client.sendall(b"still there?")
        return await asyncio.to_thread(receive, self.client, 12) == b"still there?"


@asynccontextmanager
async def held(echo: Echo) -> AsyncIterator[Held]:
    """Have a crew serve a client that has heard from `echo`."""
    port = free_port()
    async with hired(config_of([echo.address], f"127.0.0.1:{port}")) as made:
        with await asyncio.to_thread(connect, port) as client:
            await asyncio.to_thread(receive_line, client)
            yield Held(made, CrewHanding(made.crew, made.place.listeners, list, None), client)


async def once(probe: Callable[[], bool]) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(20 * FACTOR):
        while not probe():
            await asyncio.sleep(0.01)


def test_what_a_worker_has_left_waits_for_one_that_can_be_started(caplog: pytest.LogCaptureFixture) -> None:
    """It is tried again and again; meanwhile a reload need not wait, an upgrade is refused, nothing is forgotten."""
    caplog.set_level(logging.INFO)

    async def run(echo: Echo) -> None:
        async with held(echo) as there:
            made, handing, crew = there.made, there.handing, there.made.crew
            while [each.kept for each in await crew.ask(Snapshot, "snapshot")] != [1]:
                await asyncio.sleep(0.05)
            made.refuse = True
            crew.members[0].kill()
            await once(lambda: caplog.text.count("worker 1 cannot be started: there is no such file") == 2)
            async with asyncio.timeout(10 * FACTOR), crew.steady:
                pass
            with pytest.raises(LbproxyError, match="worker 1 is being replaced"):
                await handing.freeze()
            await handing.thaw()
            made.refuse = False
            await once(lambda: crew.replaced == 1)
            assert await there.works()

    with Echo("a") as echo:
        asyncio.run(run(echo))
    assert caplog.text.count("1 of its connections go on with another one, 0 are reset") == 1
    assert "Traceback" not in caplog.text


def test_a_nursery_that_stands_still_is_given_up_for_another_one() -> None:
    """Whoever leads waits for its answer and does nothing else: not for long, once it has given one."""
    port = free_port()

    async def run(echo: Echo) -> None:
        async with hired(config_of([echo.address], f"127.0.0.1:{port}")) as made:
            nursery, (first,) = made.place.nursery, made.crew.members
            os.kill(nursery._pid, signal.SIGSTOP)
            ours, theirs = socket.socketpair()
            with ours, theirs, pytest.raises(TimeoutError):
                nursery.bear(ours, theirs)
            assert nursery._sock.gettimeout() == 1.0
            first.kill()
            await once(lambda: made.crew.replaced == 1)
            assert await asyncio.to_thread(greeting, port) == "a"

    with Echo("a") as echo:
        asyncio.run(run(echo))


def test_one_that_does_not_answer_keeps_nothing_from_going_on(caplog: pytest.LogCaptureFixture) -> None:
    """It was asked to stand still for an upgrade, which is given up; told so as well, it moves again."""

    async def run(echo: Echo) -> None:
        async with held(echo) as there:
            crew, handing = there.made.crew, there.handing
            pid = crew.members[0].pid
            os.kill(pid, signal.SIGSTOP)
            with pytest.raises(LbproxyError, match="worker 1 does not answer"):
                await handing.freeze()
            thawing = asyncio.gather(handing.thaw())
            os.kill(pid, signal.SIGCONT)
            await thawing
            assert await there.works()
            await once(lambda: not crew.late())
            assert len(await handing.freeze()) == 1
            await handing.thaw()

    with Echo("a") as echo:
        asyncio.run(run(echo))
    assert "Traceback" not in caplog.text
