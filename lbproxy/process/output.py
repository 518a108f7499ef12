"""Log lines on a descriptor, written by a thread of their own: the loop never waits for whoever reads the log.

A thread, because nothing else serves every kind of stderr. O_NONBLOCK would be set for everybody who shares the open
file, the shell included. Opening /proc/self/fd/2 anew gives one of our own, but not of a socket (the journal's is
one), nor of a pipe that another user has made. And a file on a mount that hangs takes no notice of O_NONBLOCK. It is
there while there are lines and a moment longer, for the loop's own waits cost less where no other thread is
(`net/csrc/epoll.c`).
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final

_MOST: Final = 256 << 10
"""Bytes that wait at most, besides what the kernel holds: a reader that restarts misses nothing."""
_AT_ONCE: Final = select.PIPE_BUF
"""Bytes of one write; up to here a pipe keeps apart what several processes write into it (pipe(7))."""
_GLANCE: Final = 0.005
_LINGER: Final = 1.0
"""Seconds that the thread waits for another line, for to start one costs more than to write a line."""


class Output:
    """Writes to `fd`, in order. What finds no room is dropped and counted; `told` hears of it when lines flow again."""

    def __init__(self, fd: int, told: Callable[[int], None] = lambda dropped: None) -> None:
        """`told` is called in the thread, with the number of lines that were dropped since it was last called."""
        self._fd = fd
        self._tell = told
        self._lines: deque[bytes] = deque()
        # Each number is changed by one side alone, and an older value does no harm to the other: no lock is waited for.
        self._taken_in = self._refused = 0
        self._done = self._lost = self._told = 0
        self._filled = threading.Event()
        self._thread = threading.Lock()
        """Held while there is a thread."""
        self._closed = False

    @property
    def dropped(self) -> int:
        """Lines that nobody will ever read."""
        return self._refused + self._lost

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._fd

    def write(self, text: str) -> None:
        """Take in `text`, which ends with a line break, from one caller at a time. Never waits."""
        line = text.encode("utf-8", "backslashreplace")
        if self._closed or self._taken_in - self._done > _MOST:
            self._refused += line.count(b"\n")
            return
        self._taken_in += len(line)
        self._lines.append(line)
        self._filled.set()
        if self._thread.acquire(blocking=False):
            self._start()

    def close(self, seconds: float) -> None:
        """Wait at most `seconds` until all is written; what comes later is dropped."""
        self._closed = True
        self._filled.set()
        end = time.monotonic() + seconds
        while self._done < self._taken_in and time.monotonic() < end:
            time.sleep(_GLANCE)

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name="log", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # no more threads are allowed just now: the next line tries again
            self._thread.release()

    def _run(self) -> None:
        while self._more():
            flows = False
            while self._lines:
                batch = self._batch()
                flows = self._put_out(batch)
                self._done += len(batch)
            dropped = self.dropped - self._told
            if dropped and flows:
                self._told += dropped
                self._tell(dropped)

    def _more(self) -> bool:
        """Wait a moment for lines; returns whether this thread is to write them, and not another one."""
        if self._filled.wait(0 if self._closed else _LINGER):
            self._filled.clear()
            return True
        self._thread.release()
        # Whoever came just before that has seen a thread, and started none.
        return bool(self._lines) and self._thread.acquire(blocking=False)

    def _batch(self) -> bytes:
        batch = [self._lines.popleft()]
        size = len(batch[0])
        while self._lines and size + len(self._lines[0]) <= _AT_ONCE:
            size += len(self._lines[0])
            batch.append(self._lines.popleft())
        return b"".join(batch)

    def _put_out(self, batch: bytes) -> bool:
        """Write all of `batch`, however long it takes; returns whether that worked."""
        rest = memoryview(batch)
        while rest:
            try:
                rest = rest[os.write(self._fd, rest) :]
            except BlockingIOError:  # somebody who shares the file has made it so
                room = select.poll()
                room.register(self._fd, select.POLLOUT)
                room.poll()
            except OSError:  # the reader has gone, the disk is full, nothing is open
                self._lost += bytes(rest).count(b"\n")
                return False
        return True
