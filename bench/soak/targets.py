"""The two lbproxys that are soaked: one process that stays for the whole time, and the service, which is replaced."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, Self

from bench.soak.servers import SoakServer
from lbproxy.status.client import call
from tests.support.box import UNIT, Service
from tests.support.daemon import Daemon
from tests.support.ports import free_port
from tests.support.wait import until

_HEALTH: Final = {"type": "http", "path": "/readyz", "interval": "1s", "timeout": "800ms"}


def configured(servers: Iterable[SoakServer], listen: int, admin: int, workers: int) -> dict[str, Any]:
    """Return a configuration for these servers."""
    return {
        "workers": workers,
        "watch": False,
        "shutdown_timeout": "3s",
        "admin": {"listen": f"127.0.0.1:{admin}"},
        "log": {"access": True},
        "proxies": {
            "p": {
                "listen": [f"127.0.0.1:{listen}"],
                "servers": [{"address": server.address, "name": server.name} for server in servers],
                "drain_timeout": "4s",
                "health": dict(_HEALTH),
            }
        },
    }


class Target:
    """What both have. `events` are what was done to it: (what, from, until) in seconds since the epoch."""

    name = ""

    def __init__(self, servers: list[SoakServer], workers: int) -> None:
        self.servers = servers
        self.workers = workers
        self.port, self.admin = free_port(), free_port()
        self.events: list[tuple[str, float, float]] = []
        self.removed = ""

    def config(self) -> dict[str, Any]:
        """Return the configuration that it should have now."""
        left = [server for server in self.servers if server.name != self.removed]
        return configured(left, self.port, self.admin, self.workers)

    @property
    def control(self) -> str:
        """Its control socket."""
        raise NotImplementedError

    def write(self) -> None:
        """Write its configuration."""
        raise NotImplementedError

    def pids(self) -> list[int]:
        """Return its processes."""
        raise NotImplementedError

    def access_log(self) -> str:
        """Return its log."""
        raise NotImplementedError

    def act(self, what: str) -> None:
        """Do one of `plan`'s acts that are for everybody. Raises LbproxyError if it is refused."""
        verb, _, argument = what.partition(" ")
        if verb in ("drain", "ready"):
            call(self.control, verb, {"server": argument})
            return
        if verb in ("remove", "add"):
            self.removed = argument if verb == "remove" else ""
            self.write()
        verdict = call(self.control, "reload", {})
        assert verdict["applied"], verdict


class Staying(Target):
    """`lbproxy run` without a service: the same process from the beginning to the end."""

    name = "staying"

    def __init__(self, servers: list[SoakServer], workers: int) -> None:
        super().__init__(servers, workers)
        self._daemon = Daemon(self.config())

    def __enter__(self) -> Self:
        self._daemon.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._daemon.__exit__(*error)  # type: ignore[arg-type]

    @property
    def control(self) -> str:
        return self._daemon.control

    def write(self) -> None:
        self._daemon.rewrite(self.config())

    def pids(self) -> list[int]:
        pid = self._daemon.pid
        with contextlib.suppress(OSError):
            return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]
        return [pid]

    def access_log(self) -> str:
        return self._daemon.log


class Replaced(Target):
    """The unit as shipped under systemd: upgraded, restarted with one worker or two, killed."""

    name = "replaced"

    def __init__(self, servers: list[SoakServer], workers: int) -> None:
        super().__init__(servers, workers)
        # The journal lets through what the access log says of this many connections.
        self._service = Service(self.config(), "LogRateLimitIntervalSec=0")

    def __enter__(self) -> Self:
        self._service.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._service.__exit__(*error)  # type: ignore[arg-type]

    @property
    def control(self) -> str:
        return str(self._service.outside("/run/lbproxy/control.sock"))

    def write(self) -> None:
        self._service.rewrite(self.config())

    def pids(self) -> list[int]:
        return self._service.processes("lbproxy.slice")

    def access_log(self) -> str:
        return self._service.log()

    def act(self, what: str) -> None:
        verb, _, argument = what.partition(" ")
        if verb == "upgrade":
            self._service.lbproxy("upgrade")
        elif verb == "restart":
            self.workers = int(argument)
            self.write()
            self._service.systemctl("restart")
        elif verb == "kill" and argument:
            self._kill_worker()
        elif verb == "kill":
            self._service.kill("KILL")
        else:
            super().act(what)

    def _kill_worker(self) -> None:
        pid = max(self._workers(), key=lambda worker: worker["uptime_seconds"])["pid"]
        self._service.run("kill", "-9", str(pid))
        until(lambda: len(now := self._workers()) == self.workers and pid not in [w["pid"] for w in now],
              f"another worker in the place of {pid} of {UNIT}", 30)  # fmt: skip

    def _workers(self) -> list[dict[str, Any]]:
        workers: list[dict[str, Any]] = self._service.status()["workers"]
        return workers
