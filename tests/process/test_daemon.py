"""What the daemon does around the data plane: limits, admin endpoint, log, watch and systemd."""

import json
import resource
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.certs import Certs
from tests.support.clients import connect, receive_all, receive_line
from tests.support.daemon import Daemon, one_proxy
from tests.support.need import need
from tests.support.ports import free_port
from tests.support.servers import Echo
from tests.support.wait import FACTOR, until

WAIT = 20 * FACTOR


@pytest.fixture
def server() -> Iterator[Echo]:
    """Run a server that says its name and echoes."""
    with Echo("one") as running:
        yield running


def test_a_changed_file_is_taken_without_a_signal(server: Echo) -> None:
    """The default: whoever writes the file has reloaded it."""
    config = one_proxy([server])
    with Daemon(config) as daemon, Echo("two") as two:
        config["proxies"]["p"]["servers"] = [two.address]
        daemon.rewrite(config)
        until(lambda: list(daemon.servers()) == [two.address])


def test_a_changed_file_is_taken_without_inotify(server: Echo) -> None:
    """A node's other programs have used up the inotify instances, and give some back in the end."""
    need("netns", "nsenter", "unshare")
    limit = 'echo "$0" >/proc/sys/user/max_inotify_instances; exec "$@"'  # of a user namespace of its own

    class WithoutInotify(Daemon):
        def prepare(self) -> None:
            super().prepare()
            self.command = ["unshare", "--user", "--map-root-user", "sh", "-ec", limit, "0", *self.command]

    config = one_proxy([server])
    with WithoutInotify(config) as daemon, Echo("two") as two:
        until(lambda: f"{daemon.file} is looked at every 2 s, without inotify" in daemon.log)
        config["proxies"]["p"]["servers"] = [two.address]
        daemon.rewrite(config)
        until(lambda: list(daemon.servers()) == [two.address])
        subprocess.run(["nsenter", f"--target={daemon.pid}", "--user", "sh", "-ec", limit, "9", "true"], check=True)
        until(lambda: f"{daemon.file} is watched by inotify again" in daemon.log)


def test_the_soft_limit_of_open_files_becomes_the_hard_one(server: Echo, tmp_path: Path) -> None:
    """The usual soft limit of 1024 is no limit for connections."""
    need("prlimit")

    class Limited(Daemon):
        def prepare(self) -> None:
            super().prepare()
            self.command = ["prlimit", "--nofile=256:512", *self.command]

    with Limited(one_proxy([server])) as daemon:
        assert resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE) == (512, 512)


def test_a_taken_admin_port_does_not_stop_the_proxy(server: Echo) -> None:
    """It is a warning, and the admin endpoint comes up once the port is free or another one is configured."""
    config = one_proxy([server])
    with socket.create_server(("127.0.0.1", 0)) as taken:
        config["admin"] = {"listen": f"127.0.0.1:{taken.getsockname()[1]}"}
        with Daemon(config) as daemon:
            with connect(daemon.port) as client:
                assert receive_line(client) == "one"
            until(lambda: " WARNING admin: " in daemon.log)
            port = free_port()
            daemon.reload({**config, "admin": {"listen": f"127.0.0.1:{port}"}})
            until(lambda: healthz(port) == b"HTTP/1.1 200")


@pytest.mark.parametrize("workers", [1, 2])
def test_a_reload_says_which_certificates_it_has_read_again(
    server: Echo, certs: Certs, tmp_path: Path, workers: int
) -> None:
    """Whoever has rotated them and reloads wants to know that they are in force; what is as it was is no change."""
    ca = tmp_path / "ca.crt"
    ca.write_bytes(certs.ca.read_bytes())
    health = {"type": "https", "ca_file": str(ca), "cert_file": str(certs.client), "key_file": str(certs.client)}
    with Daemon({**one_proxy([server], health=health), "workers": workers}) as daemon:
        assert daemon.call("reload")["lines"] == ["no change"]
        ca.write_bytes(certs.ca.read_bytes() + b"\n")
        assert daemon.call("reload")["lines"] == [f"certificate files have changed and were read again: {ca}"]
        assert daemon.call("reload")["lines"] == ["no change"]


def healthz(port: int) -> bytes:
    """Return the first words of the admin endpoint's answer, nothing if there is none."""
    try:
        with connect(port) as client:
            client.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            return receive_all(client)[:12]
    except ConnectionRefusedError:
        return b""


def test_the_log_changes_its_form_with_a_reload(server: Echo) -> None:
    """What is logged after the reload is JSON."""
    config = one_proxy([server])
    with Daemon(config) as daemon:
        daemon.reload({**config, "log": {"format": "json"}})
        last = until(lambda: next((line for line in daemon.log.splitlines()[-1:] if line.startswith("{")), ""))
        assert {"ts", "level", "logger", "msg"} <= json.loads(last).keys()


class Notified(Daemon):
    """A daemon under a systemd of ours: `messages` receives what it says."""

    def prepare(self) -> None:
        super().prepare()
        self.messages = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.messages.bind(str(self.dir / "notify"))
        self.messages.settimeout(WAIT)
        self.env = {"NOTIFY_SOCKET": str(self.dir / "notify"), "WATCHDOG_USEC": "200000"}

    def hear(self, word: str) -> dict[str, str]:
        """Return the next message that sets `word`; others are passed over."""
        while word not in (said := dict(line.split("=", 1) for line in self.messages.recv(4096).decode().split("\n"))):
            pass
        return said

    def _close(self, show: bool) -> None:
        super()._close(show)
        self.messages.close()


def test_systemd_hears_of_start_reloads_and_stop(server: Echo) -> None:
    """READY=1 once the ports listen; RELOADING=1 then READY=1 around every reload, refused or not; STOPPING=1."""
    with Notified({**one_proxy([server]), "watch": False, "shutdown_timeout": "7s"}) as daemon:
        before = daemon.file.read_text()
        assert f"127.0.0.1:{daemon.port}" in daemon.hear("READY")["STATUS"]
        daemon.call("reload")
        assert int(daemon.hear("RELOADING")["MONOTONIC_USEC"]) > 0
        assert f"127.0.0.1:{daemon.port}" in daemon.hear("READY")["STATUS"]
        control = daemon.control
        daemon.file.write_text(f"control: {control}\nproxies: 7\n")
        daemon.send(signal.SIGHUP)
        daemon.hear("RELOADING")
        assert "reload refused: " in daemon.hear("READY")["STATUS"]
        daemon.file.write_text(before)
        daemon.send(signal.SIGTERM)
        assert int(daemon.hear("STOPPING")["EXTEND_TIMEOUT_USEC"]) > 7_000_000
        assert daemon.process.wait(WAIT) == 0


def test_the_watchdog_is_fed_by_a_loop_that_turns_and_by_no_other(server: Echo) -> None:
    """Pings come again and again; a stopped process sends none."""
    with Notified(one_proxy([server])) as daemon:
        for _ in range(5):
            daemon.hear("WATCHDOG")
        daemon.freeze()
        daemon.messages.settimeout(1)  # ten times what lies between two pings
        with pytest.raises(TimeoutError):
            daemon.hear("never said")
        daemon.thaw()
        daemon.messages.settimeout(WAIT)
        daemon.hear("WATCHDOG")
