"""A worker process, called as the supervisor calls it."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from socket import SocketType

import pytest

from lbproxy.balance.checked import CheckResult
from lbproxy.balance.pool import Pool
from lbproxy.balance.state import State
from lbproxy.balance.suspicion import TrafficResult
from lbproxy.config.load import loads
from lbproxy.config.model import Address, Config
from lbproxy.errors import LbproxyError
from lbproxy.net import sockets as socks
from lbproxy.proxy.backend import Backend
from lbproxy.proxy.crew import Picture, paint
from lbproxy.status.snapshot import Snapshot
from lbproxy.tasks import Tasks
from lbproxy.workers.board import OPEN, Board, Columns
from lbproxy.workers.estate import Estate
from lbproxy.workers.member import Member
from lbproxy.workers.nursery import Nursery
from lbproxy.workers.wire import Heard
from tests.support.clients import connect, greeting, receive_line
from tests.support.ports import free_port, free_ports
from tests.support.servers import Echo


def config_of(servers: list[str], *listens: str) -> Config:
    """Return a configuration of one proxy."""
    return loads(f"proxies: {{p: {{listen: {list(listens)}, servers: {servers}}}}}", "x")


def listeners_of(config: Config) -> dict[Address, SocketType]:
    """Listen on every address of it."""
    return {address: socks.listen("p", address) for address in config.proxies["p"].listen}


class Place:
    """A worker process on a board of one row, and what a supervisor would have of it."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.listeners = listeners_of(config)
        self.board = Board.create(1)
        self.nursery = Nursery.start()
        self.tasks = Tasks()
        self.heard: list[Heard] = []
        self.holding = Estate(None).holding()
        self.worker = Member(0, self.tasks, self.heard.append, self.holding.part)
        pool = Pool(config.proxies["p"], "node", 0.0)
        self.backend = Backend("p", config.proxies["p"], pool, lambda server, transition: None, lambda server: None)
        self.backend.pool.shares = self.board.shares()
        self.columns = Columns(self.board)
        self.point()

    def point(self) -> None:
        """Give every server its address."""
        for group in self.backend.pool.groups:
            address = group.settings.address
            self.backend.resolved(group, [(socket.AF_INET, (address.host, address.port))], 0.0)

    def pictures(self) -> dict[str, Picture]:
        """Return how the servers are."""
        return {"p": paint(self.backend, self.columns.of)}


@asynccontextmanager
async def started(config: Config) -> AsyncIterator[Place]:
    """Run a worker process that serves."""
    place = Place(config)
    worker = place.worker
    try:
        await worker.start(place.nursery, place.board, config, place.listeners)
        await worker.call("adopt", place.pictures(), [])
        await worker.call("begin")
        yield place
    finally:
        await worker.dismiss()
        place.nursery.close()
        await place.tasks.cancel()
        place.holding.forget()
        for sock in place.listeners.values():
            sock.close()
        place.board.close()


async def greeted(port: int) -> str:
    """Return the name of the server that a new connection reaches."""
    return await asyncio.to_thread(greeting, port)


def test_it_serves_on_the_sockets_that_it_is_given_and_does_what_it_is_told() -> None:
    """At the start and with a reload; what it carries stands on the board."""
    first, second = free_ports(2)

    async def run(echo: Echo) -> None:
        config = config_of([echo.address], f"127.0.0.1:{first}")
        async with started(config) as place:
            worker = place.worker
            assert await greeted(first) == "a"
            more = config_of([echo.address], f"127.0.0.1:{first}", f"127.0.0.1:{second}")
            address = Address("127.0.0.1", second)
            with closing(socks.listen("p", address)) as opened:
                await worker.call("apply", more, place.pictures(), [address], fds=[opened.fileno()])
            assert await greeted(second) == "a"
            snapshot = await worker.call("snapshot")
            assert isinstance(snapshot, Snapshot)
            assert (snapshot.pid, snapshot.proxies[0].connections_total) == (worker.pid, 2)
            assert [await worker.call("set_drain", name, True) for name in (echo.address, "nobody")] == [True, False]

    with Echo("a") as echo:
        asyncio.run(run(echo))


def test_it_believes_what_it_is_told_and_tells_what_it_sees() -> None:
    """A server that is down for others is one for it, and what it finds out itself others hear of."""
    port, closed = free_ports(2)

    async def run(echo: Echo) -> None:
        config = config_of([f"127.0.0.1:{closed}", echo.address], f"127.0.0.1:{port}")
        async with started(config) as place:
            for _ in range(4):
                assert await greeted(port) == "a"
            failures = [each for each in place.heard if isinstance(each.sign, TrafficResult) and each.sign.failure]
            assert [(each.proxy, each.key[1]) for each in failures] == [("p", f"127.0.0.1:{closed}")]
            place.backend.observe(place.backend.pool.servers[1], CheckResult(State.SICK, "500", "http_500"), 1.0)
            place.worker.tell("believe", place.pictures())
            snapshot = await place.worker.call("snapshot")
            assert isinstance(snapshot, Snapshot)
            assert snapshot.proxies[0].servers[1].state is State.SICK

    with Echo("a") as echo:
        asyncio.run(run(echo))


def test_what_it_counts_stands_on_the_board_until_the_connection_is_over() -> None:
    """By server, by configured name, by proxy, and all of it."""
    port = free_port()

    async def run(echo: Echo) -> None:
        async with started(config_of([echo.address], f"127.0.0.1:{port}")) as place:
            client = await asyncio.to_thread(connect, port)
            await asyncio.to_thread(receive_line, client)
            assert [server.carried() for server in place.backend.pool.servers] == [1]
            assert place.board.column(OPEN) == [1]
            client.close()
            while place.board.column(OPEN) != [0]:
                await asyncio.sleep(0.01)
            assert [server.carried() for server in place.backend.pool.servers] == [0]

    with Echo("a") as echo:
        asyncio.run(run(echo))


def test_a_worker_that_does_not_answer_costs_only_patience() -> None:
    """Late answers go to the calls that they belong to, and not to the next one."""

    async def run() -> None:
        async with started(config_of(["127.0.0.1:1"], f"127.0.0.1:{free_port()}")) as place:
            worker = place.worker
            os.kill(worker.pid, signal.SIGSTOP)
            try:
                for _ in range(3):
                    with pytest.raises(LbproxyError, match="does not answer"):
                        await worker.call("connections", patience=0.05)
            finally:
                os.kill(worker.pid, signal.SIGCONT)
            assert isinstance(await worker.call("snapshot"), Snapshot)
            assert await worker.call("connections") == []

    asyncio.run(run())


def test_a_worker_that_is_gone_is_said_to_be(capfd: pytest.CaptureFixture[str]) -> None:
    """Also to who is waiting for its answer, and at once."""

    async def run() -> None:
        async with started(config_of(["127.0.0.1:1"], f"127.0.0.1:{free_port()}")) as place:
            worker = place.worker
            os.kill(worker.pid, signal.SIGSTOP)
            asked = asyncio.gather(worker.call("snapshot"), return_exceptions=True)
            await asyncio.sleep(0)
            os.kill(worker.pid, signal.SIGKILL)
            assert [str(error) for error in await asked] == ["worker 1 has ended"]
            await worker.ended.wait()
            with pytest.raises(LbproxyError, match="has ended"):
                await worker.call("snapshot")

    asyncio.run(run())
    assert "Traceback" not in capfd.readouterr().err


def test_an_unknown_call_ends_it(capfd: pytest.CaptureFixture[str]) -> None:
    """Parent and worker are one program: what does not fit is a bug, and its traceback is wanted."""

    async def run() -> None:
        async with started(config_of(["127.0.0.1:1"], f"127.0.0.1:{free_port()}")) as place:
            with pytest.raises(LbproxyError, match="has ended"):
                await place.worker.call("_bind", {})
            await place.worker.ended.wait()

    asyncio.run(run())
    assert "KeyError: '_bind'" in capfd.readouterr().err


def test_a_nursery_that_is_gone_is_said_to_be() -> None:
    """Whoever wants a worker then starts another one."""
    nursery = Nursery.start()
    nursery.close()
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(OSError, match="descriptor"):
        nursery.bear(ours, theirs)


def test_a_worker_imports_nothing_of_the_directory_it_is_started_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file called pickle.py there would be run, with the rights of the proxy."""
    (tmp_path / "pickle.py").write_text("raise SystemExit('this is not pickle')\n")
    monkeypatch.chdir(tmp_path)
    port = free_port()

    async def run(echo: Echo) -> None:
        async with started(config_of([echo.address], f"127.0.0.1:{port}")):
            assert await greeted(port) == "a"

    with Echo("a") as echo:
        asyncio.run(run(echo))
