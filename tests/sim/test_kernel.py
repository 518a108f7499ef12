"""The simulated kernel is held against the real one: the same programs of calls have the same results on both."""

from __future__ import annotations

import errno
import select
import socket
import struct
import time
from collections.abc import Callable, Iterator
from random import Random
from typing import Protocol

import pytest

from tests.sim.kernel import Kernel, drop
from tests.sim.network import Listener, connect
from tests.sim.tcp import Endpoint

ASKED = select.EPOLLIN | select.EPOLLRDHUP
"""What both must say of a socket besides hang-ups; how much room a socket has is each kernel's own business."""
_RESET = struct.pack("ii", 1, 0)
OPERATIONS = ("write", "read", "read", "read all", "finish", "close", "reset", "dissolve")


class Pair(Protocol):
    """A connection with two ends, 0 and 1."""

    def write(self, end: int, data: bytes) -> int: ...
    def read(self, end: int, most: int) -> bytes: ...
    def finish(self, end: int) -> None: ...
    def close(self, end: int, reset: bool) -> None: ...
    def mask(self, end: int) -> int: ...
    def settle(self) -> None: ...


class Real:
    """On loopback."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            first = socket.create_connection(listener.getsockname())
            second, _ = listener.accept()
        self.ends = [first, second]
        for sock in self.ends:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def write(self, end: int, data: bytes) -> int:
        return self.ends[end].send(data)

    def read(self, end: int, most: int) -> bytes:
        return self.ends[end].recv(most)

    def finish(self, end: int) -> None:
        self.ends[end].shutdown(socket.SHUT_WR)

    def close(self, end: int, reset: bool) -> None:
        if reset:
            self.ends[end].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.ends[end].close()

    def mask(self, end: int) -> int:
        poll = select.poll()
        poll.register(self.ends[end], ASKED)
        return sum(events for _, events in poll.poll(0))

    def settle(self) -> None:
        time.sleep(0.002)


class Simulated:
    """In memory."""

    def __init__(self, seed: int) -> None:
        self.kernel = Kernel(Random(seed))
        self.kernel.room = 1 << 20
        listener = Listener(self.kernel, ("127.0.0.1", 1))
        listener.refs = 1
        far = connect(self.kernel, "127.0.0.1", ("127.0.0.1", 1))
        self.settle()
        self.ends: list[Endpoint] = [far, listener.accept()]
        for end in self.ends:
            end.refs = 1
        drop(listener)

    def write(self, end: int, data: bytes) -> int:
        return self.ends[end].write(data)

    def read(self, end: int, most: int) -> bytes:
        return self.ends[end].read(most)

    def finish(self, end: int) -> None:
        self.ends[end].finish()

    def close(self, end: int, reset: bool) -> None:
        self.ends[end].linger = reset
        drop(self.ends[end])

    def mask(self, end: int) -> int:
        return self.ends[end].mask() & (ASKED | select.EPOLLHUP | select.EPOLLERR)

    def settle(self) -> None:
        self.kernel.run(self.kernel.now + 1.0)


def program(seed: int) -> Iterator[tuple[str, int, int]]:
    """Yield operations: what, at which end, how much."""
    rng = Random(seed)
    closed: set[int] = set()
    for _ in range(rng.randint(3, 14)):
        end = rng.randrange(2)
        what = rng.choice(OPERATIONS[:7])
        if end in closed:
            continue
        if what in ("close", "reset"):
            closed.add(end)
        yield what, end, rng.choice((1, 10, 1000))


def result(call: Callable[[], object]) -> object:
    """Return what a call returns, or the name of its error."""
    try:
        return call()
    except OSError as error:
        return errno.errorcode[error.errno or 0]


def run(pair: Pair, seed: int) -> list[object]:
    """Run a program, with all at rest between two calls; returns what came of each, and what epoll says of the rest."""
    results: list[object] = []
    closed: set[int] = set()
    for what, end, size in program(seed):
        if what == "write":
            results.append((what, end, result(lambda end=end, size=size: pair.write(end, b"x" * size))))
        elif what.startswith("read"):
            most = size if what == "read" else 1 << 20
            results.append((what, end, result(lambda end=end, most=most: pair.read(end, most))))
        elif what == "finish":
            results.append((what, end, result(lambda end=end: pair.finish(end))))
        else:
            pair.close(end, what == "reset")
            closed.add(end)
        pair.settle()
        results.append([pair.mask(each) for each in (0, 1) if each not in closed])
    for end in {0, 1} - closed:
        pair.close(end, reset=True)
    return results


@pytest.mark.parametrize("first", range(0, 200, 20))
def test_both_kernels_say_the_same(first: int) -> None:
    """Of bytes, ends, resets and errors, and of what epoll tells; twenty programs of a dozen calls each."""
    for seed in range(first, first + 20):
        assert run(Simulated(seed), seed) == run(Real(), seed), f"program {seed}: {list(program(seed))}"
