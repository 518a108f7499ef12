"""Rules of the control socket, with real sockets on both sides."""

from __future__ import annotations

import asyncio
import json
import os
import select
import socket
import stat
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop

from lbproxy.errors import ControlError, LbproxyError, NoDaemonError
from lbproxy.status import control
from lbproxy.status.client import call
from lbproxy.status.control import ControlServer
from lbproxy.tasks import Tasks
from tests.support.wait import until

uvloop.new_event_loop().close()  # libuv keeps a pipe from its first loop on, which no test is to be blamed for


async def echo(arguments: Mapping[str, object]) -> dict[str, Any]:
    """Answer with what was asked."""
    return {"got": arguments}


async def refuse(_arguments: Mapping[str, object]) -> dict[str, Any]:
    """Refuse as a command of the daemon does."""
    raise LbproxyError("not today")


async def fail(_arguments: Mapping[str, object]) -> dict[str, Any]:
    """Fail as a bug does."""
    raise RuntimeError("secret detail")


async def big(_arguments: Mapping[str, object]) -> dict[str, Any]:
    """Answer with more than a socket buffers."""
    return {"big": "x" * 8_000_000}


@contextmanager
def daemon(path: Path | str) -> Iterator[Callable[[], None]]:
    """Serve the commands above on `path`, in a loop of its own; yields what stops the server before the end."""
    loop, tasks = uvloop.new_event_loop(), Tasks()
    server = ControlServer(str(path), lambda: {"echo": echo, "refuse": refuse, "fail": fail, "big": big}, tasks)
    thread = threading.Thread(target=loop.run_forever, name="control loop")
    thread.start()

    def run(coro: Any) -> None:
        asyncio.run_coroutine_threadsafe(coro, loop).result(10)

    try:
        server.bind()
        run(server.start())
        try:
            yield lambda: run(server.stop())
        finally:
            run(server.stop())
    finally:
        run(tasks.cancel())
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def raw(path: Path, request: bytes) -> bytes:
    """Send `request` as it is, and return everything that comes back."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(10)
        sock.connect(str(path))
        sock.sendall(request)
        answer = b""
        try:
            while chunk := sock.recv(65536):
                answer += chunk
        except ConnectionResetError:
            answer += b" reset"
        return answer


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where the socket is to be."""
    return tmp_path / "control.sock"


def test_a_command_gets_its_arguments_and_its_answer_comes_back(path: Path) -> None:
    """As they were, of any text."""
    with daemon(path):
        arguments = {"server": "m3", "number": 1, "text": "é\n\0"}
        assert call(str(path), "echo", arguments) == {"got": arguments}


def test_a_big_answer_comes_whole(path: Path) -> None:
    """The status of many connections is larger than any buffer on the way."""
    with daemon(path):
        assert len(call(str(path), "big", {})["big"]) == 8_000_000


def test_a_refusal_is_raised_in_the_daemons_words(path: Path) -> None:
    """A LbproxyError of the command reaches the caller as ControlError with the same text."""
    with daemon(path), pytest.raises(ControlError, match=r"^not today$"):
        call(str(path), "refuse", {})


def test_a_bug_in_a_command_is_an_error_without_details(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The caller learns that it failed, the log has the traceback, and the server lives on."""
    with daemon(path):
        with pytest.raises(ControlError, match="command fail failed") as error:
            call(str(path), "fail", {})
        assert call(str(path), "echo", {}) == {"got": {}}
    assert "secret" not in str(error.value)
    assert "secret detail" in caplog.text


def test_an_unknown_command_is_answered_with_the_known_ones(path: Path) -> None:
    """A newer CLI learns from an older daemon that it cannot do that."""
    with daemon(path), pytest.raises(ControlError, match="no command 'dance' in this daemon, only big, echo, fail, r"):
        call(str(path), "dance", {})


@pytest.mark.parametrize(
    "request_line",
    [b"\n", b"hello\n", b"[]\n", b"{}\n", b'{"command": 7}\n', b"\xff\xfe\n", b"[" * 9000 + b"\n", b"1" * 9000 + b"\n"],
)
def test_what_is_not_a_request_is_answered_with_an_error(path: Path, request_line: bytes) -> None:
    """Whatever a line holds, the answer is a line of JSON that says what is wanted."""
    with daemon(path):
        assert "error" in json.loads(raw(path, request_line))


def test_a_request_has_a_limit(path: Path) -> None:
    """An endless line is refused once it is longer than any request."""
    with daemon(path):
        assert b"at most" in raw(path, b"x" * (control.REQUEST_LIMIT + 1))


def test_a_peer_that_sends_nothing_is_closed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Time to send a request is limited, and an unfinished one is not answered."""
    monkeypatch.setattr(control, "REQUEST_TIMEOUT", 0.1)
    with daemon(path):
        assert raw(path, b"") == b""
        assert raw(path, b'{"command": "echo"}') == b""


def test_a_peer_that_reads_nothing_is_cut(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Time to take an answer is limited: the transport and its buffer do not stay behind."""
    monkeypatch.setattr(control, "REQUEST_TIMEOUT", 0.2)
    with daemon(path), socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(10)
        sock.connect(str(path))
        sock.sendall(b'{"command": "big"}\n')
        first = sock.recv(1)
        until(lambda: _hung_up(sock), "cut by the server")
        rest = b""
        while chunk := sock.recv(1_000_000):
            rest += chunk
        assert 0 < len(first + rest) < 8_000_000


def _hung_up(sock: socket.socket) -> bool:
    """Tell whether the peer of `sock` has closed it, without taking what it sent before."""
    poll = select.poll()
    poll.register(sock, 0)
    return any(events & select.POLLHUP for _, events in poll.poll(0))


def test_callers_that_leave_early_do_no_harm(path: Path) -> None:
    """Half a request, a reset, and leaving before the answer are all nothing to the next caller."""
    with daemon(path):
        for request in (b"", b'{"comm', b'{"command": "big"}\n'):
            with socket.socket(socket.AF_UNIX) as sock:
                sock.connect(str(path))
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                sock.sendall(request)
        assert call(str(path), "echo", {}) == {"got": {}}


def test_too_many_callers_are_closed_and_later_ones_served(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of connections is limited, and the limit is over with them."""
    monkeypatch.setattr(control, "MAX_CONNECTIONS", 3)
    with daemon(path):
        idle = [socket.socket(socket.AF_UNIX) for _ in range(6)]
        try:
            for sock in idle:
                sock.settimeout(10)
                sock.connect(str(path))
            assert [sock.recv(1) for sock in idle[3:]] == [b""] * 3
        finally:
            for sock in idle:
                sock.close()
        until(lambda: _answers(path), "served again")


def _answers(path: Path) -> bool:
    try:
        return call(str(path), "echo", {}) == {"got": {}}
    except NoDaemonError:
        return False


def test_the_socket_is_for_its_owner_only(path: Path) -> None:
    """The mode is 0600 whatever the umask."""
    old = os.umask(0)
    try:
        with daemon(path):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
    finally:
        os.umask(old)


def test_the_directory_is_made_if_its_parent_exists(tmp_path: Path) -> None:
    """/run/lbproxy appears with the first start, but a misspelt path is not built up from nothing."""
    with daemon(tmp_path / "made" / "control.sock"):
        assert stat.S_IMODE((tmp_path / "made").stat().st_mode) == 0o755 & ~_umask()
    with pytest.raises(ControlError, match=rf"control .*/a/b/c.sock: the directory {tmp_path}/a does not exist"):
        refused(tmp_path / "a" / "b" / "c.sock")
    assert not (tmp_path / "a").exists()


def _umask() -> int:
    old = os.umask(0o022)
    os.umask(old)
    return old


def test_the_socket_is_removed_at_the_end(path: Path) -> None:
    """Nothing is left behind after a clean stop, and stopping twice is harmless."""
    with daemon(path) as stop:
        stop()
        assert not path.exists()


def test_a_command_under_way_has_its_answer_though_the_server_stops(path: Path) -> None:
    """`lbproxy upgrade` brings about the end of the daemon that is to answer it; who asks nothing is cut off."""

    async def scenario() -> tuple[bytes, bytes]:
        tasks, begun, stopping = Tasks(), asyncio.Event(), asyncio.Event()

        async def last(_arguments: Mapping[str, object]) -> dict[str, Any]:
            begun.set()
            await stopping.wait()
            for _ in range(5):
                await asyncio.sleep(0)  # the end does not wait for its turn
            return {"last": "words"}

        server = ControlServer(str(path), lambda: {"last": last}, tasks)
        server.bind()
        await server.start()
        reader, writer = await asyncio.open_unix_connection(path)
        silent, other = await asyncio.open_unix_connection(path)
        writer.write(b'{"command": "last"}\n')
        await begun.wait()
        stop = asyncio.ensure_future(server.stop())
        stopping.set()
        got = await reader.read(), await silent.read()
        await stop
        for each in (writer, other):
            each.close()
            await each.wait_closed()
        await tasks.cancel()
        return got

    assert asyncio.run(scenario()) == (b'{"last": "words"}\n', b"")


def test_a_stale_socket_is_replaced(path: Path) -> None:
    """What a killed daemon left behind does not stop the next one."""
    leave_stale(path)
    with daemon(path):
        assert call(str(path), "echo", {}) == {"got": {}}


def test_a_live_socket_is_left_alone(path: Path) -> None:
    """The second daemon says that there is another one, and the first goes on undisturbed."""
    with daemon(path):
        with pytest.raises(ControlError, match=f"^control {path}: another lbproxy is running there$"):
            refused(path)
        assert call(str(path), "echo", {}) == {"got": {}}


def test_a_live_socket_with_a_full_backlog_is_left_alone(path: Path) -> None:
    """A daemon too busy to accept is still a daemon."""
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as first:
        listener.bind(str(path))
        listener.listen(0)
        first.connect(str(path))
        with pytest.raises(ControlError, match="another lbproxy is running there"):
            refused(path)
        assert path.is_socket()


def test_what_is_not_a_socket_is_never_removed(path: Path, tmp_path: Path) -> None:
    """A file, a directory and a link at the path are refused and stay as they are."""
    target = tmp_path / "target"
    leave_stale(target)
    for make in (lambda: path.write_text("precious"), path.mkdir, lambda: path.symlink_to(target)):
        make()
        with pytest.raises(ControlError, match=f"^control {path}: exists and is not a socket$"):
            refused(path)
        assert os.path.lexists(path)
        path.rmdir() if path.is_dir() else path.unlink()
    assert target.is_socket()


def test_another_daemons_socket_is_not_removed_at_the_end(path: Path) -> None:
    """Who took over the path keeps it when the first one stops."""
    with daemon(path) as stop:
        path.unlink()
        with socket.socket(socket.AF_UNIX) as successor:
            successor.bind(str(path))
            stop()
            assert path.is_socket()


def test_a_path_too_long_is_refused(tmp_path: Path) -> None:
    """The system's limit is named; the longest possible path works."""
    room = control.PATH_LIMIT - len(os.fsencode(tmp_path)) - 1
    longest = tmp_path / ("x" * room)
    with daemon(longest):
        assert call(str(longest), "echo", {}) == {"got": {}}
    with pytest.raises(ControlError, match="at most 107 bytes"):
        refused(tmp_path / ("x" * (room + 1)))


def test_a_path_that_cannot_be_made_is_refused() -> None:
    """The system's own reason is given, with the path."""
    with pytest.raises(ControlError, match=r"^control /proc/lbproxy.net.sockets: "):
        refused("/proc/lbproxy.net.sockets")
    with pytest.raises(ControlError, match=r"^control /etc/passwd/lbproxy.net.sockets: Not a directory$"):
        refused("/etc/passwd/lbproxy.net.sockets")


def refused(path: Path | str) -> None:
    """Try to serve on `path`, which is expected to raise."""
    with daemon(path):
        pass


def leave_stale(path: Path) -> None:
    """Leave a socket file that nobody listens on."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
        sock.listen()
