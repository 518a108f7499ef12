"""Where workers come from: a process that has all of lbproxy imported, runs nothing, and forks when it is asked to.

A worker is there within some milliseconds by that, instead of the third of a second that a Python and its imports
take, and shares what was imported with all others. The supervisor cannot fork itself: it has a loop, and now and then
threads.

The nursery is forked before there is either. It hears of the supervisor's end by the end of its socket, and goes.
Should it be killed, the next worker comes from a new one, which is started like any program.
"""

from __future__ import annotations

import array
import gc
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Final, NoReturn

_FDS: Final = 2


class Nursery:
    """The supervisor's end."""

    def __init__(self, sock: socket.socket, pid: int) -> None:
        self._pid = pid
        self._sock = sock
        self._sock.settimeout(_FIRST)

    @classmethod
    def fork(cls) -> Nursery:
        """Make one of this process, which must have neither loop nor threads yet. Raises OSError."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pid = os.fork()
        if not pid:
            # What this process has open stays open in no child; the objects it belongs to are never touched again.
            keep = os.dup2(theirs.detach(), 3)
            os.closerange(keep + 1, os.sysconf("SC_OPEN_MAX"))
            _run(keep)
        theirs.close()
        return cls(ours, pid)

    @classmethod
    def start(cls) -> Nursery:
        """Make one by starting Python anew, which takes its time. Raises OSError."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = [sys.executable, "-P", "-m", "lbproxy.workers.nursery", str(theirs.fileno())]
            theirs.set_inheritable(True)
            pid = os.posix_spawn(sys.executable, command, os.environ)
        return cls(ours, pid)

    def bear(self, calls: socket.socket, channel: socket.socket) -> int:
        """Return the process id of a new worker, which gets copies of these two. Raises OSError, also if it is gone."""
        socket.send_fds(self._sock, [b"w"], [calls.fileno(), channel.fileno()])
        answer = self._sock.recv(32)
        self._sock.settimeout(_PROMPT)
        if not answer:
            raise ConnectionError("the nursery has gone")
        pid = int(answer)
        if pid < 0:
            raise OSError(-pid, os.strerror(-pid))
        return pid

    def close(self) -> None:
        """End it; its workers live on."""
        self._sock.close()
        with suppress(ProcessLookupError, ChildProcessError):
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)


_FIRST: Final = 10.0
"""Seconds for the first answer: that of a nursery that was started comes after all imports."""
_PROMPT: Final = 1.0
"""Seconds for a later one: the supervisor does nothing else meanwhile, and can have another nursery."""


def _run(fd: int) -> NoReturn:
    """Fork workers until nobody asks any more; does not return."""
    from lbproxy.workers.worker import main

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # so they need not be waited for
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)  # the supervisor hears them, and says what to do
    gc.collect()
    gc.freeze()
    try:
        sock = socket.socket(fileno=fd)
        while fds := _asked(sock):
            try:
                pid = os.fork()
            except OSError as error:
                sock.send(str(-(error.errno or 1)).encode())
            else:
                if not pid:
                    sock.close()
                    _live(main, *fds)
                sock.send(str(pid).encode())
            for each in fds:
                os.close(each)
    finally:
        os._exit(0)


def _live(main: Callable[[int, int], None], calls: int, channel: int) -> NoReturn:
    """Be a worker; a bug that ends it is told, and nothing that the nursery has open is touched."""
    try:
        main(calls, channel)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def _asked(sock: socket.socket) -> list[int]:
    """Return the descriptors for the next worker; none when nobody asks any more."""
    fds = array.array("i")
    try:
        _, rights, _, _ = sock.recvmsg(1, socket.CMSG_LEN(_FDS * fds.itemsize), socket.MSG_CMSG_CLOEXEC)
    except OSError:
        return []
    for _, _, data in rights:
        fds.frombytes(data)
    return list(fds)


if __name__ == "__main__":
    _run(int(sys.argv[1]))
