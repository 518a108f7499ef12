"""The old process's side of an upgrade: everything goes to a new process, or nothing has happened. See `steps`."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, suppress
from time import monotonic
from typing import Final

from lbproxy import __version__
from lbproxy.errors import HandoverError
from lbproxy.handover.fdqueue import FdQueue
from lbproxy.handover.handing import Handing
from lbproxy.handover.messages import LONGEST, Connections, Go, Have, Hello, Kind, Ready, decode, encode
from lbproxy.handover.parcel import VERSION, Parcel, ProcessState
from lbproxy.handover.steps import Step, begin
from lbproxy.record import dataclass

VARIABLE: Final = "LBPROXY_PREDECESSOR"
"""Tells a new process the descriptor of its end of the pair."""
_START: Final = 30.0
"""Seconds it has to say that it is ready; everything is served meanwhile."""
_TAKE: Final = 5.0
"""Seconds it has to take the connections, which stand still meanwhile."""
ALONE: Final = (
    "only systemd (Type=notify) can be told that the service is another process now; whatever else watches this one "
    "takes its end for that of the service, or of the container: restart it there"
)
UNTOLD: Final = "systemd does not read what it is told, and would take the end of this process for that of the service"
_NOT_FOR_CHILDREN: Final = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID")


@dataclass(frozen=True, slots=True)
class Handed:
    """An upgrade that has come off. `pause` is how long connections stood still here, in seconds."""

    pid: int
    version: str
    connections: int
    pause: float


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What else belongs to this process than connections."""

    name: Callable[[int], bool]
    """Tells systemd which process is the service; returns whether it could be told."""
    release: Callable[[], Awaitable[None]]
    """Gives up what only one process can have."""
    reclaim: Callable[[], Awaitable[None]]
    """Takes that back."""
    gone: Callable[[], None]
    """Called when there is no way back."""
    events: int = -1
    """The descriptor of the file with what has happened, -1 for none."""


async def hand_over(plane: Handing, around: Surroundings) -> Handed:
    """Start this program anew and hand everything over to it; returns when that serves.

    Raises HandoverError or OSError with all undone.
    """
    async with AsyncExitStack() as undo:
        begin(Step.SPAWN)
        successor = Successor()
        undo.callback(successor.give_up)
        begin(Step.HELLO)
        version = await successor.hello(plane)
        began = monotonic()
        begin(Step.FREEZE)
        undo.push_async_callback(plane.thaw)
        parcels = await plane.freeze()
        begin(Step.SEND)
        await successor.send(parcels, plane.state(), around.events)
        begin(Step.RELEASE)
        undo.push_async_callback(around.reclaim)
        await around.release()
        begin(Step.NAME)
        undo.callback(around.name, os.getpid())  # nothing waits until `gone`
        successor.orphan()
        if not around.name(successor.pid):
            raise HandoverError(UNTOLD)
        begin(Step.GO)
        successor.go()
        undo.pop_all()
        plane.given()
        around.gone()
        pause = monotonic() - began
    await successor.serves()
    return Handed(successor.pid, version, len(parcels), pause)


def command(argv: Sequence[str], orig_argv: Sequence[str]) -> list[str]:
    """Return the command line that starts what is installed now; the arguments are `sys.argv` and `sys.orig_argv`.

    A console script is started by its name, which may lead to another environment by now, and that to another Python.
    `python -m lbproxy` is started as it was.
    """
    if os.sep in argv[0] and os.path.basename(argv[0]) != "__main__.py" and os.access(argv[0], os.X_OK):
        return list(argv)
    return [sys.executable, *orig_argv[1:]]


class Successor:
    """The process that is to take over; it goes on in a child of the one that is started (`takeover.live_apart`)."""

    def __init__(self) -> None:
        """Start it. Raises HandoverError when there is none to be started."""
        environ = {key: value for key, value in os.environ.items() if key not in _NOT_FOR_CHILDREN}
        try:
            self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                environ[VARIABLE] = str(theirs.fileno())
                # Not asyncio's subprocess: that kills its child when the loop is closed.
                self._process = subprocess.Popen(  # noqa: S603 (our own command line)
                    command(sys.argv, sys.orig_argv), env=environ, pass_fds=[theirs.fileno()], process_group=0
                )
        except OSError as error:
            raise HandoverError(f"no new process to hand over to: {error.strerror}") from None
        self._ours.setblocking(False)
        self.pid = self._process.pid

    async def hello(self, plane: Handing) -> str:
        """Have it get ready beside us; returns its version. Raises HandoverError if it cannot."""
        fds = [sock.fileno() for sock in plane.listeners().values()]
        if plane.marks is not None:
            fds.append(plane.marks.fd)
        socket.send_fds(self._ours, [encode(Hello(VERSION, __version__, plane.marks is not None))], fds)
        ready = await self._answer(Ready, _START, "did not get ready")
        self.pid = ready.pid or self.pid
        return ready.version

    async def send(self, parcels: list[Parcel], state: ProcessState, events: int = -1) -> None:
        """Send it every connection, and the file with the events. Raises HandoverError if it does not take them."""
        queue = FdQueue()
        queue.sender.settimeout(_TAKE)
        fds = [queue.receiver.fileno(), *([events] if events >= 0 else [])]
        socket.send_fds(self._ours, [encode(Connections())], fds)
        queue.receiver.close()
        complete = queue.send(parcels) and queue.send_state(state)
        queue.sender.close()
        if not complete:
            raise self._ended("did not read the connections")
        await self._answer(Have, _TAKE, "did not take the connections")

    def orphan(self) -> None:
        """End the process between, if there is one: then it is PID 1's child, whose end systemd hears of."""
        if self.pid != self._process.pid:
            self._process.kill()
            self._process.wait()

    def go(self) -> None:
        """Let it serve."""
        self._ours.send(encode(Go()))

    async def serves(self) -> None:
        """Wait until it has closed its end, for that is when it answers on the control socket; 5 s at most."""
        with suppress(TimeoutError, OSError):
            async with asyncio.timeout(_TAKE):
                await asyncio.get_running_loop().sock_recv(self._ours, LONGEST)
        self._ours.close()

    def give_up(self) -> None:
        """End it."""
        self._ours.close()
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    async def _answer(self, kind: type[Kind], seconds: float, otherwise: str) -> Kind:
        try:
            async with asyncio.timeout(seconds):
                message = await asyncio.get_running_loop().sock_recv(self._ours, LONGEST)
        except TimeoutError:
            raise HandoverError(f"the new process {otherwise} within {seconds:g}s") from None
        except ConnectionError:  # it has gone without reading what it was told
            message = b""
        if not message:
            raise self._ended("ended the handover, see its log lines")
        return decode(message, kind)

    def _ended(self, otherwise: str) -> HandoverError:
        """Return the error that says how it has ended; if it has not within a second, what it did `otherwise`."""
        try:
            return HandoverError(f"the new process ended with status {self._process.wait(1)}, see its log lines")
        except subprocess.TimeoutExpired:
            return HandoverError(f"the new process {otherwise}")
