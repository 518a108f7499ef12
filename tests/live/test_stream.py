"""A probe's connection by itself; what it is like towards whole servers is in test_probe.py."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import uvloop

from lbproxy.checks.stream import Stream
from tests.support.certs import Certs
from tests.support.ports import free_port
from tests.support.servers import Echo, Hung, Sink, pattern

uvloop.new_event_loop().close()  # libuv keeps a pipe from its first loop on, which no test is to be blamed for


def on(port: int, use: Callable[[Stream], Awaitable[None]]) -> None:
    """Run `use` with a line to `port`."""

    async def main() -> None:
        line = await Stream.connect((socket.AF_INET, ("127.0.0.1", port)))
        try:
            await use(line)
        finally:
            line.close()

    uvloop.run(main())


def sockets() -> int:
    """Return how many sockets are open."""
    count = 0
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # the one that lists the directory
            count += str(entry.readlink()).startswith("socket:")
    return count


async def read_all(line: Stream) -> bytes:
    """Read to the end of the stream."""
    got = bytearray()
    while data := await line.read():
        got += data
    return bytes(got)


@pytest.mark.parametrize("tls", [False, True])
def test_much_is_written_whole_and_in_order(tls: bool, certs: Certs) -> None:
    """More than the socket takes at once, with and without TLS."""
    data = pattern(0, 8 << 20)

    async def use(line: Stream) -> None:
        if tls:
            await line.shake_hands(certs.client_context(), "localhost")
        got = bytearray()

        async def read() -> None:
            while len(got) < len(data):
                got.extend(await line.read())

        if tls:  # one step of TLS at a time: in turns
            for at in range(0, len(data), 1 << 14):
                await line.write(data[at : at + (1 << 14)])
                while len(got) < at:
                    got.extend(await line.read())
            await read()
        else:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(read())
                await line.write(data)
        assert bytes(got) == data

    with Echo(tls=certs.server_context() if tls else None) as server:
        on(server.port, use)


def test_the_end_of_our_side_is_heard_and_theirs_as_well() -> None:
    """After `leave` the peer's last words can still be read."""

    async def use(line: Stream) -> None:
        await line.write(b"x" * 5)
        line.leave()
        assert (await read_all(line)).startswith(b"5 ")

    with Sink() as server:
        on(server.port, use)


def test_a_refused_connect_is_an_os_error_and_leaves_no_socket() -> None:
    """Whoever asked is told by the error itself."""

    async def main() -> None:
        before = sockets()
        with pytest.raises(ConnectionRefusedError):
            await Stream.connect((socket.AF_INET, ("127.0.0.1", free_port())))
        assert sockets() == before

    uvloop.run(main())


def test_a_cancelled_read_can_be_taken_up_again() -> None:
    """Nothing stays registered with the loop, and nothing is lost."""

    async def use(line: Stream) -> None:
        for _ in range(3):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.01):
                    await line.read()
        await line.write(b"hello")
        assert await line.read() == b"hello"

    with Echo() as server:
        on(server.port, use)


def test_a_closed_line_frees_its_descriptor_at_once() -> None:
    """Whatever the peer does."""

    async def main() -> None:
        before = sockets()
        line = await Stream.connect((socket.AF_INET, ("127.0.0.1", server.port)))
        line.leave()
        line.close()
        line.close()
        assert sockets() == before

    with Hung() as server:
        uvloop.run(main())
