"""The notification protocol against a real datagram socket, and the variables systemd sets."""

import logging
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from lbproxy.process.systemd import Notifier, listen_fds


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    """Stand where systemd stands."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(10)
        yield listener


@pytest.fixture
def notifier(systemd: socket.socket) -> Iterator[Notifier]:
    """Make a notifier that knows `systemd`, which watches it."""
    with closing(Notifier({"NOTIFY_SOCKET": systemd.getsockname(), "WATCHDOG_USEC": "15000000"})) as notifier:
        yield notifier


def messages(systemd: socket.socket, notifier: Notifier) -> list[str]:
    """Read everything, and have what waits sent; returns the messages, with how many descriptors came along."""
    found = []
    systemd.setblocking(False)
    while True:
        try:
            data, fds, _, _ = socket.recv_fds(systemd, 1000, 10)
        except BlockingIOError:
            return found
        for fd in fds:
            os.close(fd)
        found.append(data.decode().replace("\n", " ") + (f" with {len(fds)}" if fds else ""))
        notifier.again()


def fill(notifier: Notifier) -> None:
    """Have `systemd` hold all that it can hold unread: a `forget` each."""
    number = 0
    while notifier.again():
        notifier.forget(f"filling-{number}")
        number += 1


def test_ready_comes_with_a_status(systemd: socket.socket, notifier: Notifier) -> None:
    """Both are in one message, so that no status goes without its state."""
    notifier.ready("listening on 127.0.0.1:6443")
    assert systemd.recv(1000) == b"READY=1\nSTATUS=listening on 127.0.0.1:6443"


def test_reloading_carries_the_monotonic_time(systemd: socket.socket, notifier: Notifier) -> None:
    """It is what systemd 253 and later hold against the READY=1 that follows, in microseconds."""
    before = time.monotonic_ns() // 1000
    notifier.reloading()
    first, second = systemd.recv(1000).decode().split("\n")
    assert first == "RELOADING=1"
    assert before <= int(second.removeprefix("MONOTONIC_USEC=")) <= time.monotonic_ns() // 1000


def test_stopping_asks_for_the_time_it_may_take(systemd: socket.socket, notifier: Notifier) -> None:
    """A shutdown_timeout longer than the unit's TimeoutStopSec holds all the same."""
    notifier.stopping(95.5)
    assert systemd.recv(1000) == b"STOPPING=1\nEXTEND_TIMEOUT_USEC=95500000"


def test_a_sign_of_life_is_a_ping_where_one_is_asked_for(systemd: socket.socket, notifier: Notifier) -> None:
    """One message, nothing else in it; none to a systemd that has no watchdog for this service."""
    with closing(Notifier({"NOTIFY_SOCKET": systemd.getsockname()})) as unwatched:
        unwatched.alive()
    notifier.alive()
    assert messages(systemd, notifier) == ["WATCHDOG=1"]


def test_an_abstract_socket_is_reached() -> None:
    """A path that begins with @ is in the abstract namespace."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(f"\0lbproxy-test-{os.getpid()}")
        listener.settimeout(10)
        with closing(Notifier({"NOTIFY_SOCKET": f"@lbproxy-test-{os.getpid()}"})) as notifier:
            notifier.ready("x")
        assert listener.recv(1000) == b"READY=1\nSTATUS=x"


def test_without_systemd_nothing_happens(caplog: pytest.LogCaptureFixture) -> None:
    """No variable, no message, no complaint."""
    quiet = Notifier({})
    quiet.ready("x")
    quiet.alive()
    quiet.barrier()
    assert quiet.main_pid(1)
    assert quiet.watchdog_period is None
    assert caplog.records == []


def test_a_socket_that_is_gone_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What cannot be told to systemd does not stop the proxy, and is not told to the log each second."""
    gone = Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")})
    gone.stopping(1)
    gone.ready("x")
    assert [record.getMessage() for record in caplog.records] == [
        "cannot tell systemd STOPPING=1: No such file or directory"
    ]


def test_a_socket_that_is_made_again_is_found(tmp_path: Path) -> None:
    """What was lost is lost; what comes after is not."""
    path = str(tmp_path / "notify")
    with closing(Notifier({"NOTIFY_SOCKET": path})) as notifier:
        for status in ("first", "second"):
            Path(path).unlink(missing_ok=True)
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
                listener.bind(path)
                notifier.ready(status)
                notifier.ready(status)
                listener.settimeout(10)
                assert listener.recv(1000) == f"READY=1\nSTATUS={status}".encode()


def test_what_finds_no_room_comes_later_and_in_order(
    systemd: socket.socket, notifier: Notifier, caplog: pytest.LogCaptureFixture
) -> None:
    """PID 1 is busy, or frozen: nothing waits for it, and nothing of what it must know is lost."""
    caplog.set_level(logging.INFO)
    fill(notifier)
    with Path("/dev/null").open() as file:
        notifier.store("config", [file.fileno()])
    notifier.ready("x")
    notifier.alive()
    *filling, store, ready = messages(systemd, notifier)
    assert filling == [f"FDSTOREREMOVE=1 FDNAME=filling-{number}" for number in range(len(filling))]
    assert (store, ready) == ("FDSTORE=1 FDNAME=config FDPOLL=0 with 1", "READY=1 STATUS=x")
    warned, recovered = [record.getMessage() for record in caplog.records]
    assert warned == "systemd does not read what it is told: FDSTOREREMOVE=1, and what follows, is tried again"
    assert recovered == "systemd is told again what happens"


def test_no_ping_waits(systemd: socket.socket, notifier: Notifier) -> None:
    """It says that the loop turns now; an old one says nothing."""
    fill(notifier)
    for _ in range(100):
        notifier.alive()
    assert "WATCHDOG=1" not in messages(systemd, notifier)
    notifier.alive()
    assert messages(systemd, notifier) == ["WATCHDOG=1"]


def test_what_is_overtaken_is_not_told(systemd: socket.socket, notifier: Notifier) -> None:
    """However long systemd does not read: what waits, and the descriptors in it, do not grow with every reload."""
    fill(notifier)
    with Path("/dev/null").open() as file:
        for number in range(100):
            notifier.reloading()
            notifier.forget("config")
            notifier.store("config", [file.fileno()])
            notifier.store(f"carrier-{number + 1}", [file.fileno()])
            notifier.forget(f"carrier-{number}")
            notifier.ready(f"{number}")
    told = [message for message in messages(systemd, notifier) if "filling" not in message]
    assert [re.sub(r"USEC=\d+", "USEC=", message) for message in told] == [
        "FDSTOREREMOVE=1 FDNAME=config",
        "FDSTOREREMOVE=1 FDNAME=carrier-0",
        "RELOADING=1 MONOTONIC_USEC=",
        "FDSTORE=1 FDNAME=config FDPOLL=0 with 1",
        "FDSTORE=1 FDNAME=carrier-100 FDPOLL=0 with 1",
        "READY=1 STATUS=99",
    ]


def test_another_main_process_is_known_only_once_it_is_told(systemd: socket.socket, notifier: Notifier) -> None:
    """The end of this process would be that of the service to systemd, which would start another beside the new one."""
    fill(notifier)
    assert not notifier.main_pid(1)
    messages(systemd, notifier)
    assert notifier.main_pid(1)


def test_a_barrier_waits_until_systemd_has_read(systemd: socket.socket, notifier: Notifier) -> None:
    """It closes the descriptor that comes with it when it has worked off what came before."""
    fill(notifier)
    notifier.ready("x")
    got: list[bytes] = []

    def read() -> None:
        while b"BARRIER=1" not in got:
            message, fds, _, _ = socket.recv_fds(systemd, 1000, 10)
            got.append(message)
            for fd in fds:
                os.close(fd)

    reader = threading.Thread(target=read)
    reader.start()
    while b"BARRIER=1" not in got:
        notifier.barrier()
    reader.join()
    assert got[-2:] == [b"READY=1\nSTATUS=x", b"BARRIER=1"]


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({"WATCHDOG_USEC": "15000000"}, 15.0),
        ({"WATCHDOG_USEC": "15000000", "WATCHDOG_PID": str(os.getpid())}, 15.0),
        ({"WATCHDOG_USEC": "15000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_period_is_what_systemd_says_to_this_process(
    environ: dict[str, str], seconds: float | None
) -> None:
    """A variable inherited from a parent means the parent."""
    assert Notifier(environ).watchdog_period == seconds


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"LISTEN_FDS": "2"},
        {"LISTEN_FDS": "2", "LISTEN_PID": "1"},
        {"LISTEN_FDS": "many", "LISTEN_PID": str(os.getpid())},
    ],
)
def test_descriptors_meant_for_nobody_here_are_not_touched(environ: dict[str, str]) -> None:
    """Without this process's pid beside them the numbers are somebody else's."""
    assert listen_fds(environ) == {}


def test_descriptors_come_by_name() -> None:
    """Two under one name, and one that has none; a child inherits none of them."""
    code = (
        "import os; from lbproxy.process.systemd import listen_fds;"
        "print(listen_fds({**os.environ, 'LISTEN_PID': str(os.getpid())}), [os.get_inheritable(n) for n in (3, 4, 5)])"
    )
    child = subprocess.run(
        ["sh", "-c", 'exec "$0" -c "$1" 3</dev/null 4</dev/null 5</dev/null', sys.executable, code],
        env={**os.environ, "LISTEN_FDS": "3", "LISTEN_FDNAMES": "api::api"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert child.stdout == "{'api': [3, 5], 'unknown': [4]} [False, False, False]\n"
