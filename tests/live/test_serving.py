"""Rules of what serves the clients of a listening socket."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Self

from lbproxy.status.serving import Clients
from lbproxy.tasks import Tasks


async def greet_and_stay(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Say hello, and serve until the client leaves."""
    writer.write(b"hello\n")
    await _reader.read()


class Scene:
    """Clients, at most two, behind a unix socket."""

    def __init__(self, path: Path, resting: bool = False) -> None:
        self.path = str(path / "socket")
        self.tasks = Tasks()
        self.clients = Clients(self.greet_and_rest if resting else greet_and_stay, self.tasks, "greeting", limit=2)

    async def greet_and_rest(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Say hello at once and for each line."""
        line = b"at once"
        while line:
            writer.write(b"hello\n")
            self.clients.rest()
            line = await reader.readline()
            self.clients.work()

    async def __aenter__(self) -> Self:
        self.server = await asyncio.start_unix_server(self.clients.accept, self.path)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.server.close()
        await self.clients.close()

    async def connect(self) -> tuple[bytes, asyncio.StreamReader, asyncio.StreamWriter]:
        """Return the first line that a new client gets, empty for one that is cut."""
        reader, writer = await asyncio.open_unix_connection(self.path)
        return await said(reader), reader, writer


async def said(reader: asyncio.StreamReader) -> bytes:
    """Return the next line, empty at the end."""
    with suppress(ConnectionError):
        return await reader.readline()
    return b""


async def gone(clients: Clients, left: int) -> None:
    """Wait until no more than `left` are served."""
    async with asyncio.timeout(10):
        while len(clients) > left:
            await asyncio.sleep(0.01)


def test_more_than_the_limit_are_cut_until_one_has_left(tmp_path: Path) -> None:
    """What surrounds the proxy may not cost it more than so much."""

    async def scene() -> None:
        async with Scene(tmp_path) as here:
            (one, _, first), (two, _, second) = await here.connect(), await here.connect()
            three, _, third = await here.connect()
            assert (one, two, three) == (b"hello\n", b"hello\n", b"")
            first.close()
            await gone(here.clients, 1)
            again, _, fourth = await here.connect()
            assert again == b"hello\n"
            for writer in (second, third, fourth):
                writer.close()

    asyncio.run(scene())


def test_who_has_rested_for_longest_makes_room(tmp_path: Path) -> None:
    """Scrapers keep their connections; a probe that comes after them is not the one to go."""

    async def scene() -> None:
        async with Scene(tmp_path, resting=True) as here:
            (_, reader_one, first), (_, reader_two, second) = await here.connect(), await here.connect()
            first.write(b"again\n")  # so the second one rests for longer
            assert await said(reader_one) == b"hello\n"
            three, _, third = await here.connect()
            assert three == b"hello\n"
            assert await said(reader_two) == b""
            first.write(b"again\n")
            assert await said(reader_one) == b"hello\n"
            for writer in (first, second, third):
                writer.close()

    asyncio.run(scene())


def test_the_end_cuts_everybody_and_leaves_no_task(tmp_path: Path) -> None:
    """Also one whose task has not had its first step, which runs no finally of its own."""

    async def scene() -> None:
        async with Scene(tmp_path) as here:
            _, reader, writer = await here.connect()
            late_reader, late = await asyncio.open_unix_connection(here.path)
            while len(here.clients) < 2:
                await asyncio.sleep(0)
            await here.clients.close()
            assert len(here.clients) == 0
            assert await said(reader) == b""
            assert await said(late_reader) in (b"", b"hello\n")
            assert not here.tasks._running
            for each in (writer, late):
                each.close()

    asyncio.run(scene())
