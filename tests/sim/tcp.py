"""TCP as lbproxy meets it: streams with buffers and latency, FIN and RST, hosts that fall silent.

Left out: segments and their sizes (what fits goes at once), loss other than of a whole host, TIME_WAIT, urgent data,
and retransmission timeouts of hosts that never come back (15 minutes), which nothing here waits for.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Callable

from tests.sim.kernel import ERR, HUP, IN, OUT, RDHUP, File, Kernel, fail

Where = tuple[str, int]
_REPEATED = 0.6


class Endpoint(File):
    """One end of a connection. `host` is the far one's address, which may be dead; None once it is dissolved."""

    def __init__(self, kernel: Kernel, local: Where, remote: Where) -> None:
        super().__init__()
        self.kernel = kernel
        self.local, self.remote = local, remote
        self.host = remote[0] if not remote[0].startswith("127.") else local[0]
        """The address on the other machine."""
        self.peer: Endpoint | None = None
        self.send_room = self.receive_room = kernel.room
        self.inbox, self.outbox = bytearray(), bytearray()
        self.error = 0
        self.connected = self.gone = self.fin_in = self.fin_due = self.fin_out = False
        self.lacked_room = self.linger = self.moving = self.closed = False
        self.told: Callable[[], None] = _nothing
        """Called whenever something has happened, for ends that no process holds."""
        self.keepalive = [0, 0, 0, 0]
        self.sent_at = self.received_at = self.heard_at = kernel.now
        self.waits_since = 0.0

    def silent(self) -> bool:
        """Whether nothing gets through."""
        return self.host in self.kernel.dead

    # -- what a process or an actor does --------------------------------------------------------------------------

    def write(self, data: bytes) -> int:
        """Take in what fits. Raises EAGAIN, EPIPE and whatever has happened."""
        if self.error:
            raise fail(self._taken())
        if self.gone or self.fin_due:
            raise fail(errno.EPIPE)
        room = self.send_room - len(self.outbox)
        if room <= 0 or not self.connected:
            self.lacked_room = True
            raise fail(errno.EAGAIN)
        size = min(room, len(data))
        if size < len(data):
            self.lacked_room = True
        self.outbox += data[:size]
        self.sent_at = self.kernel.now
        self.move()
        return size

    def read(self, most: int) -> bytes:
        """Return what has arrived, b"" at the end. Raises EAGAIN and whatever has happened."""
        if self.inbox:
            data = bytes(self.inbox[:most])
            del self.inbox[:most]
            if self.peer is not None:
                self.peer.move()
            return data
        if self.fin_in:
            return b""  # what happens behind a FIN no read tells of
        if self.error:
            raise fail(self._taken())
        if self.gone:
            return b""
        raise fail(errno.EAGAIN)

    def finish(self) -> None:
        """Send a FIN behind what was written."""
        if self.gone or not self.connected or (self.fin_in and self.fin_out):
            raise fail(errno.ENOTCONN)
        if not self.fin_due:
            self.fin_due = True
            self.move()

    def reset(self) -> None:
        """Send a RST, and be no connection any more."""
        peer = self.peer
        self._over()
        if peer is not None:
            self.kernel.later(self.kernel.delay(self.host), peer.was_reset)

    def released(self) -> None:
        """Close: with a RST if that was asked for, or if something was not read; else with a FIN."""
        if self.gone or not self.connected or self.linger or self.inbox:
            self.reset()
        else:
            self.closed = self.fin_due = True
            self.move()

    # -- what happens to it --------------------------------------------------------------------------------------

    def mask(self) -> int:
        """See `File`."""
        if self.gone:
            return IN | OUT | RDHUP | HUP | (ERR if self.error else 0)
        if not self.connected:
            return 0
        events = OUT if 3 * len(self.outbox) < 2 * self.send_room or self.fin_due else 0
        if self.inbox or self.fin_in:
            events |= IN
        if self.fin_in:
            events |= RDHUP | (HUP if self.fin_out else 0)
        return events | (ERR if self.error else 0)

    def came_up(self) -> None:
        """Called when the connection is made."""
        if not self.gone and not self.connected:
            self.connected = True
            self.heard_at = self.kernel.now
            self._tell(OUT)

    def was_reset(self, number: int = errno.ECONNRESET) -> None:
        """Called when a RST has come, or something that is the same to who reads."""
        if self.gone or (self.silent() and number == errno.ECONNRESET):
            return
        ended = self.fin_in and self.fin_out
        self._over()
        if not ended:
            self.error = errno.EPIPE if self.fin_in else number  # tcp_reset() in net/ipv4/tcp_input.c
            self._tell(IN | OUT | RDHUP | HUP | ERR)

    def move(self) -> None:
        """Bring on its way what is to be sent."""
        if not self.moving and not self.gone and (self.outbox or (self.fin_due and not self.fin_out)):
            if not self.waits_since:
                self.waits_since = self.kernel.now
            self.moving = True
            self.kernel.later(self.kernel.delay(self.host), self._arrive)

    def _arrive(self) -> None:
        self.moving = False
        peer = self.peer
        if self.gone or peer is None or self.silent() or not peer.connected:
            return  # it is sent again when the host is back, or the connection made
        self.waits_since, self.heard_at = 0.0, self.kernel.now
        if peer.gone or (peer.closed and self.outbox):
            self.was_reset()
            if not peer.gone:
                peer.was_reset()
            return
        size = min(len(self.outbox), max(0, peer.receive_room - len(peer.inbox)))
        if size:
            size = self.kernel.rng.choice((size, size, max(1, size // 2)))
            peer.inbox += self.outbox[:size]
            del self.outbox[:size]
            peer.received_at = peer.heard_at = self.kernel.now
            peer._tell(IN)
            if self.lacked_room and 3 * len(self.outbox) < 2 * self.send_room:
                self.lacked_room = False
                self._tell(OUT)
        if not self.outbox and self.fin_due and not self.fin_out:
            self.fin_out = True
            peer.fin_in = True
            peer._tell(IN | RDHUP | (HUP if peer.fin_out else 0))
            if self.fin_in:
                self._tell(HUP)
        elif size and self.outbox:
            self.move()

    def _over(self) -> None:
        self.gone = True
        self.outbox.clear()
        self.peer = None

    def _tell(self, events: int) -> None:
        self.wake(events)
        self.told()

    def _taken(self) -> int:
        number, self.error = self.error, 0
        return number

    # -- options -------------------------------------------------------------------------------------------------

    def option(self, level: int, name: int, value: int | bytes) -> None:
        """See setsockopt(2)."""
        if (level, name) == (socket.SOL_SOCKET, socket.SO_LINGER):
            assert isinstance(value, bytes)
            self.linger = struct.unpack("ii", value) == (1, 0)
        elif (level, name) == (socket.SOL_SOCKET, socket.SO_KEEPALIVE):
            self.keepalive[0] = int(value)
        elif level == socket.IPPROTO_TCP and name in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT):
            self.keepalive[(socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT).index(name) + 1] = int(value)

    def ask(self, level: int, name: int, size: int) -> int | bytes:
        """See getsockopt(2)."""
        if (level, name) == (socket.SOL_SOCKET, socket.SO_ERROR):
            return self._taken()
        if (level, name) == (socket.IPPROTO_TCP, socket.TCP_INFO):
            return self._info(size)
        if (level, name) == (socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            return 0
        raise fail(errno.ENOPROTOOPT)

    def _info(self, size: int) -> bytes:
        if self.gone:
            raise fail(errno.EINVAL)
        now = self.kernel.now
        again = 3 if self.silent() and self.waits_since and now - self.waits_since > _REPEATED else 0
        ago = [int((now - at) * 1000) for at in (self.sent_at, self.received_at, self.heard_at)]
        info = struct.pack("=2xBB20xI16xI4xII", again, 0, int(bool(self.outbox)), *ago)
        return info[:size]

    def host_fell_silent(self) -> None:
        """Called when the far host is dead: keepalive finds that out."""
        on, idle, interval, times = self.keepalive
        if on and self.connected and not self.gone:
            self.kernel.later(idle + interval * times, self._keepalive_over)

    def _keepalive_over(self) -> None:
        if self.silent():
            self.was_reset(errno.ETIMEDOUT)


def _nothing() -> None:
    """Tell nobody."""
