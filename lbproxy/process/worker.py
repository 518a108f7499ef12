"""One of several worker processes, from both ends: `WorkerProcess` in the parent, `serve` with an `App` in the process.

What they say to each other is in `wire`.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from socket import SocketType
from typing import Final

import uvloop

from lbproxy.config.model import Address, Config
from lbproxy.errors import LbproxyError
from lbproxy.handover.inherit import Inherited
from lbproxy.net.poller import Poller
from lbproxy.process import log as logs
from lbproxy.process.app import App
from lbproxy.process.wire import Answer, Call, Start, receive, receive_listeners, send, send_listeners
from lbproxy.tasks import Tasks

log = logging.getLogger(__name__)

PATIENCE: Final = 5.0
"""Seconds that a worker has to answer, or to end."""
_START: Final = 60.0
"""Seconds that it has until it serves."""

_PARENTS: Final = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGQUIT,
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGPIPE,
)
"""Signals that a terminal, or somebody in a hurry, sends to all: the parent hears them and says what to do."""

Verb = Callable[..., Awaitable[object]]


class WorkerProcess:
    """One worker process, seen from the parent."""

    def __init__(self, number: int, tasks: Tasks) -> None:
        self.number = number
        self.pid = 0
        self._tasks = tasks
        self._asked = 0
        self._waiting: dict[int, asyncio.Future[object]] = {}
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
                    "-P",  # nothing of the directory that it happens to be started in
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
        await self._ask(partial(Start, config=config), listeners, _START)

    async def _hear(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                answer = await receive(reader, Answer)
                self._settle(answer.number, answer.result)
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
    ) -> object:
        """Have the worker's App do `verb`; returns what it returned. Raises LbproxyError, also if none is there."""
        return await self._ask(partial(Call, verb=verb, arguments=arguments), listeners or {}, patience)

    async def _ask(
        self, message: Callable[..., Start | Call], listeners: Mapping[Address, SocketType], patience: float
    ) -> object:
        writer, channel = self._writer, self._channel
        if writer is None or channel is None or writer.is_closing():
            raise LbproxyError(f"worker {self.number} has ended")
        self._asked += 1
        number = self._asked
        future = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(patience):
                send_listeners(channel, listeners)
                await send(writer, message(number=number, listeners=list(listeners)))
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
    poller = Poller(asyncio.get_running_loop())
    app: App | None = None
    try:
        start = await receive(reader, Start)
        logs.setup(start.config.log)
        app = App(start.config, poller, Inherited(receive_listeners(channel, start.listeners)), binds=False)
        await _answer(writer, start.number, partial(_start, app))
        verbs = _verbs(app)
        while True:
            call = await receive(reader, Call)
            app.inherit(receive_listeners(channel, call.listeners))
            if call.verb not in verbs:
                raise LbproxyError(f"unknown call {call.verb!r}")
            tasks.spawn(_answer(writer, call.number, partial(verbs[call.verb], *call.arguments)), call.verb)
    except (asyncio.IncompleteReadError, OSError):
        pass
    finally:
        await tasks.cancel()
        if app is not None:
            await app.stop(0)
        poller.close()
        writer.close()


async def _start(app: App) -> None:
    await app.prepare()
    await app.serve()


def _verbs(app: App) -> dict[str, Verb]:
    """Return what a worker can be told to do."""

    async def apply(config: Config) -> list[str]:
        logs.setup(config.log)
        return await app.apply(config)

    return {
        "apply": apply,
        "connections": app.connections,
        "rebalance": app.rebalance,
        "set_drain": app.set_drain,
        "snapshot": app.snapshot,
        "stop": app.stop,
    }


async def _answer(writer: asyncio.StreamWriter, number: int, verb: Verb) -> None:
    result: object
    try:
        result = await verb()
    except LbproxyError as error:
        result = LbproxyError(str(error))
    except Exception as error:
        log.exception("bug: call %d failed", number)
        result = LbproxyError(f"internal error: {error!r}")
    try:
        await send(writer, Answer(number, result))
    except OSError:
        pass  # the parent is gone, which `serve` notices too


def main() -> None:
    """Run a worker; the two sockets' descriptors are the arguments."""
    for ignored in _PARENTS:
        signal.signal(ignored, signal.SIG_IGN)
    calls, channel = (socket.socket(fileno=int(number)) for number in sys.argv[1:3])
    calls.setblocking(False)
    uvloop.run(serve(calls, channel))


if __name__ == "__main__":
    main()
