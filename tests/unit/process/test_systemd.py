"""The notification protocol against a real datagram socket, and the variables systemd sets."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
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


def notifier(systemd: socket.socket, **more: str) -> Notifier:
    """Return a notifier that knows `systemd`."""
    return Notifier({"NOTIFY_SOCKET": systemd.getsockname(), **more})


def test_ready_comes_with_a_status(systemd: socket.socket) -> None:
    """Both are in one message, so that no status goes without its state."""
    notifier(systemd).ready("listening on 127.0.0.1:6443")
    assert systemd.recv(1000) == b"READY=1\nSTATUS=listening on 127.0.0.1:6443"


def test_reloading_carries_the_monotonic_time(systemd: socket.socket) -> None:
    """It is what systemd 253 and later hold against the READY=1 that follows, in microseconds."""
    before = time.monotonic_ns() // 1000
    notifier(systemd).reloading()
    first, second = systemd.recv(1000).decode().split("\n")
    assert first == "RELOADING=1"
    assert before <= int(second.removeprefix("MONOTONIC_USEC=")) <= time.monotonic_ns() // 1000


def test_stopping_asks_for_the_time_it_may_take(systemd: socket.socket) -> None:
    """A shutdown_timeout longer than the unit's TimeoutStopSec holds all the same."""
    notifier(systemd).stopping(95.5)
    assert systemd.recv(1000) == b"STOPPING=1\nEXTEND_TIMEOUT_USEC=95500000"


def test_watchdog_pings(systemd: socket.socket) -> None:
    """One message, nothing else in it."""
    notifier(systemd).watchdog()
    assert systemd.recv(1000) == b"WATCHDOG=1"


def test_an_abstract_socket_is_reached() -> None:
    """A path that begins with @ is in the abstract namespace."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(f"\0lbproxy-test-{os.getpid()}")
        listener.settimeout(10)
        Notifier({"NOTIFY_SOCKET": f"@lbproxy-test-{os.getpid()}"}).watchdog()
        assert listener.recv(1000) == b"WATCHDOG=1"


def test_without_systemd_nothing_happens(caplog: pytest.LogCaptureFixture) -> None:
    """No variable, no message, no complaint."""
    quiet = Notifier({})
    quiet.ready("x")
    quiet.watchdog()
    assert quiet.watchdog_period is None
    assert caplog.records == []


def test_a_socket_that_is_gone_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What cannot be told to systemd does not stop the proxy."""
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}).stopping(1)
    assert [record.getMessage() for record in caplog.records] == [
        "cannot tell systemd STOPPING=1: No such file or directory"
    ]


def test_a_full_socket_does_not_hold_up_the_watchdog(systemd: socket.socket, caplog: pytest.LogCaptureFixture) -> None:
    """The kernel queues a few messages for a reader that sleeps; then a ping is dropped rather than waited for."""
    pinger = notifier(systemd)
    while not caplog.records:
        pinger.watchdog()
    assert caplog.records[0].getMessage() == "cannot tell systemd WATCHDOG=1: Resource temporarily unavailable"


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
