"""The one epoll set in which every relayed socket is registered, once, edge-triggered.

An `add_reader` per socket would cost 18 epoll_ctl calls per proxied connection; this costs two. uvloop keeps everything
else: signals, timers, the admin endpoint. Of the two one waits for both:

- In the plain form uvloop watches the descriptor of the set as a single reader, and calls `turn`.
- Compiled, the set watches uvloop, waits in its place until uvloop has something to do, and calls `serve`
  (`syscalls.embed`).

Rules that everybody in the set keeps:

- An edge is told once. Who is told that a socket is readable reads until it is drained, or remembers that it is not.
- Sockets are closed through `close_later`, which closes them after the batch: a descriptor closed in the middle of a
  batch could be reused by an accept in the same batch, and a stale event would then reach the wrong connection.
- Who has done its share (`BUDGET` in flow) and could go on says `defer` and is resumed after everybody else had a turn.
"""

from __future__ import annotations

import logging
import select
from asyncio import AbstractEventLoop, TimerHandle
from mmap import mmap
from time import monotonic
from typing import Final

from lbproxy.net.bugs import met_bug
from lbproxy.net.contract import Socket
from lbproxy.net.pipes import PipePool
from lbproxy.net.syscalls import embed, epoll
from lbproxy.net.timers import NEVER, Timer, TimerWheel

log = logging.getLogger(__name__)
_clock: Final = monotonic
"""Final, here and elsewhere: mypyc calls what it knows will not change without looking it up each time."""

IN: Final = select.EPOLLIN
OUT: Final = select.EPOLLOUT
HANGUP: Final = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
URGENT: Final = select.EPOLLPRI
NEWS: Final = IN | HANGUP | URGENT
"""There is something to read, be it only the end."""
STRANGE: Final = HANGUP | URGENT
HANGUP_OR_ERROR: Final = select.EPOLLHUP | select.EPOLLERR
FAULT: Final = select.EPOLLERR
"""A reset or a timeout; HUP alone comes also when both ends have sent FIN, which is nothing to worry about."""
EDGES: Final = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLPRI | select.EPOLLET

_ROUNDS: Final = 16
"""Polls before uvloop gets its turn again; a busy set pays for one wake-up of uvloop in so many."""
_WORTH: Final = 4
"""A batch smaller than this says that another poll would likely be empty, and is not worth a system call."""
_AGAIN: Final = 1.0
"""Seconds until a timer that raised is called again: what it does must be done some day."""


class Handler(Timer):
    """Something that has sockets in the set and times in the wheel."""

    __slots__ = ()

    def ready(self, fd: int, events: int) -> None:
        """Hear of the epoll events of one of its descriptors."""
        raise NotImplementedError

    def resume(self) -> None:
        """Go on after `Poller.defer`."""
        raise NotImplementedError

    def crashed(self) -> None:
        """Let go of everything: a bug of ours was met in one of the calls above."""
        raise NotImplementedError


class Poller:
    """The set, the pipes and the timers of all connections."""

    def __init__(self, loop: AbstractEventLoop) -> None:
        self._now = 0.0
        self.marks: bytearray | mmap = bytearray()
        """Where links that are kept mark what they hold (`marks`)."""
        self.pipes = PipePool()
        self.timers = TimerWheel()
        self._loop = loop
        self._epoll = epoll()
        self._handlers: list[Handler | None] = [None] * 1024
        self._run_queue: list[Handler] = []
        self._closing: list[Socket] = []
        self._in_batch = False
        self._called_soon = False
        self._closed = False
        self._timer: TimerHandle | None = None
        self._timer_at = NEVER
        self._embedded = embed(self._epoll, loop, self.serve)
        if not self._embedded:
            loop.add_reader(self._epoll.fileno(), self.turn)

    def close(self) -> None:
        """Give up the set itself; what is registered in it is the business of its owners. Twice is once."""
        if self._closed:
            return
        self._closed = True
        if not self._embedded:
            self._loop.remove_reader(self._epoll.fileno())
        if self._timer is not None:
            self._timer.cancel()
        self._close_all()
        self._epoll.close()
        self.pipes.close()

    @property
    def now(self) -> float:
        """The time.monotonic, within a batch that of its first asking: nobody asks for the sake of bytes that move."""
        if not self._in_batch:
            return _clock()
        if not self._now:
            self._now = _clock()
        return self._now

    def add(self, fd: int, handler: Handler, events: int = EDGES) -> None:
        """Register `fd`; its events go to `handler`."""
        self.reassign(fd, handler)
        self._epoll.register(fd, events)

    def reassign(self, fd: int, handler: Handler) -> None:
        """Let the events of a registered `fd` go to `handler` from now on."""
        while fd >= len(self._handlers):
            self._handlers.extend([None] * len(self._handlers))
        self._handlers[fd] = handler

    def remove(self, fd: int) -> None:
        """Take a descriptor out that stays open."""
        self._handlers[fd] = None
        self._epoll.unregister(fd)

    def close_later(self, fd: int, sock: Socket) -> None:
        """Close `sock`, whose descriptor is `fd`, when the batch at hand is done; it hears no more events."""
        if fd < len(self._handlers):
            self._handlers[fd] = None
        if self._in_batch:
            self._closing.append(sock)
        else:
            sock.close()

    def defer(self, handler: Handler) -> None:
        """Have `handler.resume()` called when everybody else had a turn."""
        self._run_queue.append(handler)
        if not self._in_batch:
            self._call_soon()

    def at(self, item: Timer, when: float) -> None:
        """Have `item.due()` called at `when` (time.monotonic)."""
        self.timers.put(item, when, self.now)
        if when < self._timer_at:
            self._arm()

    def turn(self) -> None:
        """Handle what the set has to tell, in bounded rounds, without waiting for anything."""
        self._called_soon = False
        self._in_batch = True
        for _ in range(_ROUNDS):
            events = self._epoll.poll()
            self._handle(events)
            if len(events) < 2 * _WORTH:
                break
        self._batch_ends()

    def serve(self, events: tuple[int, ...]) -> bool:
        """Handle `events`; returns whether somebody waits for his next turn, so that nobody may wait for the kernel."""
        self._in_batch = True
        self._handle(events)
        self._in_batch = False
        return bool(self._run_queue)

    def _handle(self, events: tuple[int, ...]) -> None:
        handler = self._handlers
        self._now = 0.0
        for at in range(0, len(events), 2):
            fd = events[at]
            item = handler[fd]
            if item is not None:
                try:
                    item.ready(fd, events[at + 1])
                except Exception:
                    met_bug(item)
        if self._run_queue:
            self._run_deferred()
        if self._closing:
            self._close_all()

    def _batch_ends(self) -> None:
        self._in_batch = False
        if self._run_queue:
            self._call_soon()

    def _call_soon(self) -> None:
        if not self._called_soon and not self._embedded:
            self._called_soon = True
            self._loop.call_soon(self.turn)

    def _run_deferred(self) -> None:
        queue = self._run_queue
        self._run_queue = []
        for item in queue:
            try:
                item.resume()
            except Exception:
                met_bug(item)

    def _close_all(self) -> None:
        buried = self._closing
        self._closing = []
        for sock in buried:
            sock.close()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._timer_at = self.timers.next()
        if self._timer_at != NEVER:
            self._timer = self._loop.call_later(max(0.0, self._timer_at - _clock()), self._tick)

    def _tick(self) -> None:
        self._timer = None
        self.turn()  # after a stall (a stopped machine) much is overdue that has been answered meanwhile
        self._in_batch = True
        self._now = now = _clock()
        for item in self.timers.expire(now):
            try:
                when = item.due(now)
            except Exception:
                if isinstance(item, Handler):
                    met_bug(item)
                else:
                    log.exception("a timer met a bug, and is called again in %g s", _AGAIN)
                    self.timers.put(item, now + _AGAIN, now)
            else:
                if when != NEVER:
                    self.timers.put(item, when, now)
        self._close_all()
        self._batch_ends()
        self._arm()
