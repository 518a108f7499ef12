"""Who listens where, how connections are made, and hosts that fall silent and come back."""

from __future__ import annotations

import errno
from collections import deque

from tests.sim.kernel import IN, File, Kernel, Listens, fail
from tests.sim.tcp import Endpoint, Where

_SYN_AGAIN = 1.0


def fall_silent(kernel: Kernel, host: str) -> None:
    """Have nothing get through to and from a host any more."""
    kernel.dead.add(host)
    for end in _ends_of(kernel, host):
        end.host_fell_silent()


def come_back(kernel: Kernel, host: str) -> None:
    """Have all get through again, also what was sent meanwhile."""
    kernel.dead.discard(host)
    for end in _ends_of(kernel, host):
        end.move()


def _ends_of(kernel: Kernel, host: str) -> list[Endpoint]:
    kernel.ends = [end for end in kernel.ends if isinstance(end, Endpoint) and not end.gone]
    return [end for end in kernel.ends if isinstance(end, Endpoint) and end.host == host]


class Listener(File, Listens):
    """A listening socket; `room` connections wait in it at most."""

    def __init__(self, kernel: Kernel, where: Where, room: int = 128) -> None:
        File.__init__(self)
        self.kernel = kernel
        self.where = where
        self.room = room
        self.waiting: deque[Endpoint] = deque()
        kernel.listening[where] = self

    def mask(self) -> int:
        """See `File`."""
        return IN if self.waiting else 0

    def arrived(self, near: object) -> bool:
        """See `Listens`."""
        assert isinstance(near, Endpoint)
        if len(self.waiting) >= self.room:
            return False
        self.waiting.append(near)
        self.wake(IN)
        return True

    def accept(self) -> Endpoint:
        """Return the next connection. Raises EAGAIN."""
        if not self.waiting:
            raise fail(errno.EAGAIN)
        return self.waiting.popleft()

    def released(self) -> None:
        """See `File`."""
        del self.kernel.listening[self.where]
        for near in self.waiting:
            near.reset()


def connect(kernel: Kernel, source: str, where: Where) -> Endpoint:
    """Begin to connect from one address to another; returns this end."""
    local = (source, next(kernel.ports))
    far = Endpoint(kernel, local, where)
    near = Endpoint(kernel, where, local)
    far.peer, near.peer = near, far
    kernel.ends += [near, far]

    def knock() -> None:
        if far.gone:
            return
        listener = kernel.listening.get(where)
        if far.host in kernel.dead:
            kernel.later(_SYN_AGAIN, knock)
        elif listener is None:
            far.was_reset(errno.ECONNREFUSED)
        else:
            near.connected = True
            if not listener.arrived(near):
                near.connected = False
                kernel.later(_SYN_AGAIN, knock)
                return
            kernel.later(kernel.delay(far.host), far.came_up)

    kernel.later(kernel.delay(far.host), knock)
    return far
