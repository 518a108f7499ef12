"""A new process takes over from this one while both run; nothing is lost if it cannot.

    predecessor                                   successor (the same command line, started by the predecessor)
    hello: version, listeners, marks        ─►    does it know that version? configuration, addresses: all that can fail
                                            ◄─    ready, or refused: why
    freezes, sends every connection         ─►    adopts, moves nothing
                                            ◄─    have
    names it to systemd, go                 ─►    serves
    ends, and touches no socket again

Until `go` the predecessor can thaw and serve on, and does so when the successor refuses, dies or is late. After it the
connections are the successor's alone. Messages are JSON over a SOCK_SEQPACKET pair, descriptors ride along.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from socket import SocketType
from time import monotonic
from typing import Any, Final

from lbproxy import __version__
from lbproxy.errors import HandoverError
from lbproxy.handover.custody import Custody
from lbproxy.handover.fdqueue import FdQueue, receive, receive_message
from lbproxy.handover.inherit import Inherited, address_of
from lbproxy.handover.marks import Marks
from lbproxy.handover.parcel import VERSION

VARIABLE: Final = "LBPROXY_PREDECESSOR"
"""Tells a successor the descriptor of its end of the pair."""
_START: Final = 30.0
"""Seconds a successor has to say that it is ready; everything is served meanwhile."""
_TAKE: Final = 5.0
"""Seconds it has to take the connections, which stand still meanwhile."""
_LONGEST: Final = 65536
_NOT_FOR_CHILDREN: Final = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID")


@dataclass(frozen=True, slots=True)
class Handed:
    """An upgrade that has come off. `pause` is how long connections stood still here, in seconds."""

    pid: int
    version: str
    connections: int
    pause: float


class Successor:
    """The predecessor's view of the process that is to take over."""

    def __init__(self) -> None:
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        environ = {key: value for key, value in os.environ.items() if key not in _NOT_FOR_CHILDREN}
        with theirs:
            environ[VARIABLE] = str(theirs.fileno())
            # Not asyncio's subprocess: that kills its child when the loop is closed.
            self.process = subprocess.Popen(  # noqa: S603 (our own command line)
                [sys.executable, *sys.orig_argv[1:]], env=environ, pass_fds=[theirs.fileno()]
            )
        self._ours.setblocking(False)

    async def prepare(self, handover: Custody) -> str:
        """Have it get ready beside us; returns its version. Raises HandoverError if it cannot."""
        listeners = handover.listeners()
        fds = [sock.fileno() for sock in listeners.values()]
        if handover.marks is not None:
            fds.append(handover.marks.fd)
        hello = {"handover": VERSION, "version": __version__, "marks": handover.marks is not None}
        socket.send_fds(self._ours, [json.dumps(hello).encode()], fds)
        answer = await self._answer(_START, "did not get ready")
        return str(answer["ready"])

    async def take(self, handover: Custody) -> tuple[int, float]:
        """Move every connection over, up to the point of no return; returns how many, and since when they stand."""
        began = monotonic()
        parcels = handover.freeze()
        carrier = FdQueue()
        carrier.sender.settimeout(_TAKE)
        socket.send_fds(self._ours, [b"{}"], [carrier.receiver.fileno()])
        carrier.receiver.close()
        complete = carrier.send(parcels) and carrier.send_state(handover.state())
        carrier.sender.close()
        if not complete:
            raise HandoverError("the new process did not read the connections")
        await self._answer(_TAKE, "did not take the connections")
        return len(parcels), began

    def go(self) -> None:
        """Let it serve."""
        self._ours.send(b"{}")
        self._ours.close()

    def give_up(self) -> None:
        """End it."""
        self._ours.close()
        self.process.kill()
        self.process.wait()

    def _status(self) -> str:
        try:
            return f" with status {self.process.wait(1)}"
        except subprocess.TimeoutExpired:
            return " the handover"

    async def _answer(self, seconds: float, otherwise: str) -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(seconds):
                message = await loop.sock_recv(self._ours, _LONGEST)
        except TimeoutError:
            raise HandoverError(f"the new process {otherwise} within {seconds:g}s") from None
        except ConnectionError:  # it has gone without reading what it was told
            message = b""
        if not message:
            raise HandoverError(f"the new process ended{self._status()}, see its log lines")
        answer: dict[str, Any] = json.loads(message)
        if "refused" in answer:
            raise HandoverError(f"the new process refused: {answer['refused']}")
        return answer


class Predecessor:
    """The successor's view of the process it takes over from."""

    def __init__(self, fd: int) -> None:
        self._sock = socket.socket(fileno=fd)
        os.set_inheritable(fd, False)

    @classmethod
    def there(cls) -> Predecessor | None:
        """Return the predecessor that has started this process, if one has."""
        fd = os.environ.pop(VARIABLE, "")
        return cls(int(fd)) if fd.isdecimal() else None

    def hello(self) -> Inherited:
        """Return what comes first: listeners and marks. Raises HandoverError for a version that is not known."""
        message, fds = self._receive()
        if message.get("handover") != VERSION:
            raise HandoverError(
                f"handover version {message.get('handover')} of lbproxy {message.get('version')}, "
                f"only {VERSION} is known to {__version__}"
            )
        inherited = Inherited()
        if message["marks"]:
            inherited.marks = Marks(fds.pop())
        for fd in fds:
            sock = SocketType(fileno=fd)
            inherited.listeners[address_of(sock)] = sock
        return inherited

    def ready(self) -> None:
        """Say that nothing stands in the way."""
        self._send({"ready": __version__})

    def refuse(self, why: str) -> None:
        """Say why this process cannot take over."""
        self._send({"refused": why})

    def connections(self, inherited: Inherited) -> None:
        """Add every connection to `inherited`; waits for the predecessor. Raises HandoverError if it is gone."""
        _, fds = self._receive()
        with socket.socket(fileno=fds[0]) as channel:
            inherited.rested, inherited.state, wrong = receive(channel, until_closed=True)
        if wrong:
            raise HandoverError(wrong[0])
        if inherited.state.get("carrier"):
            inherited.carriers = [inherited.state["carrier"]]

    def have(self) -> None:
        """Say that the connections are here, and wait for the word. Raises HandoverError if it does not come."""
        self._send({"have": True})
        self._receive()
        self._sock.close()

    def _send(self, message: dict[str, Any]) -> None:
        self._sock.send(json.dumps(message).encode())

    def _receive(self) -> tuple[dict[str, Any], list[int]]:
        message, fds = receive_message(self._sock)
        if not message:
            raise HandoverError("the process to take over from has gone")
        return json.loads(message), fds
