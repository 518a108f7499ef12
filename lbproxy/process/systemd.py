"""What systemd is told (sd_notify), asks for (the watchdog) and hands over (sockets), in plain socket calls.

Without systemd's variables in the environment all of it does nothing.
"""

from __future__ import annotations

import errno
import logging
import os
import select
import socket
import time
from array import array
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Final

from lbproxy.record import dataclass
from lbproxy.warnonce import WarnOnce

log = logging.getLogger(__name__)

_FIRST_FD = 3  # sd_listen_fds(3): SD_LISTEN_FDS_START
_PATIENCE = 1.0  # for a message that must arrive, in seconds; PID 1 may be busy
_NOT_NOW: Final = (errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_STATE: Final = "state"


@dataclass(frozen=True, slots=True)
class _Message:
    """What has found no room yet; `fds` are copies of its own. `about` is what a later one of the kind overtakes."""

    about: str
    text: str
    fds: tuple[int, ...]


class Notifier:
    """The notification socket of `$NOTIFY_SOCKET`.

    Nothing here waits, but `barrier` and `main_pid`: what finds no room, since PID 1 is busy or stands still, is kept
    in order and tried again with the next message or `alive`. A message that cannot be sent at all is a warning and
    nothing else: the connections on this node matter more.
    """

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        path = environ.get("NOTIFY_SOCKET", "")
        self._path = "\0" + path[1:] if path.startswith("@") else path
        self._socket: socket.socket | None = None
        self._unsent: deque[_Message] = deque()
        self._warning = WarnOnce()
        self._broken = False
        self.watchdog_period = _watchdog_period(environ)
        """Seconds within which `alive` must be called again and again; None = not asked for."""
        self.there = bool(path)
        """Whether systemd has started this process and listens."""
        self.keeps = bool(path) and environ.get("FDSTORE", "0") not in ("", "0")
        """Whether there is an fd store. systemd says so since 254; for older ones the unit does."""

    def ready(self, status: str) -> None:
        """Say that the ports listen, or that a reload has ended, one way or the other."""
        self._tell(_STATE, f"READY=1\nSTATUS={status}")

    def reloading(self) -> None:
        """Say that a reload has begun; `ready` must follow. systemd 253 insists on the time stamp."""
        self._overtake(_STATE)
        self._tell(_STATE, f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self, seconds: float) -> None:
        """Say that a stop has begun which may rightly take `seconds`, whatever TimeoutStopSec says."""
        self._overtake(_STATE)
        self._tell(_STATE, f"STOPPING=1\nEXTEND_TIMEOUT_USEC={int(seconds * 1e6)}")

    def alive(self) -> None:
        """Say that the loop turns, if the watchdog asks for it, and try again what has found no room."""
        if self.again() and self._path and self.watchdog_period:
            self._send("WATCHDOG=1", ())

    def main_pid(self, pid: int) -> bool:
        """Say that the service is now another process, and wait for systemd to know; False if it cannot be told."""
        self._tell("", f"MAINPID={pid}")
        self.barrier()
        return not self._unsent

    def store(self, name: str, fds: Sequence[int]) -> None:
        """Give copies of descriptors into the fd store, to be handed to the next process under `name`.

        FDPOLL=0, or systemd would drop a queue as soon as this process, its other end, has died.
        """
        self._tell(f"store {name}", f"FDSTORE=1\nFDNAME={name}\nFDPOLL=0", fds)

    def forget(self, name: str) -> None:
        """Have systemd close what it has stored under `name`."""
        if not self._overtake(f"store {name}"):  # what never got there need not be taken away
            self._tell("", f"FDSTOREREMOVE=1\nFDNAME={name}")

    def barrier(self) -> None:
        """Wait a second at most until systemd has worked off all that was sent before (sd_notify_barrier(3))."""
        end = time.monotonic() + _PATIENCE
        while not self.again():
            if self._socket is None or not _happens(self._socket.fileno(), select.POLLOUT, end):
                return
        if not self._path:
            return
        try:
            read_end, write_end = os.pipe2(os.O_CLOEXEC)
        except OSError as error:
            log.warning("cannot wait for systemd: %s", error.strerror)
            return
        self._send("BARRIER=1", (write_end,))
        os.close(write_end)
        _happens(read_end, 0, end)
        os.close(read_end)

    def again(self) -> bool:
        """Try again what has found no room; returns whether all is said."""
        while self._unsent:
            if not self._send(self._unsent[0].text, self._unsent[0].fds):
                return False
            _close(self._unsent.popleft())
        if self._warning.over():
            log.info("systemd is told again what happens")
        return True

    def close(self) -> None:
        """Give up the socket, and what is unsaid."""
        for message in self._unsent:
            _close(message)
        self._unsent.clear()
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _overtake(self, about: str) -> bool:
        """Drop what is unsent about something; tells whether there was any."""
        overtaken = [message for message in self._unsent if message.about == about]
        for message in overtaken:
            self._unsent.remove(message)
            _close(message)
        return bool(overtaken)

    def _tell(self, about: str, text: str, fds: Sequence[int] = ()) -> None:
        if not self._path or (self.again() and self._send(text, fds)):
            return
        if self._warning.news("unread"):
            log.warning("systemd does not read what it is told: %s, and what follows, is tried again", _head(text))
        try:
            self._unsent.append(_Message(about, text, tuple(map(os.dup, fds))))
        except OSError as error:
            log.warning("cannot tell systemd %s: %s", _head(text), error.strerror)

    def _send(self, text: str, fds: Sequence[int]) -> bool:
        """Send a message; False if there is no room for it now, True also if it can never be sent."""
        try:
            if self._socket is None:
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
                self._socket.connect(self._path)
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", fds))] if fds else []
            self._socket.sendmsg([text.encode()], rights)
            self._broken = False
        except OSError as error:
            if error.errno in _NOT_NOW:
                return False
            if self._socket is not None:
                self._socket.close()
                self._socket = None  # the next message may find another one there
            if not self._broken:
                self._broken = True
                log.warning("cannot tell systemd %s: %s", _head(text), error.strerror or error)
        return True


def _head(text: str) -> str:
    return text.partition("\n")[0]


def _close(message: _Message) -> None:
    for fd in message.fds:
        os.close(fd)


def _happens(fd: int, event: int, end: float) -> bool:
    """Wait until `end` for an event or a hang-up on `fd`; poll, since select() knows 1024 descriptors."""
    poll = select.poll()
    poll.register(fd, event)
    return bool(poll.poll(max(0.0, end - time.monotonic()) * 1000))


def _watchdog_period(environ: Mapping[str, str]) -> float | None:
    """Return `$WATCHDOG_USEC` in seconds, unless it is meant for another process."""
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    usec = environ.get("WATCHDOG_USEC", "")
    return int(usec) / 1e6 if usec.isdecimal() and int(usec) else None


def listen_fds(environ: Mapping[str, str] = os.environ) -> dict[str, list[int]]:
    """Return the descriptors that systemd passed to this process, by name (`unknown` where it has none).

    Their order is not to be relied on. They are made close-on-exec, so that no child keeps a port open.
    """
    count = environ.get("LISTEN_FDS", "")
    if environ.get("LISTEN_PID") != str(os.getpid()) or not count.isdecimal():
        return {}
    fds = range(_FIRST_FD, _FIRST_FD + int(count))
    names = environ.get("LISTEN_FDNAMES", "").split(":")
    named: dict[str, list[int]] = {}
    for index, fd in enumerate(fds):
        os.set_inheritable(fd, False)
        name = names[index] if index < len(names) and names[index] else "unknown"
        named.setdefault(name, []).append(fd)
    return named
