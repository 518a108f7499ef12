"""What systemd is told (sd_notify), asks for (the watchdog) and hands over (sockets), in plain socket calls.

Without systemd's variables in the environment all of it does nothing.
"""

from __future__ import annotations

import logging
import os
import select
import socket
import time
from collections.abc import Mapping, Sequence

log = logging.getLogger(__name__)

_FIRST_FD = 3  # sd_listen_fds(3): SD_LISTEN_FDS_START
_PATIENCE = 1.0  # for a message that must arrive, in seconds; PID 1 may be busy


class Notifier:
    """The notification socket of `$NOTIFY_SOCKET`.

    A message that cannot be sent is a warning and nothing else: the connections on this node matter more.
    """

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        path = environ.get("NOTIFY_SOCKET", "")
        self._path = "\0" + path[1:] if path.startswith("@") else path
        self.watchdog_period = _watchdog_period(environ)
        """Seconds within which `watchdog` must be called again and again; None = not asked for."""
        self.there = bool(path)
        """Whether systemd has started this process and listens."""
        self.keeps = bool(path) and environ.get("FDSTORE", "0") not in ("", "0")
        """Whether there is an fd store. systemd says so since 254; for older ones the unit does."""

    def ready(self, status: str) -> None:
        """Say that the ports listen, or that a reload has ended, one way or the other."""
        self._send(f"READY=1\nSTATUS={status}", _PATIENCE)

    def reloading(self) -> None:
        """Say that a reload has begun; `ready` must follow. systemd 253 insists on the time stamp."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}", _PATIENCE)

    def stopping(self, seconds: float) -> None:
        """Say that a stop has begun which may rightly take `seconds`, whatever TimeoutStopSec says."""
        self._send(f"STOPPING=1\nEXTEND_TIMEOUT_USEC={int(seconds * 1e6)}", _PATIENCE)

    def watchdog(self) -> None:
        """Say that the loop turns. Never waits: the loop would stand still for it."""
        self._send("WATCHDOG=1", 0)

    def main_pid(self, pid: int) -> None:
        """Say that the service is now another process, and wait until systemd knows."""
        self._send(f"MAINPID={pid}", _PATIENCE)
        self.barrier()

    def store(self, name: str, fds: Sequence[int]) -> None:
        """Give copies of descriptors into the fd store, to be handed to the next process under `name`.

        FDPOLL=0, or systemd would drop a carrier as soon as this process, its other end, has died.
        """
        self._send(f"FDSTORE=1\nFDNAME={name}\nFDPOLL=0", _PATIENCE, fds)

    def forget(self, name: str) -> None:
        """Have systemd close what it has stored under `name`."""
        self._send(f"FDSTOREREMOVE=1\nFDNAME={name}", _PATIENCE)

    def barrier(self) -> None:
        """Wait until systemd has worked off all that was sent before (sd_notify_barrier(3))."""
        if not self._path:
            return
        try:
            read_end, write_end = os.pipe2(os.O_CLOEXEC)
        except OSError as error:
            log.warning("cannot wait for systemd: %s", error.strerror)
            return
        self._send("BARRIER=1", _PATIENCE, [write_end])
        os.close(write_end)
        hang_up = select.poll()  # not select(), which knows 1024 descriptors
        hang_up.register(read_end, 0)
        hang_up.poll(_PATIENCE * 1000)
        os.close(read_end)

    def _send(self, text: str, timeout: float, fds: Sequence[int] = ()) -> None:
        if not self._path:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
                out.settimeout(timeout)
                out.connect(self._path)
                socket.send_fds(out, [text.encode()], list(fds))
        except OSError as error:
            log.warning("cannot tell systemd %s: %s", text.split("\n")[0], error.strerror or error)


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
