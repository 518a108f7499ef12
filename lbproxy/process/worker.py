"""One of several worker processes, from both ends: `WorkerProcess` in the parent, `serve` with an `App` in the process.

Two inherited sockets connect them. Over the stream go pickled calls and answers, each with its length in front and
with a number that tells which answer is to which call (both ends are the same program of the same version, and nobody
else holds the other end). Over the datagram socket come the listening sockets, so that all workers accept from the
same backlog and a worker that dies takes none of it along.
"""

from __future__ import annotations

import asyncio
import logging
import pickle
import signal
import socket
import struct
import sys
from collections.abc import Mapping
from socket import SocketType
from typing import Any, Final

import uvloop

from lbproxy.config.model import Address, Config
from lbproxy.errors import LbproxyError
from lbproxy.handover.inherit import Inherited
from lbproxy.process import log as logs
from lbproxy.process.app import App
from lbproxy.tasks import Tasks

log = logging.getLogger(__name__)

_LENGTH: Final = struct.Struct("!I")
_FDS_PER_MESSAGE: Final = 64

PATIENCE: Final = 5.0
"""Seconds that a worker has to answer, or to end."""
_START: Final = 60.0
"""Seconds that it has until it serves."""

VERBS: Final = frozenset({"start", "apply", "connections", "rebalance", "set_drain", "snapshot", "stop"})


async def send(writer: asyncio.StreamWriter, message: object) -> None:
    """Send one message, whole or not at all even if cancelled; raises OSError when the other end is gone."""
    data = pickle.dumps(message)
    writer.write(_LENGTH.pack(len(data)) + data)
    await writer.drain()


async def receive(reader: asyncio.StreamReader) -> Any:
    """Return one message; raises IncompleteReadError or OSError when the other end is gone."""
    (size,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
    return pickle.loads(await reader.readexactly(size))  # noqa: S301 (from our own parent or child only)


def send_listeners(channel: socket.socket, listeners: dict[Address, SocketType]) -> None:
    """Send listening sockets, in the order of `listeners`."""
    fds = [sock.fileno() for sock in listeners.values()]
    for at in range(0, len(fds), _FDS_PER_MESSAGE):
        socket.send_fds(channel, [b"l"], fds[at : at + _FDS_PER_MESSAGE])


def receive_listeners(channel: socket.socket, addresses: list[Address]) -> dict[Address, SocketType]:
    """Return the listening sockets for `addresses`, which have been sent in this order."""
    fds: list[int] = []
    while len(fds) < len(addresses):
        fds += socket.recv_fds(channel, 1, _FDS_PER_MESSAGE)[1]
    return {address: SocketType(fileno=fd) for address, fd in zip(addresses, fds, strict=True)}


class WorkerProcess:
    """One worker process, seen from the parent."""

    def __init__(self, number: int, tasks: Tasks) -> None:
        self.number = number
        self.pid = 0
        self._tasks = tasks
        self._calls = 0
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._process: asyncio.subprocess.Process | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._channel: socket.socket | None = None

    async def start(self, config: Config, listeners: Mapping[Address, SocketType]) -> None:
        """Start the process and wait until it serves; raises LbproxyError. `dismiss` is due in any case."""
        try:
            calls, its_calls = socket.socketpair()
            self._channel, its_channel = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with its_calls, its_channel:
                self._channel.setblocking(False)
                reader, self._writer = await asyncio.open_connection(sock=calls)
                self._process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-m",
                    "lbproxy.process.worker",
                    str(its_calls.fileno()),
                    str(its_channel.fileno()),
                    pass_fds=(its_calls.fileno(), its_channel.fileno()),
                )
        except OSError as error:
            raise LbproxyError(f"no process for worker {self.number}: {error.strerror}") from None
        self.pid = self._process.pid
        self._tasks.spawn(self._hear(reader, self._writer), f"hear worker {self.number}")
        await self.call("start", config, listeners=listeners, patience=_START)

    async def _hear(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                number, answer = await receive(reader)
                self._settle(number, answer)
        except (asyncio.IncompleteReadError, OSError):
            writer.close()
            for number in list(self._waiting):
                self._settle(number, LbproxyError(f"worker {self.number} has ended"))

    def _settle(self, number: int, answer: object) -> None:
        future = self._waiting.pop(number, None)
        if future is not None and not future.done():
            future.set_result(answer)

    async def call(
        self,
        verb: str,
        *arguments: object,
        listeners: Mapping[Address, SocketType] | None = None,
        patience: float = PATIENCE,
    ) -> Any:
        """Have the worker's App do `verb`; returns what it returned. Raises LbproxyError, also if none is there."""
        writer, channel = self._writer, self._channel
        if writer is None or channel is None or writer.is_closing():
            raise LbproxyError(f"worker {self.number} has ended")
        self._calls += 1
        number, listeners = self._calls, dict(listeners or {})
        future = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(patience):
                send_listeners(channel, listeners)
                await send(writer, (number, verb, list(listeners), arguments))
                answer = await future
        except OSError:  # or the timeout
            raise LbproxyError(f"worker {self.number} does not answer") from None
        finally:
            self._waiting.pop(number, None)
        if isinstance(answer, LbproxyError):
            raise answer
        return answer

    async def ended(self) -> int:
        """Return the exit status once it has ended by itself."""
        return await self._process.wait() if self._process is not None else 0

    async def dismiss(self) -> None:
        """Hang up, upon which the worker cuts what it has left and ends; wait for that."""
        if self._writer is not None:
            self._writer.close()
        if self._channel is not None:
            self._channel.close()
        if self._process is not None:
            try:
                async with asyncio.timeout(PATIENCE):
                    await self._process.wait()
            except TimeoutError:
                self._process.kill()
                await self._process.wait()


async def serve(calls: socket.socket, channel: socket.socket) -> None:
    """Do what is asked, several things at a time, until the parent hangs up or is gone; then cut what is left."""
    reader, writer = await asyncio.open_connection(sock=calls)
    tasks = Tasks()
    app: App | None = None

    async def answer(app: App, number: int, verb: str, arguments: tuple[Any, ...]) -> None:
        result: object
        try:
            result = await getattr(app, verb)(*arguments)
        except LbproxyError as error:
            result = LbproxyError(str(error))
        except Exception as error:
            log.exception("bug: %s failed", verb)
            result = LbproxyError(f"internal error: {error!r}")
        try:
            await send(writer, (number, result))
        except OSError:
            pass  # the parent is gone, which `receive` notices too

    try:
        while True:
            number, verb, addresses, arguments = await receive(reader)
            listeners = receive_listeners(channel, addresses)
            for config in arguments:
                if isinstance(config, Config):
                    logs.setup(config.log)
            if verb not in VERBS:
                raise LbproxyError(f"unknown call {verb!r}")
            if app is None:
                app, arguments = App(arguments[0], Inherited(listeners)), ()
            else:
                app.inherit(listeners)
            tasks.spawn(answer(app, number, verb, arguments), verb)
    except (asyncio.IncompleteReadError, OSError):
        pass
    finally:
        await tasks.cancel()
        if app is not None:
            await app.stop(0)
        writer.close()


def main() -> None:
    """Run a worker; the two sockets' descriptors are the arguments."""
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(ignored, signal.SIG_IGN)  # the parent hears them and says what to do
    calls, channel = (socket.socket(fileno=int(number)) for number in sys.argv[1:3])
    calls.setblocking(False)
    uvloop.run(serve(calls, channel))


if __name__ == "__main__":
    main()
