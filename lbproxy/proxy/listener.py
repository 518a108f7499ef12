"""The accept loop, and what it does when descriptors or memory run out."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import resource
from collections.abc import Callable
from socket import SocketType
from typing import Final

from lbproxy.balance.shared import Cell
from lbproxy.net.contract import Socket, SocketAddress
from lbproxy.net.pipes import PipePool
from lbproxy.net.poller import EXCLUSIVE, IN, Handler, Poller
from lbproxy.net.syscalls import accept
from lbproxy.net.tcpinfo import backlog
from lbproxy.net.timers import NEVER

log = logging.getLogger(__name__)

_PAUSE: Final = 0.1
"""Seconds between two tries while nothing can be accepted: an accept that fails at once would otherwise spin."""
_WARN_EVERY: Final = 60.0
_FDS_PER_CONNECTION: Final = 2
_FREE_PER_PIPE: Final = 16
"""A download that stalls holds a pipe, of two descriptors: as many as that may, and others are copied."""
_GONE: Final = (
    errno.ECONNABORTED,
    errno.EPROTO,
    errno.ENOPROTOOPT,
    errno.EHOSTDOWN,
    errno.ENONET,
    errno.EHOSTUNREACH,
    errno.EOPNOTSUPP,
    errno.ENETUNREACH,
    errno.ENETDOWN,
)
"""What accept(2) says to treat like EAGAIN: that one client has gone."""
_BUGS: Final = (errno.EBADF, errno.EINVAL, errno.ENOTSOCK, errno.EFAULT)
"""Whatever else an accept is refused for, it may be for each one: no descriptor, no memory, no leave (LSM, seccomp)."""
_LET_OTHERS: Final = 0.02
"""Seconds for which a process that has more connections than another leaves new ones to the others, see `Listener`."""
_HELP_OUT: Final = 0.1
"""Seconds for which it takes them all the same when clients have been left waiting."""
BURST: Final = 16
"""Connections accepted in a turn. With one at a time, what runs behind the proxy is woken for each of them; with too
many, those that are open wait."""


class ConnectionLimit:
    """How many connections the descriptors of this process allow, all proxies together.

    Clients beyond that wait in the kernel's backlog until others leave. The limit keeps descriptors back for the rest
    of the process: a proxy that cannot open its own log, probe a server or answer `lbproxy status` helps nobody.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.open = 0
        self.cell: Cell | None = None
        """Where other processes that accept from the same backlog count theirs, if there are any."""
        self._empty: asyncio.Event | None = None
        self._waiting: list[Listener] = []
        self._stepped_back: list[Listener] = []
        self._warned_at = -_WARN_EVERY

    def measure(self, pipes: PipePool, inherited: int = 0) -> None:
        """Allow for what RLIMIT_NOFILE leaves beyond what is open now, with an eighth of it for pipes.

        `inherited` of what is open are descriptors of connections that are about to be counted in.
        """
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        used = len(os.listdir("/proc/self/fd")) - inherited
        reserve = max(8, min(256, soft // 16))
        free = soft - used - reserve
        pipes.most = max(4, free // _FREE_PER_PIPE)
        self.limit = max(1, (free - 2 * pipes.most) // _FDS_PER_CONNECTION)

    def full(self) -> bool:
        """Whether no more connection can be afforded."""
        return self.open >= self.limit

    def wait(self, listener: Listener) -> None:
        """Have `listener` resumed when a connection has ended."""
        self._waiting.append(listener)

    def acquire(self) -> None:
        """Count a connection in; there may be one too many by that, one that was inherited."""
        self.open += 1
        if self.cell is not None:
            self.cell.put(self.open)

    def release(self) -> None:
        """Count a connection out, and have those resumed that wait for it."""
        self.open -= 1
        if self.cell is not None:
            self.cell.put(self.open)
        if not self.open and self._empty is not None:
            self._empty.set()
        if self._waiting and not self.full():
            waiting, self._waiting = self._waiting, []
            for listener in waiting:
                listener.resume()
        if self._stepped_back and not self.ahead():
            self._step_forward()

    def step_back(self, listener: Listener) -> None:
        """Have `listener` resumed when this process is no longer ahead."""
        if listener not in self._stepped_back:
            self._stepped_back.append(listener)

    def _step_forward(self) -> None:
        listeners, self._stepped_back = self._stepped_back, []
        for listener in listeners:
            listener.step_forward()

    def ahead(self) -> bool:
        """Whether another process that accepts here has clearly fewer."""
        return self.cell is not None and self.cell.ahead(self.open)

    async def emptied(self) -> None:
        """Wait until no connection is open."""
        if self.open:
            self._empty = asyncio.Event()
            await self._empty.wait()

    def warn(self, now: float, why: str) -> None:
        """Say why nobody is let in, at most once a minute."""
        if now - self._warned_at >= _WARN_EVERY:
            self._warned_at = now
            log.warning("%s: %d connections open, new clients wait", why, self.open)


class Listener(Handler):
    """One listening socket. `on_accept` is called with each connection, counted in already, and its peer's address.

    Several processes may accept from one backlog. Of those that wait the kernel wakes one (EPOLLEXCLUSIVE), and as it
    likes: mostly the same. So one that is ahead of another steps back, out of the set, looks every 20 ms whether it
    still is, and comes back as well when clients are waiting: then the others have no time, or stand still.
    """

    __slots__ = ("_fd", "_generous_until", "_limit", "_poller", "_stepped_back", "_watching", "on_accept", "sock")

    def __init__(
        self,
        poller: Poller,
        limit: ConnectionLimit,
        sock: SocketType,
        on_accept: Callable[[Socket, SocketAddress], None],
    ) -> None:
        super().__init__()
        self._poller = poller
        self._limit = limit
        self._fd = sock.fileno()
        self._watching = False
        self._stepped_back = False
        self._generous_until = 0.0
        self.sock = sock
        self.on_accept = on_accept
        self.resume()

    def resume(self) -> None:
        """Accept, again after a `pause`."""
        if self._watching or self._fd < 0:
            return
        try:
            self._poller.add(self._fd, self, IN if self._limit.cell is None else IN | EXCLUSIVE)
            self._watching = True
        except OSError as error:
            self._try_later(error)

    def ready(self, fd: int, events: int) -> None:
        """Accept what there is, up to BURST. Of more the set tells again, for a listener is level-triggered."""
        if self._limit.full():
            self._limit.warn(self._poller.now, "out of file descriptors (raise LimitNOFILE)")
            self.pause()
            self._limit.wait(self)
            return
        for _ in range(BURST):
            if not self._accept_one() or self._limit.full():
                break
            if self._limit.cell is not None and self._step_back():
                break

    def _step_back(self) -> bool:
        """Leave new connections to processes that have fewer, if there is one; returns whether it does."""
        now = self._poller.now
        if now < self._generous_until or not self._limit.ahead() or not self._watching:
            return False
        self.pause()
        self._stepped_back = True
        self._limit.step_back(self)
        self._poller.at(self, now + _LET_OTHERS)
        return True

    def step_forward(self) -> None:
        """Accept again, if it is for the others' sake that it does not."""
        if self._stepped_back:
            self._stepped_back = False
            self.resume()

    def _accept_one(self) -> bool:
        """Accept one connection; returns whether there may be more."""
        try:
            accepted = accept(self.sock, self._fd)
        except OSError as error:
            if error.errno in _GONE:
                return True
            if error.errno in _BUGS:
                raise
            self._poller.pipes.close()
            self.pause()
            self._try_later(error)
            return False
        if accepted is None:
            return False
        self._limit.acquire()
        self.on_accept(accepted[0], accepted[1])
        return self._watching

    def _try_later(self, error: OSError) -> None:
        self._limit.warn(self._poller.now, f"cannot accept: {os.strerror(error.errno or 0).lower()}")
        self._poller.at(self, self._poller.now + _PAUSE)

    def due(self, now: float) -> float:
        """Try again."""
        if self._stepped_back and self._limit.ahead():
            if not backlog(self.sock):
                return now + _LET_OTHERS
            self._generous_until = now + _HELP_OUT
        self._stepped_back = False
        self.resume()
        return NEVER if self._watching else now + _PAUSE

    def crashed(self) -> None:
        """Accept again a little later: one bad accept must not close the port."""
        self.pause()
        self._poller.at(self, self._poller.now + _PAUSE)

    def pause(self) -> None:
        """Leave clients in the backlog until `resume`."""
        self._poller.timers.drop(self)
        self._stepped_back = False
        if self._watching:
            self._watching = False
            self._poller.remove(self._fd)

    def close(self) -> None:
        """Stop listening; connections that wait in the backlog are reset by the kernel."""
        self.pause()
        self._fd = -1
        self.sock.close()
