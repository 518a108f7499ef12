"""`lbproxy run` as a child process, on a configuration of the test's own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

import yaml

from lbproxy.errors import LbproxyError
from lbproxy.status import client
from tests.support.child import Child
from tests.support.need import need
from tests.support.netns import Namespace, inside
from tests.support.ports import free_port
from tests.support.wait import FACTOR

Config = Mapping[str, Any] | str

BUGS = ("Traceback", "internal error", "ended with an error", "Task was destroyed", "never awaited", "ResourceWarning")
"""What a log that shows a bug of ours has in it."""


class HasAddress(Protocol):
    """A server of tests.support, or anything else with an address `host:port`."""

    @property
    def address(self) -> str: ...


def one_proxy(
    servers: Iterable[HasAddress | str | Mapping[str, Any]], listen: str = "", **settings: Any
) -> dict[str, Any]:
    """Return a configuration of one proxy, `p`, in front of `servers`, on a free loopback port unless `listen` says."""
    entries = [s if isinstance(s, str | Mapping) else s.address for s in servers]
    return {"proxies": {"p": {"listen": [listen or f"127.0.0.1:{free_port()}"], "servers": entries, **settings}}}


class Daemon(Child):
    """A running lbproxy; a context manager that asserts a clean stop.

    `config` is a dict, or the text of a file. `control`, where it is not given, is a socket in the daemon's
    own directory. `nofile` is its hard limit of file descriptors. Leaving the block stops it with SIGTERM
    unless the test has ended it before, and asserts exit status 0 and no traceback in the log.
    """

    def __init__(self, config: Config, ns: Namespace | None = None, nofile: int | None = None) -> None:
        super().__init__(ns)
        self._first = config
        self._nofile = nofile

    def prepare(self) -> None:
        """Write the configuration and choose the command."""
        self.command = [sys.executable, "-m", "lbproxy", "run", "-c", str(self.file)]
        if self._nofile:
            need("prlimit")
            self.command = ["prlimit", f"--nofile={self._nofile}:{self._nofile}", *self.command]
        self.rewrite(self._first)

    @property
    def file(self) -> Path:
        """The configuration file."""
        return self.dir / "lbproxy.yaml"

    @property
    def config(self) -> dict[str, Any]:
        """What the configuration file says now."""
        read: dict[str, Any] = yaml.safe_load(self.file.read_text())
        return read

    @property
    def control(self) -> str:
        """The control socket's path."""
        return str(self.config["control"])

    @property
    def port(self) -> int:
        """The first port of the first proxy."""
        return next(iter(_ports(self.config)))

    def rewrite(self, config: Config) -> None:
        """Replace the configuration file, atomically and as it is given; `control` is added where it lacks."""
        path = self.dir / "control.sock"
        if isinstance(config, str):
            text = config if "control:" in config else f"control: {path}\n{config}"
        else:
            text = yaml.safe_dump({"control": str(path), **config}, sort_keys=False)
        new = self.file.with_suffix(".new")
        new.write_text(text)
        new.rename(self.file)

    def wanted(self) -> set[int]:
        """Return the ports of every proxy; the admin port may be taken and is not waited for."""
        return set(_ports(self.config))

    def ready(self) -> bool:
        """Whether the ports listen and the control socket answers."""
        if not super().ready():
            return False
        try:
            self.call("status")
        except LbproxyError:
            return False
        return True

    def call(self, command: str, **arguments: Any) -> dict[str, Any]:
        """Ask over the control socket."""
        return client.call(self.control, command, arguments)

    def status(self) -> dict[str, Any]:
        """Return the status JSON."""
        found: dict[str, Any] = self.call("status")["status"]
        return found

    def servers(self, proxy: str = "") -> dict[str, Any]:
        """Return the servers of `proxy` (of the first one) from the status JSON, by name."""
        proxies = self.status()["proxies"]
        found: dict[str, Any] = proxies[proxy or next(iter(proxies))]["servers"]
        return found

    def conns(self) -> list[dict[str, Any]]:
        """Return the open connections."""
        found: list[dict[str, Any]] = self.call("conns")["conns"]
        return found

    def reload(self, config: Config | None = None) -> list[str]:
        """Write `config` if given, reload, assert that it was applied, and return what changed."""
        if config is not None:
            self.rewrite(config)
        verdict = self.call("reload")
        assert verdict["applied"], verdict
        lines: list[str] = verdict["lines"]
        return lines

    def cli(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run the command line against this daemon."""
        environ = {**os.environ}
        environ.pop("COLUMNS", None)  # which pytest-xdist sets, and readline
        with inside(self.ns):
            return subprocess.run(
                [sys.executable, "-m", "lbproxy", "--control", self.control, *words],
                env=environ, capture_output=True, text=True, timeout=30 * FACTOR,
            )  # fmt: skip

    def fds(self) -> int:
        """Return how many file descriptors the daemon holds."""
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    def sockets(self) -> int:
        """Return how many of them are sockets; pipes are kept for later, and files come and go."""
        found = 0
        for fd in Path(f"/proc/{self.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                found += str(fd.readlink()).startswith("socket:")
        return found

    def rss(self) -> int:
        """Return its resident size in bytes."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def cpu_seconds(self) -> float:
        """Return the CPU time that it has used so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self, timeout: float = 20.0) -> int:
        """Stop with SIGTERM; assert that it ends by itself, with status 0 and nothing bad in the log."""
        self.send(signal.SIGTERM)
        status = self.process.wait(timeout * FACTOR)
        assert status == 0, f"exit status {status}:\n{self.log}"
        self.assert_clean_log()
        return status

    def assert_clean_log(self) -> None:
        """Assert that no bug has shown in the log."""
        for bug in BUGS:
            assert bug not in self.log, self.log

    def _close(self, show: bool) -> None:
        ended = self._process is None or self._process.poll() is not None
        try:
            if not ended and not show:
                show = True
                self.stop()
                show = False
        finally:
            super()._close(show)


def _ports(config: Mapping[str, Any]) -> list[int]:
    listens: list[str] = []
    with contextlib.suppress(KeyError, TypeError, AttributeError):  # a broken file has no ports to wait for
        for proxy in config["proxies"].values():
            listens += [proxy["listen"]] if isinstance(proxy["listen"], str) else proxy["listen"]
    return [int(str(listen).rpartition(":")[2]) for listen in listens]
