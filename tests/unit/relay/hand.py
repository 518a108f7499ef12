"""A loop that a test turns by hand, and real TCP connections of loopback for the relay to work on."""

from __future__ import annotations

import os
import select
import socket
import struct
from asyncio import AbstractEventLoop
from collections.abc import Callable
from time import monotonic

from lbproxy.net.poller import Poller
from tests.support.wait import FACTOR

_LINGER_RESET = struct.pack("ii", 1, 0)


class Timer:
    """A timer handle."""

    def __init__(self, when: float, callback: Callable[[], None]) -> None:
        self.when = when
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        """Never call back."""
        self.cancelled = True


class HandLoop(AbstractEventLoop):
    """What the poller uses of an event loop; it runs when `step` or `until` is called and never else."""

    def __init__(self) -> None:
        self.readers: dict[int, Callable[[], None]] = {}
        self.soon: list[Callable[[], None]] = []
        self.timers: list[Timer] = []

    def add_reader(self, fd: int, callback: Callable[[], None]) -> None:
        """Call `callback` in each step in which `fd` is readable."""
        self.readers[fd] = callback

    def remove_reader(self, fd: int) -> None:
        """Stop that."""
        del self.readers[fd]

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Call `callback` in the next step."""
        self.soon.append(callback)

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        """Call `callback` in the first step after `delay` seconds."""
        self.timers.append(Timer(monotonic() + delay, callback))
        return self.timers[-1]

    def step(self, wait: float = 0.0) -> bool:
        """Run one iteration, which waits for at most `wait` seconds; returns whether there was anything to do."""
        soon, self.soon = self.soon, []
        self.timers = [timer for timer in self.timers if not timer.cancelled]
        ready, _, _ = select.select(list(self.readers), [], [], 0 if soon else wait)
        due = [timer for timer in self.timers if timer.when <= monotonic()]
        self.timers = [timer for timer in self.timers if timer not in due]
        for callback in [*soon, *(self.readers[fd] for fd in ready), *(t.callback for t in due if not t.cancelled)]:
            callback()
        return bool(soon or ready or due)

    def settle(self) -> None:
        """Step until there is nothing left to do.

        What is sent over loopback has arrived by then; but on a busy machine the kernel leaves that to a thread of its
        own, ksoftirqd, which has to wait for its turn like any other.
        """
        late = 0.02 if os.getloadavg()[0] > (os.cpu_count() or 1) else 0.0
        end = monotonic() + 10 * FACTOR
        while self.step() or (late and self.step(late)):
            assert monotonic() < end, "the loop does not come to rest"

    def until(self, condition: Callable[[], object], what: str = "") -> None:
        """Step until `condition` is true."""
        end = monotonic() + 10 * FACTOR
        while not condition():
            assert monotonic() < end, f"in vain: {what or condition}"
            self.step(0.005)


class Bench:
    """A poller on a `HandLoop`, and the sockets made for a test; closes everything."""

    def __init__(self) -> None:
        self.loop = HandLoop()
        self.poller = Poller(self.loop)
        self.sockets: list[socket.socket] = []

    def close(self) -> None:
        """Close the poller and every socket."""
        self.poller.close()
        for sock in self.sockets:
            sock.close()

    def keep(self, sock: socket.socket) -> socket.socket:
        """Have `sock` closed at the end."""
        self.sockets.append(sock)
        return sock

    def listen(self, backlog: int = 128) -> socket.socket:
        """Return a listening loopback socket."""
        listener = self.keep(socket.create_server(("127.0.0.1", 0), backlog=backlog))
        listener.settimeout(10 * FACTOR)
        return listener

    def pair(self, receive_buffer: int = 0, send_buffer: int = 0) -> tuple[socket.socket, socket.socket]:
        """Return two ends of a TCP connection, the second with those buffer sizes where they are not 0.

        `receive_buffer` is that of the first end, so that the two together limit what the second can send.
        """
        with socket.create_server(("127.0.0.1", 0)) as listener:
            far = self.keep(socket.socket())
            if receive_buffer:
                far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            far.connect(listener.getsockname())
            near = self.keep(listener.accept()[0])
        os.set_blocking(near.fileno(), False)
        if send_buffer:
            near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        for sock in (far, near):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # What is sent is there at once; BBR, where that is the default, paces what comes behind bulk
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"reno")
        far.setblocking(False)
        return far, near

    def silent_port(self) -> tuple[str, int]:
        """Return an address that neither takes nor refuses a connection: its backlog is full."""
        listener = self.listen(backlog=0)
        filler = self.keep(socket.socket())
        filler.connect(listener.getsockname())
        address: tuple[str, int] = listener.getsockname()
        return address


def reset(sock: socket.socket) -> None:
    """Close `sock` with a RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RESET)
    sock.close()


def take(sock: socket.socket) -> bytes:
    """Return what is there to be read, b"" at the end or if there is nothing."""
    got = bytearray()
    try:
        while data := sock.recv(1 << 16):
            got += data
    except BlockingIOError:
        pass
    return bytes(got)


def stuff(sock: socket.socket, data: bytes) -> int:
    """Send as much of `data` as the socket takes and return how much."""
    sent = 0
    try:
        while sent < len(data):
            sent += sock.send(data[sent:])
    except BlockingIOError:
        pass
    return sent


def ended(sock: socket.socket) -> str:
    """Say how the stream that arrives at `sock` goes on, with nothing left in it: `fin`, `rst` or `open`."""
    try:
        data = sock.recv(1)
    except BlockingIOError:
        return "open"
    except (ConnectionResetError, BrokenPipeError):
        return "rst"
    assert not data, "there were bytes left"
    return "fin"
