"""Nothing in the loop waits: whatever stands still around the proxy, bytes go on through it.

Each test stops one thing for good. Without its mend the echo waits for ever, and the test with it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import pytest

from lbproxy.status import client as commands
from tests.support.box import Service
from tests.support.clients import connect, receive, receive_line
from tests.support.daemon import Daemon, one_proxy
from tests.support.ports import free_port, listening
from tests.support.servers import Echo
from tests.support.wait import until


@pytest.fixture
def server() -> Iterator[Echo]:
    """Run a server that says its name and echoes."""
    with Echo("one") as running:
        yield running


MISTAKES = "".join(f"{'x' * 240}{number}: 1\n" for number in range(100))
"""A file that is refused with a hundred long lines."""


def port_of(service: Service) -> int:
    """Return the first port of the first proxy."""
    return int(next(iter(service.status()["proxies"].values()))["listen"][0].rpartition(":")[2])


class Open:
    """A connection through the proxy that is open all the while."""

    def __init__(self, port: int) -> None:
        self._sock = connect(port)
        receive_line(self._sock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._sock.close()

    def echoes(self) -> None:
        """Send a word and have it back."""
        self._sock.sendall(b"word")
        assert receive(self._sock, 4) == b"word"


class Unread(Daemon):
    """A daemon whose stderr is a pipe that nobody reads until `read` is called."""

    def prepare(self) -> None:
        super().prepare()
        fifo = self.dir / "stderr"
        os.mkfifo(fifo)
        self._reader = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)
        self.command = ["sh", "-c", 'exec "$@" 2>stderr', "sh", *self.command]

    def read(self) -> str:
        """Return what is in the pipe."""
        try:
            return os.read(self._reader, 1 << 20).decode()
        except BlockingIOError:
            return ""

    def _close(self, show: bool) -> None:
        super()._close(show)
        os.close(self._reader)


def shout(daemon: Daemon) -> None:
    """Have more logged than fits anywhere: reloads of a file with a hundred long mistakes."""
    daemon.rewrite(f"control: {daemon.control}\nwatch: false\n{MISTAKES}")
    for _ in range(12):
        assert not daemon.call("reload")["applied"]


def test_a_log_that_nobody_reads_holds_up_nobody(server: Echo) -> None:
    """A log shipper hangs, journald is stopped: lines are dropped, and the loss is told when it is read again."""
    config = {"watch": False, **one_proxy([server])}
    with Unread(config) as daemon, Open(port := daemon.port) as client:
        shout(daemon)
        client.echoes()
        with Open(port) as another:
            another.echoes()
        log = ""

        def told() -> bool:
            nonlocal log
            log += daemon.read()
            return "lines of the log were dropped" in log

        until(told)


@pytest.mark.timeout(90)
def test_a_journald_that_is_stopped_holds_up_nobody(server: Echo) -> None:
    """Its socket holds some megabytes, and then nothing more."""
    with Service(one_proxy([server])) as service, Open(port_of(service)) as client:
        reloads = f"for n in $(seq 100); do kill -HUP {service.pid()}; sleep 0.02; done"
        service.rewrite(MISTAKES)
        service.run("systemctl", "kill", "--signal=STOP", "systemd-journald.service")
        try:
            while not service.status()["log_lines_dropped"]:
                service.run("sh", "-c", reloads)
            client.echoes()
        finally:
            service.run("systemctl", "kill", "--signal=CONT", "systemd-journald.service")
        until(lambda: "lines of the log were dropped" in service.log(), timeout=30)


def test_a_log_that_nobody_reads_holds_up_no_stop(server: Echo) -> None:
    """It would be killed in the end, with everything that it still had to do."""
    with Unread({"watch": False, **one_proxy([server])}) as daemon:
        shout(daemon)
        daemon.stop()


def test_the_last_lines_of_a_process_come_out(server: Echo) -> None:
    """A start that is refused tells why, and a stop that it is over, through a pipe as anywhere."""
    with Unread(one_proxy([server])) as daemon:
        daemon.stop()
        assert daemon.read().endswith(" INFO  daemon: stopped\n")


@pytest.mark.parametrize("closed", ["2>&-", "0<&- 1>&- 2>&-"])
def test_a_closed_stderr_is_no_clients_socket(server: Echo, closed: str) -> None:
    """The next descriptor to be opened gets its number, and then the log."""

    class Closed(Daemon):
        def prepare(self) -> None:
            super().prepare()
            self.command = ["sh", "-c", f'exec "$@" {closed}', "sh", *self.command]

    with Closed(one_proxy([server])) as daemon, Open(daemon.port) as client:
        assert Path(f"/proc/{daemon.pid}/fd/2").readlink() == Path(os.devnull)
        daemon.reload()
        client.echoes()


class Unheard(Daemon):
    """A daemon of a systemd that reads nothing until `hear` is called."""

    def prepare(self) -> None:
        super().prepare()
        self._systemd = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._systemd.setblocking(False)
        self._systemd.bind(str(self.dir / "notify"))
        self.env |= {"NOTIFY_SOCKET": str(self.dir / "notify"), "FDSTORE": "512"}
        self.told: list[str] = []
        self.store: dict[str, int] = {}

    def hear(self) -> None:
        """Read what there is; `told` has the messages, `store` a descriptor by name."""
        with contextlib.suppress(BlockingIOError):
            while True:
                message, fds, _, _ = socket.recv_fds(self._systemd, 1000, 10)
                self.told.append(message.decode())
                found = re.search(r"FDNAME=(.*)", self.told[-1])
                name = found[1] if found else ""
                if name in self.store:
                    os.close(self.store.pop(name))
                for fd in fds:
                    self.store[name] = fd

    def _close(self, show: bool) -> None:
        super()._close(show)
        self.hear()
        self._systemd.close()
        for fd in self.store.values():
            os.close(fd)


def test_a_systemd_that_reads_nothing_holds_up_nobody(server: Echo) -> None:
    """PID 1 is busy, or has frozen itself after a bug: reloads go on, and it is told in the end what matters."""
    config: dict[str, Any] = {"watch": False, **one_proxy([server])}
    with Unheard(config) as daemon, Open(daemon.port) as client:
        for number in range(20):
            config["proxies"]["p"]["idle_timeout"] = 100 + number
            daemon.reload(config)
            client.echoes()
        until(lambda: "systemd does not read what it is told" in daemon.log)

        def all_told() -> bool:
            daemon.hear()
            return "systemd is told again what happens" in daemon.log

        until(all_told)
        daemon.hear()
        assert os.pread(daemon.store["config"], 1 << 16, 0) == daemon.file.read_bytes()
        states = [message.partition("=")[0] for message in daemon.told if message.startswith(("READY", "RELOADING"))]
        assert states[-2:] == ["RELOADING", "READY"]


def test_a_file_that_cannot_be_opened_now_holds_up_nobody(server: Echo) -> None:
    """A file server has a lease on it, and does not give it up; the next reload reads it."""
    config: dict[str, Any] = {"watch": False, **one_proxy([server])}
    with Daemon(config) as daemon, Open(daemon.port) as client:
        config["proxies"]["p"]["idle_timeout"] = 100
        daemon.rewrite(config)
        path = daemon.control
        before = signal.signal(signal.SIGIO, signal.SIG_IGN)  # the kernel's word that somebody else wants the file
        file = os.open(daemon.file, os.O_WRONLY)
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        result = commands.call(path, "reload", {})
        client.echoes()
        os.close(file)
        signal.signal(signal.SIGIO, before)
        assert result["lines"] == [f"{daemon.file}: cannot be read: Resource temporarily unavailable"]
        assert daemon.reload() == ["p: idle_timeout 10m -> 100s"]


def test_what_is_no_file_is_not_waited_for(server: Echo) -> None:
    """A FIFO has no end until somebody writes into it."""
    with Daemon(one_proxy([server])) as daemon, Open(daemon.port) as client:
        good = daemon.file.rename(daemon.dir / "good")
        os.mkfifo(daemon.file)
        until(lambda: "cannot be read: not a regular file" in daemon.log)
        client.echoes()
        good.rename(daemon.file)
        until(lambda: "no change" in daemon.log)


def test_a_file_that_takes_long_to_read_holds_up_nobody(server: Echo) -> None:
    """A quarter of a megabyte of rubbish costs a second of a processor before it is refused; bytes move meanwhile."""
    with Daemon({"watch": False, **one_proxy([server])}) as daemon, Open(daemon.port) as client:
        path = daemon.control
        servers = ",".join(["x"] * 100000)
        daemon.file.write_text(f"proxies: {{p: {{listen: '127.0.0.1:1', servers: [{servers}]}}}}")
        with ThreadPoolExecutor() as pool:
            reload = pool.submit(commands.call, path, "reload", {})
            count = 0
            while not reload.done():
                client.echoes()
                count += 1
        assert str(reload.result()["lines"]).count("must be HOST:PORT") == 100
        assert count > 5  # two or three, if the loop stands still


FLOOD = """
import http.client, sys, threading
pages = []
def flood():
    client = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]))
    for _ in range(8):
        client.request("GET", "/metrics")
        pages.append(client.getresponse().read())
    client.close()
threads = [threading.Thread(target=flood) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert min(page.count(b"\\n") for page in pages) > 10000
print(len(pages), len(set(pages)))
"""


def test_a_flood_of_requests_for_metrics_holds_up_nobody(server: Echo) -> None:
    """Anybody on the node may ask, and those of 400 servers have 20,000 lines: they are not made for each who asks."""
    others = [f"127.1.{number >> 8}.{number & 255}:6443" for number in range(400)]
    admin = free_port()
    config = one_proxy([server, *({"address": other, "backup": True} for other in others)])
    with Daemon({**config, "admin": {"listen": f"127.0.0.1:{admin}"}}) as daemon:
        port = daemon.port
        until(lambda: admin in listening(daemon.pid))
        with subprocess.Popen([sys.executable, "-c", FLOOD, str(admin)], stdout=subprocess.PIPE, text=True) as asking:
            while asking.poll() is None:
                with Open(port) as client:  # which changes what the metrics say
                    client.echoes()
            assert asking.stdout
            answers, made = map(int, asking.stdout.read().split())
        assert answers == 64
        assert made < answers / 2
