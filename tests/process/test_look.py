"""What an operator sees at the terminal: status that waits and watches, whose connections there are, what happened."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.support.clients import connect, receive_line
from tests.support.daemon import Daemon, one_proxy
from tests.support.ports import free_port
from tests.support.servers import Echo
from tests.support.wait import FACTOR, until

CHECKED = {"health": {"type": "tcp", "interval": 0.2, "timeout": 0.5}}


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    """Run a daemon with one server that works and one whose port is closed, both checked."""
    with Echo("one") as one:
        servers = [{"name": "m1", "address": one.address}, {"name": "m2", "address": f"127.0.0.1:{free_port()}"}]
        with Daemon(one_proxy(servers, **CHECKED)) as running:
            yield running


def test_status_waits_until_enough_servers_are_checked_and_up(daemon: Daemon) -> None:
    """0 with the table as soon as they are, 1 with it and a line that names the proxy when the time is over."""
    done = daemon.cli("status", "--wait", f"{20 * FACTOR:g}s", "--servers", "1")
    assert (done.returncode, done.stderr) == (0, "")
    assert "1 of 2 servers up" in done.stdout
    done = daemon.cli("status", "--wait", "300ms")
    assert (done.returncode, done.stderr) == (1, "lbproxy: p: 1 of 2 servers up, 2 wanted\n")
    assert "1 of 2 servers up" in done.stdout


def test_status_can_be_asked_for_a_number_of_servers_at_once(daemon: Daemon) -> None:
    """For a monitoring plugin, which waits by itself; the answer may be JSON."""
    assert daemon.cli("status", "--wait", f"{20 * FACTOR:g}s", "--servers", "1").returncode == 0
    done = daemon.cli("status", "--servers", "1", "--json")
    assert (done.returncode, json.loads(done.stdout)["pid"]) == (0, daemon.pid)
    assert daemon.cli("status", "--servers", "2").returncode == 1


def test_who_waits_for_a_daemon_that_does_not_come_is_told_that_there_is_none() -> None:
    """It may still be starting, so the time is waited for; then it is 3, as without waiting."""
    done = subprocess.run(
        [sys.executable, "-m", "lbproxy", "--control", "/nonexistent.sock", "status", "--wait", "300ms"],
        capture_output=True, text=True, timeout=30 * FACTOR, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (3, "")
    assert "no daemon is running there" in done.stderr


def test_status_fits_eighty_columns_with_every_reason(daemon: Daemon) -> None:
    """In the terminal of a rescue console; what is piped into a program is not wrapped."""
    environ = {**os.environ, "COLUMNS": "80"}
    done = subprocess.run(
        [sys.executable, "-m", "lbproxy", "--control", daemon.control, "status"],
        env=environ, capture_output=True, text=True, timeout=30 * FACTOR, check=True,
    )  # fmt: skip
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "connection refused" in " ".join(done.stdout.split())
    assert max(map(len, daemon.cli("status").stdout.splitlines())) > 80


@pytest.mark.parametrize("command", ["status", "conns"])
def test_watching_shows_it_again_and_again_until_it_is_interrupted(daemon: Daemon, command: str) -> None:
    """Ctrl-C is how one ends it, and no failure."""
    asked = [sys.executable, "-m", "lbproxy", "--control", daemon.control, command, "--watch"]
    with subprocess.Popen(
        asked, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # which a job in the background ignores
    ) as watching:  # fmt: skip
        assert watching.stdout is not None
        first = watching.stdout.readline().split()
        while watching.stdout.readline() != "\n" or (again := watching.stdout.readline().split())[:2] != first[:2]:
            pass
        watching.send_signal(signal.SIGINT)
        _, said = watching.communicate(timeout=30 * FACTOR)
    assert again[:2] == first[:2]
    assert (watching.returncode, said) == (0, "")


def test_conns_name_the_local_process(daemon: Daemon) -> None:
    """A child, and not the test itself: what has changed its user for a while shows nobody its sockets."""
    code = "import socket, sys; held = socket.create_connection(('127.0.0.1', int(sys.argv[1]))); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code, str(daemon.port)], stdin=subprocess.PIPE) as client:
        until(lambda: len(daemon.conns()) == 1)
        assert f"[{client.pid}] " in daemon.cli("conns").stdout
        client.communicate()
    until(lambda: not daemon.conns())


def test_conns_are_sorted_as_they_are_asked_for(daemon: Daemon) -> None:
    """The oldest first; or what moves the most bytes."""
    with connect(daemon.port) as older:
        receive_line(older)
        with connect(daemon.port) as newer:
            newer.sendall(b"many bytes\n")
            for _ in range(2):
                receive_line(newer)
            by_age, by_bytes = daemon.cli("conns"), daemon.cli("conns", "--sort", "in")
            found = json.loads(daemon.cli("conns", "--json", "--sort", "in").stdout)
            ports = [str(each.getsockname()[1]) for each in (older, newer)]
    assert [port in line for port, line in zip(ports, by_age.stdout.splitlines()[1:], strict=True)] == [True, True]
    assert ports[1] in by_bytes.stdout.splitlines()[1]
    assert [each["bytes_in"] for each in found] == [11, 0]
    assert daemon.cli("conns", "--sort", "size").returncode == 2


def test_events_tell_what_happened_with_the_newest_last(daemon: Daemon) -> None:
    """Changes of servers, and what an operator did, in the words of the log."""
    for command in ("drain", "ready"):
        assert daemon.cli(command, "m2").returncode == 0
    told = daemon.cli("events").stdout.splitlines()
    assert any("server m1 is up, was unchecked" in line for line in told)
    assert ["m2 drained by the operator" in told[-2], "m2" in told[-1]] == [True, True]
    event = json.loads(daemon.cli("events", "--json").stdout)[-1]
    assert list(event) == ["ts", "level", "logger", "msg"]
    assert event["msg"] in told[-1]
