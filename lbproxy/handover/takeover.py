"""The new process's side of an upgrade: it takes over from the process that has started it. See `steps`."""

from __future__ import annotations

import os
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from socket import SocketType
from typing import Final

from lbproxy import __version__
from lbproxy.errors import HandoverError
from lbproxy.handover.fdqueue import receive, receive_message
from lbproxy.handover.inherit import Inherited, address_of
from lbproxy.handover.marks import Marks
from lbproxy.handover.messages import Connections, Go, Have, Hello, Kind, Message, Ready, Refused, decode, encode
from lbproxy.handover.parcel import VERSION
from lbproxy.handover.steps import Step, begin
from lbproxy.handover.upgrade import VARIABLE

_GONE: Final = "the process to take over from has gone"
_LOST: Final = "a handover message has lost descriptors (raise LimitNOFILE)"


class Takeover:
    """What this process takes over. `inherited` grows with it: listeners and marks by `meet`, the rest by `run`."""

    def __init__(self, fd: int) -> None:
        """`fd` is this process's end of the pair."""
        self.inherited = Inherited()
        self._sock = socket.socket(fileno=fd)
        os.set_inheritable(fd, False)

    @classmethod
    def asked_for(cls) -> Takeover | None:
        """Return the one that this process has been started for, None if it has not."""
        fd = os.environ.pop(VARIABLE, "")
        return cls(int(fd)) if fd.isdecimal() else None

    def meet(self) -> None:
        """Learn what comes first. Raises HandoverError for a version that is not known."""
        begin(Step.MEET)
        hello, fds = self._receive(Hello)
        if hello.handover != VERSION:
            what = f"handover version {hello.handover} of lbproxy {hello.version}"
            raise HandoverError(f"{what}, only {VERSION} is known to {__version__}")
        if hello.marks and not fds:
            raise HandoverError(_LOST)
        if hello.marks:
            self.inherited.marks = Marks(fds.pop())
        for fd in fds:
            sock = SocketType(fileno=fd)
            self.inherited.listeners[address_of(sock)] = sock

    def refuse(self, why: str) -> None:
        """Say why this process cannot take over, if anybody is there to hear it."""
        with suppress(HandoverError):
            self._send(Refused(why))

    async def run(self, prepare: Callable[[], Awaitable[None]], serve: Callable[[], Awaitable[None]]) -> None:
        """Take over. Raises LbproxyError if it cannot be; then nothing has moved.

        `prepare` does whatever can fail, `serve` lets the connections go on.
        """
        begin(Step.PREPARE)
        await prepare()
        begin(Step.READY)
        self._send(Ready(__version__, os.getpid()))
        _, fds = self._receive(Connections)
        begin(Step.TAKE)
        self._take(fds)
        begin(Step.HAVE)
        self._send(Have())
        self._receive(Go)
        begin(Step.SERVE)
        await serve()
        self._sock.close()

    def _take(self, fds: list[int]) -> None:
        if not fds:
            raise HandoverError(_LOST)
        self.inherited.events = fds[1] if len(fds) > 1 else -1
        with socket.socket(fileno=fds[0]) as channel:
            self.inherited.rested, self.inherited.state, wrong = receive(channel, until_closed=True)
        if wrong:
            raise HandoverError(wrong[0])
        if self.inherited.state.get("carrier"):
            self.inherited.queues = [self.inherited.state["carrier"]]
        self.inherited.sets = self.inherited.state.get("sets", [])

    def _send(self, message: Message) -> None:
        try:
            self._sock.send(encode(message))
        except ConnectionError:
            raise HandoverError(_GONE) from None
        except OSError as error:
            raise HandoverError(f"the process to take over from cannot be told: {error.strerror}") from None

    def _receive(self, kind: type[Kind]) -> tuple[Kind, list[int]]:
        try:
            message, fds = receive_message(self._sock)
        except ConnectionError:  # it has gone without reading what it was told
            message, fds = b"", []
        if not message:
            raise HandoverError(_GONE)
        return decode(message, kind), fds


def live_apart() -> None:
    """Go on as a child of the process that was started, which tells how this one ends. Call it before any thread.

    Once the old process has ended that one, this is a child of PID 1, as if systemd had started it.
    """
    pid = os.fork()
    if pid:
        _, status = os.waitpid(pid, 0)
        os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
