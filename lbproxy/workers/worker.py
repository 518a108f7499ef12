"""One of several workers, from inside: the `App` of one process, which does what the supervisor says.

`member` is the same from outside, `wire` what the two say.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

import uvloop

from lbproxy.balance.server import Server
from lbproxy.config.model import Address, Config
from lbproxy.errors import LbproxyError
from lbproxy.handover.fdqueue import FdQueue, receive
from lbproxy.handover.inherit import Inherited
from lbproxy.net.poller import Poller
from lbproxy.process import log as logs
from lbproxy.proxy.backend import Backend, Sign
from lbproxy.proxy.crew import Crew, Picture
from lbproxy.status.snapshot import Snapshot
from lbproxy.tasks import Tasks
from lbproxy.workers.board import OPEN, Board
from lbproxy.workers.follower import Follower
from lbproxy.workers.wire import (
    FORGET,
    FROZEN,
    STORE,
    Answer,
    Call,
    Heard,
    Line,
    Start,
    listeners_of,
    packed,
    receive_fds,
)
from lbproxy.workers.wire import (
    receive as next_message,
)

log = logging.getLogger(__name__)

BEAT: Final = 0.5
"""Seconds between two heartbeats."""
LAGS: Final = 30
"""Heartbeats that the lag shown is the worst of: a usual scrape interval."""
_TAKE: Final = 5.0
"""Seconds that the supervisor has to take the connections of a worker that stands still."""

Verb = Callable[..., Awaitable[object]]


class Safe:
    """The worker's fd store: the supervisor keeps what it would lose if it were killed."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel

    def store(self, name: str, fds: Sequence[int]) -> None:
        """Have copies of descriptors kept under a name."""
        self._send(STORE + name.encode(), fds)

    def forget(self, name: str) -> None:
        """Have those under a name closed."""
        self._send(FORGET + name.encode(), [])

    def _send(self, message: bytes, fds: Sequence[int]) -> None:
        try:
            socket.send_fds(self._channel, [message], fds)
        except OSError as error:
            log.warning("the supervisor does not take what is to be kept: %s", error.strerror)


class Worker:
    """What this process is told to do, by verb."""

    def __init__(self, start: Start, poller: Poller, writer: asyncio.StreamWriter, channel: socket.socket) -> None:
        fds = receive_fds(channel, 1 + len(start.listeners))
        self._board = Board(fds[0], start.rows, start.row)
        shares = self._board.shares()
        self._lags = deque([0.0], maxlen=LAGS)
        self._writer = writer
        self._channel = channel
        self._inherited = Inherited(listeners_of(start.listeners, fds[1:]))
        crew = Crew(shares, self._heard, follows=True)
        self._app = Follower(start.config, poller, self._inherited, Safe(channel), crew, shares.cell(OPEN))
        app = self._app
        self.verbs: dict[str, Verb] = {
            "adopt": self._adopt,
            "apply": self._apply,
            "begin": app.begin,
            "believe": self._believe,
            "connections": app.connections,
            "freeze": self._freeze,
            "leave": app.handover.leave,
            "even_out": app.even_out,
            "set_drain": app.set_drain,
            "snapshot": self._snapshot,
            "stop": app.stop,
            "thaw": app.handover.thaw,
        }

    def _heard(self, backend: Backend, server: Server, sign: Sign) -> None:
        self._writer.write(packed(Heard(backend.name, server.key, server.endpoint, sign)))

    async def beat(self) -> None:
        """Say again and again that the loop turns, and measure how late it does."""
        loop = asyncio.get_running_loop()
        while True:
            self._board.beat()
            due = loop.time() + BEAT
            await asyncio.sleep(BEAT)
            self._lags.append(max(0.0, loop.time() - due))

    async def _snapshot(self) -> Snapshot:
        return replace(await self._app.snapshot(), loop_lag_seconds=max(self._lags))

    async def _adopt(self, pictures: Mapping[str, Picture], drained: list[str], fds: Sequence[int] = ()) -> None:
        """Take over the connections in the queues `fds`, at rest and kept."""
        app = self._app
        self._inherited.state["drained"] = drained
        await app.prepare()
        app.believe(pictures)
        for fd in fds:
            with socket.socket(fileno=fd) as queue:
                found, _, wrong = receive(queue, until_closed=True)
            self._inherited.rested += found
            if wrong:
                raise LbproxyError(wrong[0])
        app.adopt()

    async def _apply(
        self, config: Config, pictures: Mapping[str, Picture], opened: list[Address], fds: Sequence[int] = ()
    ) -> None:
        self._app.inherit(listeners_of(opened, fds))
        logs.relay(config.log, self._say)
        await self._app.apply(config)
        self._app.believe(pictures)

    async def _believe(self, pictures: Mapping[str, Picture]) -> None:
        self._app.believe(pictures)

    async def _freeze(self) -> bool:
        """Come to rest, and give the supervisor every connection; returns whether it has them all."""
        parcels = await self._app.handover.freeze()
        queue = FdQueue()
        queue.sender.settimeout(_TAKE)
        Safe(self._channel).store(FROZEN, [queue.receiver.fileno()])
        queue.receiver.close()
        try:
            return queue.send(parcels)
        finally:
            queue.sender.close()

    def _say(self, record: logging.LogRecord) -> None:
        """Have a line written by the supervisor."""
        if not self._writer.is_closing():
            self._writer.write(packed(Line(record.levelno, record.name, logs.whole(record), record.created)))

    def abandon(self) -> None:
        """See `Follower`."""
        self._app.abandon()

    def listen_to_log(self, config: Config) -> None:
        """Pass what is logged here on to the supervisor from now on."""
        logs.relay(config.log, self._say)


async def serve(calls: socket.socket, channel: socket.socket) -> None:
    """Do what is asked, several things at a time, until the supervisor hangs up or is gone."""
    reader, writer = await asyncio.open_connection(sock=calls)
    tasks = Tasks()
    poller = Poller(asyncio.get_running_loop())
    worker: Worker | None = None
    try:
        start = await next_message(reader, Start)
        worker = Worker(start, poller, writer, channel)
        worker.listen_to_log(start.config)
        tasks.forever(worker.beat, "tick")
        await _answer(writer, start.number, None)
        while True:
            call = await next_message(reader, Call)
            fds = [receive_fds(channel, call.fds)] if call.fds else []
            verb = partial(worker.verbs[call.verb], *call.arguments, *fds)
            tasks.spawn(_answer(writer, call.number, verb), call.verb)
    except (asyncio.IncompleteReadError, OSError):
        # The supervisor has gone, or has all that is here. What was kept somebody else goes on with, or the kernel
        # resets it: nothing of that is to be shut down any more.
        if worker is not None:
            worker.abandon()
        logs.finish()
        os._exit(0)


async def _answer(writer: asyncio.StreamWriter, number: int, verb: Verb | None) -> None:
    result: object = None
    try:
        if verb is not None:
            result = await verb()
    except LbproxyError as error:
        result = LbproxyError(str(error))
    except Exception as error:
        log.exception("bug: call %d failed", number)
        result = LbproxyError(f"internal error: {error!r}")
    if number and not writer.is_closing():
        writer.write(packed(Answer(number, result)))


def main(calls: int, channel: int) -> None:
    """Run a worker, which is told what to do over these two sockets."""
    logs.born()
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    stream = socket.socket(fileno=calls)
    stream.setblocking(False)
    uvloop.run(serve(stream, socket.socket(fileno=channel)))
