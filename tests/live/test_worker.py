"""A worker process, called as the supervisor calls it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from socket import SocketType

import pytest

from lbproxy.config.load import loads
from lbproxy.config.model import Address, Config
from lbproxy.errors import LbproxyError
from lbproxy.net import sockets as socks
from lbproxy.process.worker import WorkerProcess
from lbproxy.tasks import Tasks
from tests.support.clients import greeting
from tests.support.ports import free_port, free_ports
from tests.support.servers import Echo

Test = Callable[[WorkerProcess, Config, dict[Address, SocketType]], Awaitable[None]]


def config_of(servers: list[str], *listens: str) -> Config:
    """Return a configuration of one proxy."""
    return loads(f"proxies: {{p: {{listen: {list(listens)}, servers: {servers}}}}}", "x")


def listeners_of(config: Config) -> dict[Address, SocketType]:
    """Listen on every address of it."""
    return {address: socks.listen("p", address) for address in config.proxies["p"].listen}


@asynccontextmanager
async def started(config: Config, listeners: dict[Address, SocketType]) -> AsyncIterator[WorkerProcess]:
    """Run a worker process."""
    tasks = Tasks()
    worker = WorkerProcess(0, tasks)
    try:
        await worker.start(config, listeners)
        yield worker
    finally:
        await worker.dismiss()
        await tasks.cancel()
        for sock in listeners.values():
            sock.close()


async def greeted(port: int) -> str:
    """Return the name of the server that a new connection reaches."""
    return await asyncio.to_thread(greeting, port)


def test_it_serves_on_the_sockets_that_it_is_given_and_does_what_it_is_told() -> None:
    """At the start and with a reload; the answers are those of the App."""
    first, second = free_ports(2)

    async def run(echo: Echo) -> None:
        config = config_of([echo.address], f"127.0.0.1:{first}")
        async with started(config, listeners_of(config)) as worker:
            assert await greeted(first) == "a"
            more = config_of([echo.address], f"127.0.0.1:{first}", f"127.0.0.1:{second}")
            address = Address("127.0.0.1", second)
            with closing(socks.listen("p", address)) as opened:
                lines = await worker.call("apply", more, listeners={address: opened})
            assert lines == [f"p: listen {address} opened"]
            assert await greeted(second) == "a"
            assert (await worker.call("snapshot")).proxies[0].connections_total == 2
            assert [await worker.call("set_drain", name, True) for name in (echo.address, "nobody")] == [True, False]

    with Echo("a") as echo:
        asyncio.run(run(echo))


def test_what_it_refuses_is_an_error_here_and_it_lives() -> None:
    """A worker has the files of its own to read, and what cannot be done there must not end it."""

    async def run() -> None:
        config = config_of(["127.0.0.1:1"], f"127.0.0.1:{free_port()}")
        async with started(config, listeners_of(config)) as worker:
            wrong = loads("proxies: {p: {listen: ['127.0.0.1:2'], servers: ['127.0.0.1:1'], "
                          "health: {ca_file: /nothing/there}}}", "x")  # fmt: skip
            with pytest.raises(LbproxyError, match="/nothing/there"):
                await worker.call("apply", wrong)
            assert (await worker.call("snapshot")).generation == 1

    asyncio.run(run())


def test_a_worker_that_does_not_answer_costs_only_patience() -> None:
    """Late answers go to the calls that they belong to, and not to the next one."""

    async def run() -> None:
        config = config_of(["127.0.0.1:1"], f"127.0.0.1:{free_port()}")
        async with started(config, listeners_of(config)) as worker:
            os.kill(worker.pid, signal.SIGSTOP)
            try:
                for _ in range(3):
                    with pytest.raises(LbproxyError, match="does not answer"):
                        await worker.call("connections", patience=0.05)
            finally:
                os.kill(worker.pid, signal.SIGCONT)
            assert (await worker.call("snapshot")).generation == 1
            assert await worker.call("connections") == []

    asyncio.run(run())


def test_a_worker_that_is_gone_is_said_to_be(capfd: pytest.CaptureFixture[str]) -> None:
    """Also to who is waiting for its answer, and at once."""

    async def run() -> None:
        config = config_of(["127.0.0.1:1"], f"127.0.0.1:{free_port()}")
        async with started(config, listeners_of(config)) as worker:
            os.kill(worker.pid, signal.SIGSTOP)
            asked = asyncio.gather(worker.call("snapshot"), return_exceptions=True)
            await asyncio.sleep(0)
            os.kill(worker.pid, signal.SIGKILL)
            assert [str(error) for error in await asked] == ["worker 0 has ended"]
            assert await worker.ended() == -signal.SIGKILL
            with pytest.raises(LbproxyError, match="has ended"):
                await worker.call("snapshot")

    asyncio.run(run())
    assert "Traceback" not in capfd.readouterr().err


def test_an_unknown_call_ends_it() -> None:
    """Parent and worker are one program: what does not fit is a bug, and its traceback is wanted."""

    async def run() -> None:
        config = config_of(["127.0.0.1:1"], f"127.0.0.1:{free_port()}")
        async with started(config, listeners_of(config)) as worker:
            with pytest.raises(LbproxyError, match="has ended"):
                await worker.call("_bind", {})
            assert await worker.ended() == 1

    asyncio.run(run())


def test_a_worker_imports_nothing_of_the_directory_it_is_started_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file called pickle.py there would be run, with the rights of the proxy."""
    (tmp_path / "pickle.py").write_text("raise SystemExit('this is not pickle')\n")
    monkeypatch.chdir(tmp_path)
    port = free_port()

    async def run(echo: Echo) -> None:
        config = config_of([echo.address], f"127.0.0.1:{port}")
        async with started(config, listeners_of(config)):
            assert await greeted(port) == "a"

    with Echo("a") as echo:
        asyncio.run(run(echo))
