"""What signals do to a running daemon."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.clients import connect, greeting, receive, receive_all, receive_line
from tests.support.daemon import Daemon, one_proxy
from tests.support.servers import Echo
from tests.support.wait import FACTOR, until

WAIT = 20 * FACTOR


@pytest.fixture
def server() -> Iterator[Echo]:
    """Run a server that says its name and echoes."""
    with Echo("one") as running:
        yield running


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT], ids=lambda number: number.name)
def test_a_stop_ends_with_0_and_leaves_no_socket_file(server: Echo, number: signal.Signals) -> None:
    """All mean the same; SIGQUIT is what asks nginx for a graceful end."""
    with Daemon(one_proxy([server])) as daemon:
        control = Path(daemon.control)
        assert control.is_socket()
        daemon.send(number)
        assert daemon.process.wait(WAIT) == 0
        assert not control.exists()


def test_the_port_is_the_last_thing_to_go_at_a_stop(server: Echo) -> None:
    """Nobody takes over here: who is in the middle of an exchange has time, and meanwhile new clients are served."""
    with Daemon({**one_proxy([server]), "shutdown_timeout": "1h"}) as daemon:
        with connect(daemon.port) as client:
            assert receive_line(client) == "one"

            def exchange() -> bool:
                client.sendall(b"still here")
                return receive(client, 10) == b"still here"

            daemon.send(signal.SIGTERM)
            until(lambda: exchange() and "stopping" in daemon.log)
            for _ in range(20):
                assert exchange()
                assert greeting(daemon.port) == "one"
        assert daemon.process.wait(WAIT) == 0


def test_who_is_quiet_at_a_stop_is_cut_at_once(server: Echo) -> None:
    """A watch would hold the stop, and the port that nobody answers on, for the whole of shutdown_timeout."""
    with Daemon({**one_proxy([server]), "shutdown_timeout": "1h"}) as daemon, connect(daemon.port) as client:
        assert receive_line(client) == "one"
        daemon.send(signal.SIGTERM)
        with pytest.raises(ConnectionResetError):
            receive_all(client)
        assert daemon.process.wait(WAIT) == 0


def test_a_stop_cuts_what_is_left_at_shutdown_timeout(server: Echo) -> None:
    """A client that stays is cut, and the exit status is still 0."""
    with Daemon({**one_proxy([server]), "shutdown_timeout": "200ms"}) as daemon, connect(daemon.port) as client:
        assert receive_line(client) == "one"
        daemon.send(signal.SIGTERM)
        with pytest.raises(ConnectionResetError):
            receive_all(client)
        assert daemon.process.wait(WAIT) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_second_signal_stops_at_once(server: Echo, number: signal.Signals) -> None:
    """An hour of shutdown_timeout is cut short; the clients see a reset."""
    with Daemon({**one_proxy([server]), "shutdown_timeout": "1h"}) as daemon, connect(daemon.port) as client:
        assert receive_line(client) == "one"
        daemon.send(signal.SIGTERM)
        until(lambda: "stopping" in daemon.log)
        assert daemon.process.poll() is None
        daemon.send(number)
        with pytest.raises(ConnectionResetError):
            receive_all(client)
        assert daemon.process.wait(WAIT) == 0


def test_sighup_reloads(server: Echo) -> None:
    """Without anybody watching the file, the signal alone makes the new server known."""
    config = {**one_proxy([server]), "watch": False}
    with Daemon(config) as daemon, Echo("two") as two:
        config["proxies"]["p"]["servers"] = [two.address]
        daemon.rewrite(config)
        daemon.send(signal.SIGHUP)
        until(lambda: list(daemon.servers()) == [two.address])
        assert daemon.status()["generation"] == 2
        daemon.send(signal.SIGHUP)
        until(lambda: "no change" in daemon.log)
        assert daemon.status()["generation"] == 2


def test_sighup_on_a_broken_file_changes_nothing(server: Echo) -> None:
    """The error is in the log and in the status, the proxy serves on."""
    with Daemon({**one_proxy([server]), "watch": False}) as daemon:
        port, control, before = daemon.port, daemon.control, daemon.file.read_text()
        daemon.file.write_text(f"control: {control}\nproxies: 7\n")
        daemon.send(signal.SIGHUP)
        until(lambda: not daemon.status()["config"]["last_reload_successful"])
        assert f"{daemon.file}:2: proxies: " in daemon.status()["config"]["last_reload_error"]
        until(lambda: re.search(r" ERROR reload: .*proxies", daemon.log))  # written by a thread, a moment later
        with connect(port) as client:
            assert receive_line(client) == "one"
        daemon.file.write_text(before)


def test_a_log_that_nobody_reads_any_more_does_not_end_it(server: Echo, tmp_path: Path) -> None:
    """SIGPIPE is ignored: the reader of stderr may go."""
    file = tmp_path / "lbproxy.yaml"
    file.write_text(json.dumps({"control": str(tmp_path / "control.sock"), **one_proxy([server])}))
    port = int(one_port(file))
    process = subprocess.Popen([sys.executable, "-m", "lbproxy", "run", "-c", str(file)], stderr=subprocess.PIPE)
    try:
        assert process.stderr
        assert process.stderr.readline()
        process.stderr.close()
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGHUP)
        with connect(port) as client:
            assert receive_line(client) == "one"
    finally:
        process.terminate()
        assert process.wait(WAIT) == 0


def one_port(file: Path) -> str:
    """Return the port of the only listen address in `file`."""
    listen: str = json.loads(file.read_text())["proxies"]["p"]["listen"][0]
    return listen.rpartition(":")[2]


@pytest.mark.parametrize("workers", [1, 2])
def test_signals_that_mean_nothing_to_it_end_nothing(server: Echo, workers: int) -> None:
    """SIGUSR1 reopens logs elsewhere and SIGUSR2 upgrades; a group gets them with every worker."""
    with Daemon({**one_proxy([server]), "workers": workers}) as daemon, connect(daemon.port) as client:
        assert receive_line(client) == "one"
        for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP, signal.SIGPIPE):
            os.killpg(daemon.process.pid, number)
        until(lambda: "no change" in daemon.log)
        client.sendall(b"still here")
        assert receive(client, 10) == b"still here"


def test_a_storm_of_hangups_is_few_reloads(server: Echo) -> None:
    """Those that come before one has begun are one; each later one is obeyed."""
    with Daemon(one_proxy([server])) as daemon:
        for _ in range(200):
            daemon.send(signal.SIGHUP)
        until(lambda: "no change" in daemon.log)
        daemon.rewrite({**daemon.config, "watch": False, "shutdown_timeout": "1s"})
        daemon.send(signal.SIGHUP)
        until(lambda: "shutdown_timeout" in daemon.log)
        assert daemon.log.count("no change") < 50


def test_a_start_dies_of_no_signal_but_those_that_stop_it(server: Echo, tmp_path: Path) -> None:
    """They come as soon as systemd has forked, and a tenth of a second is spent on imports."""
    file = tmp_path / "lbproxy.yaml"
    file.write_text(json.dumps({"control": str(tmp_path / "control.sock"), **one_proxy([server])}))
    code = (
        "import os, signal, sys, lbproxy.cli as cli\n"
        "from lbproxy.process import start\n"
        "for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2): signal.signal(number, signal.SIG_DFL)\n"
        "def main(*_, **__):\n"
        "    for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2): os.kill(0, number)\n"
        "    os.kill(os.getpid(), signal.SIGQUIT)\n"
        "    return 7\n"
        "start.main = main\n"
        "sys.exit(cli.main(['run', '-c', sys.argv[1]]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(file)], process_group=0, timeout=WAIT)
    assert done.returncode == 0
