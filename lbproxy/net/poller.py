"""The one epoll set in which every relayed socket is registered, once, edge-triggered.

An `add_reader` per socket would cost 18 epoll_ctl calls per proxied connection; this costs two. uvloop keeps everything
else: signals, timers, the admin endpoint. One of the two waits for both:

- In the plain form uvloop does. It watches the descriptor of the set as a single reader, and calls `turn`.
- Compiled, the set does, until uvloop has something to do (`syscalls.embed`); it calls `serve`.

What the set has to tell at one time is a *batch*. Rules that every handler keeps:

- An edge is told once. A handler that is told of a readable socket reads until it is drained, or remembers that it is
  not.
- Sockets are closed by `close_later`, after the batch: a descriptor closed in the middle of it could be reused by an
  accept in the same batch, and a stale event would then reach the wrong connection.
- A handler that has done its share (`BUDGET` in flow) and could go on says `defer`: it waits in the run queue, and is
  resumed when everybody else had a turn.
"""

from __future__ import annotations

import logging
import select
from asyncio import AbstractEventLoop, TimerHandle
from mmap import mmap
from time import monotonic
from typing import Final

from lbproxy.net.bugs import met_bug
from lbproxy.net.closing import close
from lbproxy.net.contract import Socket
from lbproxy.net.pipes import PipePool
from lbproxy.net.syscalls import embed, epoll
from lbproxy.net.timers import NEVER, Timer, TimerWheel

log = logging.getLogger(__name__)
_clock: Final = monotonic
"""Final, so that mypyc need not look it up each time (1 % of a connection)."""

IN: Final = select.EPOLLIN
OUT: Final = select.EPOLLOUT
EXCLUSIVE: Final = select.EPOLLEXCLUSIVE
"""Of several processes that wait for a descriptor only one is woken (epoll_ctl(2))."""
HANGUP: Final = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
URGENT: Final = select.EPOLLPRI
STRANGE: Final = HANGUP | URGENT
"""A short read does not mean that the socket is drained: the end, or more behind the urgent byte, is not told again."""
NEWS: Final = IN | STRANGE
"""There is something to read, be it only the end."""
HANGUP_OR_ERROR: Final = select.EPOLLHUP | select.EPOLLERR
FAULT: Final = select.EPOLLERR
"""A reset or a timeout; HUP alone comes also when both ends have sent FIN, which is nothing to worry about."""
EDGES: Final = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLPRI | select.EPOLLET

_ROUNDS: Final = 16
"""Polls before uvloop gets its turn again; a busy set pays for one wake-up of uvloop in so many."""
_WORTH: Final = 4
"""A batch smaller than this says that another poll would likely be empty, and is not worth a system call."""
_STALL: Final = 0.2
"""Seconds that timers are late when this process stood still: its machine was paused, moved, or had no time for it."""
_MOMENT: Final = 0.05
"""Seconds for what was on its way then to arrive: a round trip and more."""
_AGAIN: Final = 1.0
"""Seconds until a timer that raised is called again: what it does must be done some day."""


class Handler(Timer):
    """What has descriptors in the set, and a time in the wheel."""

    __slots__ = ()

    def ready(self, fd: int, events: int) -> None:
        """Called with the epoll events of one of its descriptors."""
        raise NotImplementedError

    def resume(self) -> None:
        """Called after `Poller.defer`, when everybody else had a turn."""
        raise NotImplementedError

    def crashed(self) -> None:
        """Called when a bug of ours was met in one of the other calls: let go of everything."""
        raise NotImplementedError


class Poller:
    """The set, the pipes and the timers of all connections."""

    def __init__(self, loop: AbstractEventLoop) -> None:
        self.pipes = PipePool()
        self.timers = TimerWheel()
        self.marks: bytearray | mmap = bytearray()
        """Where links that are kept mark what they hold (`handover.marks`)."""
        self._loop = loop
        self._epoll = epoll()
        self._register = self._epoll.register
        self._handlers: list[Handler | None] = [None] * 1024
        """By descriptor."""
        self._run_queue: list[Handler] = []
        self._closing: list[Socket] = []
        self._in_batch = False
        self._now = 0.0
        """The time of the batch at hand, 0.0 while nobody has asked for it."""
        self._timer: TimerHandle | None = None
        """The loop's, for the earliest time in the wheel, which is `_timer_at`."""
        self._timer_at = NEVER
        self._stalled = False
        self._called_soon = False
        """`turn` will be called by the loop as soon as it can."""
        self._closed = False
        self._embedded = embed(self._epoll, loop, self.serve)
        if not self._embedded:
            loop.add_reader(self._epoll.fileno(), self.turn)

    def close(self) -> None:
        """Close the set, and what waits to be closed; the descriptors in it are their handlers'. Twice is once."""
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
        """The time.monotonic; within a batch, of whoever asked first. The bytes of a connection move without it."""
        if not self._in_batch:
            return _clock()
        if not self._now:
            self._now = _clock()
        return self._now

    def add(self, fd: int, handler: Handler, events: int = EDGES) -> None:
        """Register `fd`; its events go to `handler`. Raises OSError: no memory, or fs.epoll.max_user_watches."""
        self.reassign(fd, handler)
        self._register(fd, events)

    def reassign(self, fd: int, handler: Handler) -> None:
        """Have the events of a registered `fd` go to `handler` from now on."""
        handlers = self._handlers
        while fd >= len(handlers):
            handlers.extend([None] * len(handlers))
        handlers[fd] = handler

    def remove(self, fd: int) -> None:
        """Take a descriptor out that stays open."""
        self._handlers[fd] = None
        try:
            self._epoll.unregister(fd)
        except OSError:
            pass  # it could not be put in, and else nothing can fail

    def close_later(self, fd: int, sock: Socket) -> None:
        """Close `sock`, whose descriptor is `fd`, after the batch; its handler is told nothing more of it."""
        if fd < len(self._handlers):
            self._handlers[fd] = None
        if self._in_batch:
            self._closing.append(sock)
        else:
            close(sock)

    def defer(self, handler: Handler) -> None:
        """Put `handler` into the run queue: `resume` is called when everybody else had a turn."""
        self._run_queue.append(handler)
        if not self._in_batch:
            self._call_soon()

    def at(self, timer: Timer, when: float) -> None:
        """Have `due` of `timer` called at `when` (time.monotonic), or earlier if it stands earlier in the wheel."""
        self.timers.put(timer, when, self.now)
        if when < self._timer_at:
            self._arm()

    def turn(self) -> None:
        """Handle what the set has to tell, batch after batch while they are worth a poll, without waiting."""
        self._called_soon = False
        self._in_batch = True
        for _ in range(_ROUNDS):
            events = self._epoll.poll()
            self._handle(events)
            if len(events) < 2 * _WORTH:
                break
        self._batch_ends()

    def serve(self, events: tuple[int, ...]) -> bool:
        """Handle a batch of `events`, see `Epoll.embed`; returns whether somebody is in the run queue."""
        self._in_batch = True
        self._handle(events)
        self._in_batch = False
        return bool(self._run_queue)

    def _handle(self, events: tuple[int, ...]) -> None:
        handlers = self._handlers
        self._now = 0.0
        for at in range(0, len(events), 2):
            fd = events[at]
            handler = handlers[fd]
            if handler is not None:
                try:
                    handler.ready(fd, events[at + 1])
                except Exception:
                    met_bug(handler)
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
        for handler in queue:
            try:
                handler.resume()
            except Exception:
                met_bug(handler)

    def _close_all(self) -> None:
        closing = self._closing
        self._closing = []
        for sock in closing:
            close(sock)

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._timer_at = self.timers.next()
        if self._timer_at != NEVER:
            self._timer = self._loop.call_later(max(0.0, self._timer_at - _clock()), self._tick)

    def _tick(self) -> None:
        self._timer = None
        stalled = _clock() - self._timer_at > _STALL
        self.turn()  # after a stall much is overdue that was answered meanwhile,
        if stalled and not self._stalled:
            self._stalled = True  # and what was not is given the time that it did not have
            self._timer = self._loop.call_later(_MOMENT, self._tick)
            return
        self._stalled = False
        self._in_batch = True
        self._now = now = _clock()
        for timer in self.timers.expire(now):
            try:
                when = timer.due(now)
            except Exception:
                if isinstance(timer, Handler):
                    met_bug(timer)
                    continue
                log.exception("a timer met a bug, and is called again in %g s", _AGAIN)
                when = now + _AGAIN
            if when != NEVER:
                self.timers.put(timer, when, now)
        self._close_all()
        self._batch_ends()
        self._arm()
