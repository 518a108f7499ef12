"""One of several workers, from outside: `worker` is the same from inside, `wire` what the two say."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from socket import SocketType
from typing import Final

from lbproxy.config.model import Address, Config
from lbproxy.errors import LbproxyError
from lbproxy.tasks import Tasks
from lbproxy.workers.board import Board
from lbproxy.workers.nursery import Nursery
from lbproxy.workers.wire import Answer, Call, Heard, Line, Start, fds_of, packed, parts_sent, receive, send_fds

PATIENCE: Final = 5.0
"""Seconds that a worker has to answer."""

Part = Callable[[bool, str, list[int]], None]
"""Called with what a worker wants kept or forgotten: which, the name of the part, its descriptors."""


class Member:
    """A worker process. `heard` is called with what it sees of servers, `part` with what it wants kept."""

    def __init__(self, row: int, tasks: Tasks, heard: Callable[[Heard], None], part: Part) -> None:
        self.row = row
        self.pid = 0
        self.ended = asyncio.Event()
        """Set once the process is gone."""
        self._tasks = tasks
        self._heard = heard
        self._part = part
        self._asked = 0
        self._waiting: dict[int, asyncio.Future[object]] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._channel: socket.socket | None = None
        self._pidfd = -1

    async def start(
        self, nursery: Nursery, board: Board, config: Config, listeners: Mapping[Address, SocketType]
    ) -> None:
        """Have the process born, and wait until it listens to what it is told; raises LbproxyError.

        `dismiss` is due in any case.
        """
        try:
            calls, its_calls = socket.socketpair()
            self._channel, its_channel = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with its_calls, its_channel:
                self._channel.setblocking(False)
                reader, self._writer = await asyncio.open_connection(sock=calls)
                self.pid = nursery.bear(its_calls, its_channel)
            self._watch()
            send_fds(self._channel, [board.fd, *fds_of(listeners)])
        except OSError as error:
            raise LbproxyError(f"no process for worker {self.row + 1}: {error.strerror or error}") from None
        asyncio.get_running_loop().add_reader(self._channel, self.take_parts)
        self._tasks.spawn(self._hear(reader), f"hear worker {self.row + 1}")
        await self._ask(
            partial(Start, row=self.row, rows=board.rows, config=config, listeners=list(listeners)), PATIENCE
        )

    def _watch(self) -> None:
        try:
            self._pidfd = os.pidfd_open(self.pid)
        except ProcessLookupError:
            self.ended.set()
        else:
            asyncio.get_running_loop().add_reader(self._pidfd, self._gone)

    def _gone(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._pidfd = -1
        self.take_parts()
        self.ended.set()

    def take_parts(self) -> None:
        """Take in what it has sent to be kept by now."""
        if self._channel is not None:
            for part in parts_sent(self._channel):
                self._part(*part)

    async def _hear(self, reader: asyncio.StreamReader) -> None:
        try:
            while True:
                self._take(await receive(reader, Answer, Heard, Line))
        except (asyncio.IncompleteReadError, OSError):
            if self._writer is not None:
                self._writer.close()
            for number in list(self._waiting):
                self._settle(number, LbproxyError(f"worker {self.row + 1} has ended"))

    def _take(self, message: Answer | Heard | Line) -> None:
        if isinstance(message, Answer):
            self.take_parts()  # it may have sent something before it answered
            self._settle(message.number, message.result)
        elif isinstance(message, Heard):
            self._heard(message)
        else:
            record = logging.LogRecord(message.logger, message.level, "", 0, message.text, None, None)
            record.created = message.created
            logging.getLogger(message.logger).handle(record)

    def _settle(self, number: int, answer: object) -> None:
        future = self._waiting.pop(number, None)
        if future is not None and not future.done():
            future.set_result(answer)

    async def call(self, verb: str, *arguments: object, fds: Sequence[int] = (), patience: float = PATIENCE) -> object:
        """Have the worker do `verb`; returns what came of it. Raises LbproxyError, also if none is there."""
        return await self._ask(partial(Call, verb=verb, arguments=arguments, fds=len(fds)), patience, fds)

    async def outcome(
        self, verb: str, *arguments: object, fds: Sequence[int] = (), patience: float = PATIENCE
    ) -> object:
        """Do as `call`, and return the LbproxyError: for a task that somebody asks for it later."""
        try:
            return await self.call(verb, *arguments, fds=fds, patience=patience)
        except LbproxyError as error:
            return error

    def tell(self, verb: str, *arguments: object) -> None:
        """Have the worker do `verb`, without an answer."""
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(packed(Call(0, verb, arguments, 0)))

    async def _ask(self, message: Callable[..., Start | Call], patience: float, fds: Sequence[int] = ()) -> object:
        writer, channel = self._writer, self._channel
        if writer is None or channel is None or writer.is_closing():
            raise LbproxyError(f"worker {self.row + 1} has ended")
        self._asked += 1
        number = self._asked
        future = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(patience):
                send_fds(channel, fds)
                writer.write(packed(message(number=number)))
                await writer.drain()
                answer = await future
        except OSError:  # or the timeout
            raise LbproxyError(f"worker {self.row + 1} does not answer") from None
        finally:
            self._waiting.pop(number, None)
        if isinstance(answer, LbproxyError):
            raise answer
        return answer

    def kill(self) -> None:
        """End it, whatever it does."""
        if self.pid and not self.ended.is_set():
            try:
                os.kill(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    async def dismiss(self) -> None:
        """Hang up, upon which it ends without touching a socket; wait for that."""
        if self._writer is not None:
            self._writer.close()
        if self.pid:
            try:
                async with asyncio.timeout(PATIENCE):
                    await self.ended.wait()
            except TimeoutError:
                self.kill()
                await self.ended.wait()
        if self._channel is not None:
            asyncio.get_running_loop().remove_reader(self._channel)
            self._channel.close()
            self._channel = None
