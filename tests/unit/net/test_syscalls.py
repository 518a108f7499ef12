"""The system calls of the hot path: the plain form, and the one in C where it is built, by one description."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import importlib.util
import os
import socket
import sys
from threading import Thread
from types import ModuleType

import pytest
import uvloop

from lbproxy.net import plain, syscalls
from lbproxy.net.contract import BUFFER, MOST_EVENTS
from tests.support.need import need
from tests.unit.relay.hand import Bench, reset, stuff, take

IN, OUT = 1, 4
"""EPOLLIN and EPOLLOUT, as linux/eventpoll.h has them."""


FORMS = {"plain": plain, "in C": syscalls.form} if syscalls.COMPILED else {"plain": plain}


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> ModuleType:
    """Return one of the forms there are."""
    return FORMS[request.param]


def test_the_form_in_c_is_used_where_it_is_built() -> None:
    """Who asks `syscalls` need not know of two; `COMPILED` says which it is."""
    assert (importlib.util.find_spec("lbproxy.net._syscalls") is not None) == syscalls.COMPILED
    assert syscalls.form.__name__ == ("lbproxy.net._syscalls" if syscalls.COMPILED else "lbproxy.net.plain")
    for name in ("accept", "connect", "copy", "epoll", "recv", "send", "splice"):
        assert getattr(syscalls, name) is getattr(syscalls.form, name)


@pytest.fixture
def two(bench: Bench) -> tuple[socket.socket, socket.socket]:
    """Return the ends of a connection, both non-blocking."""
    return bench.pair()


# -- Epoll -------------------------------------------------------------------------------------------------------


def test_a_set_tells_what_is_ready_and_never_waits(form: ModuleType, two: tuple[socket.socket, socket.socket]) -> None:
    """A descriptor, its events, the next descriptor and so on; nothing of one that was taken out."""
    near, far = two
    epoll = form.epoll()
    assert epoll.poll() == ()
    epoll.register(near.fileno(), IN)
    assert epoll.poll() == ()
    far.send(b"x")
    epoll.register(far.fileno(), IN | OUT)
    told = epoll.poll()
    assert {(told[0], told[1]), (told[2], told[3])} == {(near.fileno(), IN), (far.fileno(), OUT)}
    epoll.unregister(near.fileno())
    assert epoll.poll() == (far.fileno(), OUT)
    epoll.close()


def test_a_set_is_itself_a_descriptor(form: ModuleType, two: tuple[socket.socket, socket.socket]) -> None:
    """So that an event loop can watch it. To close it again is no error."""
    outer, inner = form.epoll(), form.epoll()
    outer.register(inner.fileno(), IN)
    inner.register(two[0].fileno(), OUT)
    assert outer.poll() == (inner.fileno(), IN)
    assert not os.get_inheritable(inner.fileno())
    inner.close()
    inner.close()
    outer.close()


@pytest.mark.parametrize("verb", ["register", "unregister"])
def test_what_is_no_descriptor_is_refused(form: ModuleType, verb: str) -> None:
    """With the kernel's own word for it."""
    epoll = form.epoll()
    with pytest.raises(OSError, match="Bad file descriptor"):
        getattr(epoll, verb)(*((999_999, IN) if verb == "register" else (999_999,)))
    epoll.close()


def test_one_poll_tells_of_so_many_descriptors_at_most(form: ModuleType, bench: Bench) -> None:
    """The others come with the next."""
    epoll = form.epoll()
    ends = [os.eventfd(1) for _ in range(300)]
    for fd in ends:
        epoll.register(fd, IN)
    assert len(epoll.poll()) == 2 * MOST_EVENTS
    for fd in ends:
        os.close(fd)
    epoll.close()


# -- sockets -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "127.23.4.205", "::1"])
def test_a_connection_is_accepted_with_the_address_of_its_peer(form: ModuleType, bench: Bench, host: str) -> None:
    """Non-blocking, closed when a program is started, and without waiting when there is none."""
    if ":" in host:
        need("ipv6")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = bench.keep(socket.create_server((host, 0), family=family))
    listener.setblocking(False)
    assert form.accept(listener, listener.fileno()) is None
    client = bench.keep(socket.create_connection(listener.getsockname()[:2], source_address=(host, 0)))
    server, peer = form.accept(listener, listener.fileno())
    assert peer == client.getsockname()
    assert (server.family, server.getsockname()) == (family, client.getpeername())
    assert fcntl.fcntl(server.fileno(), fcntl.F_GETFL) & os.O_NONBLOCK
    assert not os.get_inheritable(server.fileno())
    server.close()
    assert client.recv(1) == b""
    server.close()
    assert server.fileno() == -1


def test_a_listener_that_is_closed_accepts_nothing(form: ModuleType) -> None:
    """It is an error, not an empty backlog."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.close()
    with pytest.raises((OSError, ValueError)):
        form.accept(listener, listener.fileno())


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_connect_is_begun_and_not_waited_for(form: ModuleType, bench: Bench, host: str) -> None:
    """The socket is non-blocking and has TCP_NODELAY."""
    if ":" in host:
        need("ipv6")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = bench.keep(socket.create_server((host, 0), family=family))
    sock = form.connect(family, listener.getsockname())
    server = bench.keep(listener.accept()[0])
    assert sock.getsockname() == server.getpeername()
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
    assert fcntl.fcntl(sock.fileno(), fcntl.F_GETFL) & os.O_NONBLOCK
    assert not os.get_inheritable(sock.fileno())
    sock.shutdown(socket.SHUT_WR)
    assert server.recv(1) == b""
    sock.close()


def test_a_refused_connect_says_so_at_once_or_by_so_error(form: ModuleType, bench: Bench) -> None:
    """Which of the two is up to the kernel; the errno is the same."""
    closed = bench.keep(socket.socket())
    closed.bind(("127.0.0.1", 0))
    try:
        sock = form.connect(socket.AF_INET, closed.getsockname())
    except OSError as error:
        number = error.errno
    else:
        number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        sock.close()
    assert number == errno.ECONNREFUSED


def test_what_cannot_be_reached_leaves_no_descriptor(form: ModuleType) -> None:
    """An address of another family, or a broadcast address, fails before anything is sent."""
    with pytest.raises(OSError, match=r"."):
        form.connect(socket.AF_INET, ("255.255.255.255", 9))
    with pytest.raises((OSError, ValueError)):
        form.connect(socket.AF_INET, ("::1", 9))
    with pytest.raises(OverflowError):
        form.connect(socket.AF_INET, ("127.0.0.1", 65536))


def test_options_are_read_and_set_as_numbers_and_as_bytes(form: ModuleType, bench: Bench) -> None:
    """SO_LINGER and TCP_INFO are structures; an option that does not exist is an error."""
    listener = bench.listen()
    sock = form.connect(socket.AF_INET, listener.getsockname())
    far = bench.keep(listener.accept()[0])
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 33)
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 33
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes([1, 0, 0, 0, 0, 0, 0, 0]))
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8) == bytes([1, 0, 0, 0, 0, 0, 0, 0])
    assert len(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 56)) == 56
    with pytest.raises(OSError, match="Protocol not available"):
        sock.getsockopt(socket.IPPROTO_TCP, 9999)
    with pytest.raises(OSError, match="Protocol not available"):
        sock.setsockopt(socket.IPPROTO_TCP, 9999, 1)
    sock.close()
    with pytest.raises(ConnectionResetError):
        far.recv(1)
    with pytest.raises(OSError, match="Bad file descriptor"):
        sock.shutdown(socket.SHUT_WR)


# -- bytes -------------------------------------------------------------------------------------------------------


def test_recv_and_send_tell_errors_by_exceptions(form: ModuleType, bench: Bench) -> None:
    """Nothing there, nothing taken, a reset; the end is none, and no more is read than was asked for."""
    near, far = bench.pair()
    with pytest.raises(BlockingIOError):
        form.recv(near.fileno(), 10)
    assert form.send(far.fileno(), b"0123456789") == 10
    assert form.recv(near.fileno(), 4) == b"0123"
    assert form.recv(near.fileno(), 1 << 31) == b"456789"
    stuff(near, bytes(10_000_000))
    with pytest.raises(BlockingIOError):
        form.send(near.fileno(), b"x")
    far.shutdown(socket.SHUT_WR)
    assert form.recv(near.fileno(), 10) == b""
    near, far = bench.pair()
    reset(far)
    with pytest.raises(ConnectionResetError):
        form.recv(near.fileno(), 10)
    with pytest.raises(BrokenPipeError):
        form.send(near.fileno(), b"x")


@pytest.mark.parametrize("size", [1, 300, BUFFER - 1, BUFFER])
def test_a_copy_that_goes_through_is_a_number(form: ModuleType, bench: Bench, size: int) -> None:
    """The bytes moved, then that there is nothing, then the end."""
    (head, src), (tail, dst) = bench.pair(), bench.pair()
    data = os.urandom(size)
    got = b""
    head.sendall(data)
    while len(got) < size:
        moved = form.copy(src.fileno(), dst.fileno())
        assert 0 < moved <= BUFFER
        got += take(tail)
    assert got == data
    assert form.copy(src.fileno(), dst.fileno()) == -errno.EAGAIN
    head.shutdown(socket.SHUT_WR)
    assert form.copy(src.fileno(), dst.fileno()) == 0


def test_what_the_destination_does_not_take_is_handed_back(form: ModuleType, bench: Bench) -> None:
    """With how much of it was taken, be it nothing; not a byte is lost or said twice."""
    (head, src), (tail, dst) = bench.pair(), bench.pair(16384, 16384)
    data = os.urandom(2_000_000)
    sent = stuff(head, data)
    through = 0
    while isinstance(moved := form.copy(src.fileno(), dst.fileno()), int):
        through += moved
        sent += stuff(head, data[sent:])
    size, written, rest = moved
    through += written
    assert len(rest) == size - written > 0
    assert data.startswith(rest, through)
    stuff(dst, bytes(1_000_000))
    size, written, more = form.copy(src.fileno(), dst.fileno())
    assert (written, len(more)) == (0, size)
    assert data.startswith(more, through + len(rest))
    assert take(tail).startswith(data[:through])


def test_a_copy_says_which_side_failed(form: ModuleType, bench: Bench) -> None:
    """A source by its number alone, a destination beside what was read."""
    (head, src), (tail, dst) = bench.pair(), bench.pair()
    head.send(b"lost")
    reset(tail)
    assert form.copy(src.fileno(), dst.fileno()) in ((4, -errno.EPIPE, b""), (4, -errno.ECONNRESET, b""))
    reset(head)
    assert form.copy(src.fileno(), dst.fileno()) == -errno.ECONNRESET


def test_a_splice_is_a_number(form: ModuleType, two: tuple[socket.socket, socket.socket]) -> None:
    """What was moved, that there is nothing, that these two cannot be spliced, and the end."""
    near, far = two
    read_fd, write_fd = os.pipe2(os.O_NONBLOCK)
    assert form.splice(near.fileno(), write_fd, 100) == -errno.EAGAIN
    far.send(b"0123456789")
    assert form.splice(near.fileno(), write_fd, 4) == 4
    assert form.splice(near.fileno(), write_fd, 100) == 6
    assert form.splice(read_fd, near.fileno(), 100) == 10
    assert take(far) == b"0123456789"
    assert form.splice(near.fileno(), far.fileno(), 100) == -errno.EINVAL
    far.shutdown(socket.SHUT_WR)
    assert form.splice(near.fileno(), write_fd, 100) == 0
    os.close(read_fd)
    os.close(write_fd)


@pytest.mark.parametrize(("name", "arguments"), [
    ("copy", (1,)), ("copy", ("1", 2)), ("splice", (1, 2)), ("recv", (1,)), ("recv", (1, "x")), ("send", (1, "text")),
    ("send", (1,)), ("connect", (socket.AF_INET,)), ("connect", (socket.AF_INET, "127.0.0.1")), ("accept", ()),
    ("epoll", (1,)),
])  # fmt: skip
def test_a_wrong_call_is_a_type_error(form: ModuleType, name: str, arguments: tuple[object, ...]) -> None:
    """Too few arguments, or of another type."""
    with pytest.raises(TypeError):
        getattr(form, name)(*arguments)


# -- embedding ---------------------------------------------------------------------------------------------------


uvloop.new_event_loop().close()  # libuv opens a pipe for good with the first loop of a process


class Host:
    """A set that is embedded in uvloop, where it can be: in both forms what is ready is told while the loop goes on."""

    def __init__(self, form: ModuleType) -> None:
        self.epoll = form.epoll()
        self.told: list[tuple[int, ...]] = []
        self.calls = 0
        self.again = 0
        self.embedded = syscalls.embed(self.epoll, asyncio.get_running_loop(), self.handle)

    def handle(self, events: tuple[int, ...]) -> bool:
        """Read what is ready, and ask for another call at once as often as the test says."""
        self.calls += 1
        if events:
            self.told.append(events)
        for fd in events[::2]:
            os.read(fd, 8)
        self.again -= 1
        return self.again >= 0


def test_a_loop_and_the_set_in_it_wait_for_each_other(form: ModuleType) -> None:
    """Timers, callbacks, threads and descriptors of the loop come in time; so does what the set tells."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        host = Host(form)
        if not host.embedded:
            return
        ours, theirs = os.eventfd(0), os.eventfd(0)
        host.epoll.register(ours, IN)
        heard: list[str] = []
        loop.add_reader(theirs, lambda: (os.read(theirs, 8), heard.append("reader")))
        for _ in range(50):
            before = len(host.told)
            await asyncio.sleep(0)
            await asyncio.sleep(0.002)
            os.eventfd_write(ours, 1)
            os.eventfd_write(theirs, 1)
            loop.call_soon(heard.append, "soon")
            thread = Thread(target=loop.call_soon_threadsafe, args=(heard.append, "thread"))
            thread.start()
            while len(heard) < 3 or len(host.told) == before:
                await asyncio.sleep(0.001)
            assert sorted(heard) == ["reader", "soon", "thread"]
            assert host.told[before:] == [(ours, IN)]
            heard.clear()
            thread.join()
        loop.remove_reader(theirs)
        host.epoll.close()
        await asyncio.sleep(0.001)  # and the loop goes on without it
        os.close(ours)
        os.close(theirs)

    uvloop.run(main())


def test_who_wants_to_be_called_again_is_not_kept_waiting(form: ModuleType) -> None:
    """Somebody in the run queue has bytes to move, and no event need come for it."""

    async def main() -> None:
        host = Host(form)
        await asyncio.sleep(0.01)
        host.again = 100
        await asyncio.sleep(0)  # else the loop would not wait itself
        await asyncio.sleep(0.05)
        assert host.again < 0 or not host.embedded
        host.epoll.close()

    uvloop.run(main())


def test_a_handler_that_raises_is_told_and_the_loop_goes_on(form: ModuleType) -> None:
    """There is nobody above it who could take the exception, and everything else must not suffer for it."""
    told: list[object] = []

    async def main() -> None:
        epoll = form.epoll()
        if not syscalls.embed(epoll, asyncio.get_running_loop(), lambda _: 1 // 0 > 0):
            epoll.close()
            return
        before, sys.unraisablehook = sys.unraisablehook, lambda unraisable: told.append(unraisable.exc_type)
        await asyncio.sleep(0.01)
        sys.unraisablehook = before
        epoll.close()
        assert set(told) == {ZeroDivisionError}

    uvloop.run(main())


def test_a_set_may_be_closed_by_what_it_calls(form: ModuleType) -> None:
    """The poller is closed by whoever stops the process, be it from within."""

    async def main() -> None:
        epoll = form.epoll()

        def handle(_: tuple[int, ...]) -> bool:
            epoll.close()
            return True

        if syscalls.embed(epoll, asyncio.get_running_loop(), handle):
            await asyncio.sleep(0.01)
            assert epoll.fileno() == -1
        epoll.close()

    uvloop.run(main())


def test_a_set_is_taken_out_of_a_loop_that_goes_on(form: ModuleType) -> None:
    """And can be closed like any other then."""

    async def main() -> Host:
        return Host(form)

    loop = uvloop.new_event_loop()
    host = loop.run_until_complete(main())
    host.epoll.close()
    before = host.calls
    loop.run_until_complete(asyncio.sleep(0.01))
    assert host.calls == before
    loop.close()  # an error if anything of it were left there


def test_another_loop_is_left_alone(form: ModuleType) -> None:
    """Only of uvloop it is known how to wait for it."""
    loop = asyncio.SelectorEventLoop()
    epoll = form.epoll()
    assert not syscalls.embed(epoll, loop, lambda _: False)
    epoll.close()
    loop.close()
