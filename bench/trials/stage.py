"""The place of a trial: a node and three masters in network namespaces, a proxy on the node, and its clients."""

from __future__ import annotations

import json
import socket
import sys
import time
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bench.trials.clients import Clients
from tests.support.certs import Certs
from tests.support.child import Child
from tests.support.daemon import Daemon, one_proxy
from tests.support.haproxy import HAProxy
from tests.support.netns import MASTERS, Namespace, Topology
from tests.support.nginx import NginxProxy
from tests.support.wait import until

PROXIES = ("lbproxy", "nginx", "haproxy")
PORT = 6443
SETTLE = 1.5
"""Seconds that a proxy which does not tell what it knows is given before a trial begins."""
ROOT = Path(__file__).parents[2]


class Master(Child):
    """A master's process; `set` changes what it does (see master.py)."""

    def __init__(self, name: str, certs: Certs, ns: Namespace) -> None:
        super().__init__(ns)
        self.name = name
        self.host = MASTERS[name]
        self._certs = certs

    def prepare(self) -> None:
        """Choose the command."""
        self.env = {"PYTHONPATH": str(ROOT)}
        self.command = [
            sys.executable, "-m", "bench.trials.master", self.name, self.host, str(PORT), str(self._certs.server),
            str(self.dir / "control"),
        ]  # fmt: skip

    def ready(self) -> bool:
        """Whether it can be set, and so listens."""
        return (self.dir / "control").exists()

    def set(self, **settings: Any) -> None:
        """Change settings; returns when they are in force."""
        with socket.socket(socket.AF_UNIX) as control:
            control.settimeout(10)
            control.connect(str(self.dir / "control"))
            control.sendall(json.dumps(settings).encode() + b"\n")
            assert control.recv(16) == b"done\n"


def configuration(plain: bool, settings: dict[str, Any], node_id: str) -> dict[str, Any]:
    """Return lbproxy's: the defaults and an https check of /readyz (none in front of the plain ports)."""
    servers = [{"address": f"{host}:{PORT + plain}", "name": name} for name, host in MASTERS.items()]
    health = {} if plain else {"health": {"type": "https"}}
    return {"node_id": node_id, **one_proxy(servers, **{**health, **settings})}


class Scene:
    """One trial's place; a context manager. `rate` is the pace of new connections a second.

    `settings` are lbproxy's for the proxy, on top of the defaults; with `plain` the masters' plain ports stand behind.
    """

    def __init__(
        self, proxy: str, certs: Certs, rate: float = 50.0, plain: bool = False, settings: dict[str, Any] | None = None
    ) -> None:
        self.kind = proxy
        self.rate = rate
        self.certs = certs
        self._plain = plain
        self._settings = settings or {}

    def __enter__(self) -> Self:
        self._open = ExitStack()
        try:
            self.net = self._open.enter_context(Topology())
            self.masters = {name: Master(name, self.certs, self.net.masters[name]) for name in MASTERS}
            for master in self.masters.values():
                self._open.enter_context(master)
            self.proxy = self.another("node")
            tls = None if self._plain else self.certs.client_context()
            self.clients = self._open.enter_context(Clients(self.port, tls, self.net.node))
            self._settle()
        except BaseException:
            self._open.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for name in MASTERS:
            self.net.heal(name)
        self._open.__exit__(kind, error, at)

    def _settle(self) -> None:
        daemon = self.daemon
        if daemon is None:
            time.sleep(SETTLE)
        elif not self._plain:
            until(lambda: all(server["checks"] for server in daemon.servers().values()), "every server is checked")

    def another(self, node_id: str) -> Daemon | NginxProxy | HAProxy:
        """Start one more proxy like the one under trial, with a node id of its own."""
        servers = [f"{host}:{PORT + self._plain}" for host in MASTERS.values()]
        made: Daemon | NginxProxy | HAProxy
        if self.kind == "nginx":
            made = NginxProxy(servers, ns=self.net.node)
        elif self.kind == "haproxy":
            made = HAProxy(servers, ns=self.net.node, checks=not self._plain)
        else:
            made = Daemon(configuration(self._plain, self._settings, node_id), ns=self.net.node)
        self._open.enter_context(made)
        return made

    @property
    def port(self) -> int:
        """The proxy's."""
        return self.proxy.port

    @property
    def daemon(self) -> Daemon | None:
        """The proxy if it is lbproxy."""
        return self.proxy if isinstance(self.proxy, Daemon) else None

    def wait_for(self, server: str, states: Iterable[str], timeout: float = 20.0) -> None:
        """Wait until lbproxy holds `server` to be in one of `states`; for others, who do not tell, for a while."""
        if self.daemon is None:
            time.sleep(5)
            return
        daemon, wanted = self.daemon, set(states)
        until(lambda: daemon.servers()[server]["state"] in wanted, f"{server} is {' or '.join(wanted)}", timeout)

    def pids(self) -> list[int]:
        """Return the processes of the proxy."""
        children = Path(f"/proc/{self.proxy.pid}/task/{self.proxy.pid}/children").read_text().split()
        return [self.proxy.pid, *map(int, children)]

    def fds(self) -> int:
        """Return how many descriptors the proxy holds."""
        return sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in self.pids())

    def resident(self) -> float:
        """Return the proxy's resident memory in MiB."""
        pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in self.pids())
        return pages * 4096 / (1 << 20)
