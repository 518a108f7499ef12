"""Time, files, processes and epoll sets, as far as lbproxy notices them."""

from __future__ import annotations

import errno
import heapq
import os
import select
from collections.abc import Callable
from itertools import count
from random import Random

IN, OUT, ET = select.EPOLLIN, select.EPOLLOUT, select.EPOLLET
RDHUP, HUP, ERR = select.EPOLLRDHUP, select.EPOLLHUP, select.EPOLLERR
ALWAYS = HUP | ERR


def fail(number: int) -> OSError:
    """Return the error that a system call raises."""
    return OSError(number, os.strerror(number))


class Kernel:
    """What there is one of. `rng` decides whatever the real one leaves open."""

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.now = 1000.0
        self.listening: dict[tuple[str, int], Listens] = {}
        self.dead: set[str] = set()
        """Addresses of hosts that neither send nor receive anything."""
        self.latency: dict[str, float] = {}
        """Seconds to a host, one way."""
        self.ports = count(30000)
        self.ends: list[File] = []
        """The ends of all connections there are."""
        self.current: Process | None = None
        """Whose code runs."""
        self.room = 64 * 1024
        """Bytes that a socket takes in, each way."""
        self.partial = 0.0
        """How often a call does less than it could, of 1."""
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()

    def at(self, when: float, call: Callable[[], None]) -> None:
        """Have `call` called at that time."""
        heapq.heappush(self._agenda, (max(when, self.now), next(self._order), call))

    def later(self, seconds: float, call: Callable[[], None]) -> None:
        """Have `call` called after so many seconds."""
        heapq.heappush(self._agenda, (self.now + max(seconds, 0.0), next(self._order), call))

    def run(self, until: float) -> None:
        """Let the world go on until then."""
        agenda, pop = self._agenda, heapq.heappop
        while agenda and agenda[0][0] <= until:
            self.now, _, call = pop(agenda)
            call()
        self.now = until

    def in_part(self) -> bool:
        """Whether a call does less now than it could, as it may at any time (memory is short, a pipe has no slot)."""
        return self.partial > 0 and self.rng.random() < self.partial

    def delay(self, host: str) -> float:
        """Return how long a packet to or from a host takes now."""
        return self.latency.get(host, 0.0002) * self.rng.uniform(0.8, 1.5)


class Listens:
    """What accepts connections at an address; see `tcp`."""

    def arrived(self, near: object) -> bool:
        """Take in a connection; whether there was room."""
        raise NotImplementedError


class File:
    """An open file description: shared by whoever holds a descriptor of it, released with the last one."""

    def __init__(self) -> None:
        self.refs = 0
        self.watched: list[tuple[Epoll, int]] = []

    def mask(self) -> int:
        """Return what epoll would say of it now."""
        return 0

    def released(self) -> None:
        """Called when nobody holds it any more."""

    def wake(self, events: int) -> None:
        """Tell who watches it that something has happened."""
        for epoll, fd in list(self.watched):
            epoll.woken(self, fd, events)


class Epoll(File):
    """An epoll set. `on_ready` is called when it has something to tell."""

    def __init__(self) -> None:
        super().__init__()
        self._interest: dict[tuple[File, int], int] = {}
        self._ready: dict[tuple[File, int], None] = {}
        self.on_ready: Callable[[], None] = lambda: None

    def add(self, file: File, fd: int, events: int) -> None:
        """Watch a file under that number."""
        if (file, fd) in self._interest:
            raise fail(errno.EEXIST)
        self._interest[file, fd] = events
        file.watched.append((self, fd))
        if file.mask() & (events | ALWAYS):
            self._mark(file, fd)

    def remove(self, file: File, fd: int) -> None:
        """Watch it no longer."""
        if self._interest.pop((file, fd), None) is None:
            raise fail(errno.ENOENT)
        self._ready.pop((file, fd), None)
        file.watched.remove((self, fd))

    def woken(self, file: File, fd: int, events: int) -> None:
        """Called when something has happened to a file in it."""
        if events & (self._interest[file, fd] | ALWAYS):
            self._mark(file, fd)

    def _mark(self, file: File, fd: int) -> None:
        self._ready[file, fd] = None
        self.on_ready()

    def mask(self) -> int:
        """See `File`."""
        return IN if self._ready else 0

    def poll(self, most: int) -> list[tuple[int, int]]:
        """Return what there is to tell: edges once, levels as long as they last."""
        told: list[tuple[int, int]] = []
        for file, fd in list(self._ready):
            if len(told) == most:
                break
            del self._ready[file, fd]
            interest = self._interest[file, fd]
            events = file.mask() & (interest | ALWAYS)
            if not events:
                continue
            told.append((fd, events))
            if not interest & ET:
                self._ready[file, fd] = None
        return told

    def released(self) -> None:
        """See `File`."""
        for file, fd in list(self._interest):
            self.remove(file, fd)


class Killed(BaseException):
    """SIGKILL has come; whatever a dead process would still do ends so too."""


class Process:
    """A table of descriptors with a limit."""

    def __init__(self, kernel: Kernel, limit: int) -> None:
        self.kernel = kernel
        self.limit = limit
        self.short = False
        """Whether descriptors, memory and ports are short, for one reason or another."""
        self.files: dict[int, File] = {}
        self.fatal = -1
        """In how many steps SIGKILL comes; less than 0 for not at all."""
        self.dead = False

    def step(self) -> None:
        """Begin what others can see: a system call, or a write to memory that is shared. Raises Killed."""
        if self.fatal >= 0:
            self.fatal -= 1
            self.dead = self.fatal < 0
        if self.dead:
            raise Killed

    def afford(self, *errors: int) -> None:
        """Raise one of `errors` if there is not enough left for something new."""
        if len(self.files) + 3 >= self.limit:
            raise fail(errno.EMFILE)
        if self.short and self.kernel.rng.random() < 0.7:
            raise fail(self.kernel.rng.choice(errors))

    def install(self, file: File, *, limited: bool = True) -> int:
        """Return a new descriptor of a file, the lowest that is free. Raises EMFILE, if it is limited."""
        fd = 3
        while fd in self.files:
            fd += 1
        if limited and fd >= self.limit:
            raise fail(errno.EMFILE)
        self.files[fd] = file
        file.refs += 1
        return fd

    def file(self, fd: int) -> File:
        """Return what a descriptor is of. Raises EBADF."""
        if fd not in self.files:
            raise fail(errno.EBADF)
        return self.files[fd]

    def close(self, fd: int) -> None:
        """Close a descriptor. Raises EBADF, for who closes twice."""
        file = self.file(fd)
        del self.files[fd]
        drop(file)

    def dup(self, fd: int) -> int:
        """Return another descriptor of the same file."""
        return self.install(self.file(fd))

    def end(self) -> None:
        """Close all, as the kernel does when a process has ended, however."""
        for fd in list(self.files):
            self.close(fd)


def drop(file: File) -> None:
    """Give up a reference to a file."""
    file.refs -= 1
    if not file.refs:
        for epoll, fd in list(file.watched):
            epoll.remove(file, fd)
        file.released()
