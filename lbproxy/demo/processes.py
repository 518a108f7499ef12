"""The children of the demo: the servers, which come and go, and the proxy in front of them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import IO

NAMES = ("alpha", "beta", "gamma")
_START_TIMEOUT = 10.0
"""Seconds that a child has until it listens."""
_END_TIMEOUT = 3.0
"""Seconds that one has to end by itself; the proxy cuts its connections after 0.25."""
_CONFIG = """\
control: {control}
shutdown_timeout: 250ms
admin: {{listen: 127.0.0.1:{admin}}}
proxies:
  demo:
    listen: [127.0.0.1:{port}]
    servers: {servers}
    fail_timeout: 2s
    health: {{type: http, path: /readyz, interval: 1s}}
"""

Child = subprocess.Popen[bytes]


class Processes:
    """Servers called `NAMES` and the proxy; what they need to have in files is in `directory`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._servers: dict[str, Child] = {}
        self._proxy: Child | None = None
        self.control = str(directory / "control.sock")
        self.port, self.admin, *ports = _free_ports(2 + len(NAMES))
        self._ports = dict(zip(NAMES, ports, strict=True))

    async def start(self, stop: asyncio.Event) -> bool:
        """Start all, the proxy last; return whether it listens, which it does not if `stop` is set meanwhile."""
        for name in NAMES:
            self.toggle(name)
        for name in NAMES:
            await _listens(self._servers[name], self._ports[name], stop)
        self._proxy = self._start_proxy()
        return await _listens(self._proxy, self.port, stop)

    def _start_proxy(self) -> Child:
        servers = [{"name": name, "address": f"127.0.0.1:{port}"} for name, port in self._ports.items()]
        config = self._directory / "lbproxy.yaml"
        config.write_text(
            _CONFIG.format(control=self.control, admin=self.admin, port=self.port, servers=json.dumps(servers))
        )
        with (self._directory / "log").open("wb") as log:
            return _child("lbproxy", "run", "-c", str(config), stderr=log)

    def toggle(self, name: str) -> None:
        """Stop the server `name` if it runs, else start it."""
        running = self._servers.get(name)
        if running and running.poll() is None:
            _end([running])
        else:
            self._servers[name] = _child("lbproxy.demo.server", name, str(self._ports[name]), stdin=subprocess.PIPE)

    @property
    def proxy_runs(self) -> bool:
        """Tell whether the proxy, once started, has not ended."""
        return self._proxy is not None and self._proxy.poll() is None

    def log(self, lines: int) -> list[str]:
        """Return the last lines that the proxy has logged."""
        return (self._directory / "log").read_text(errors="replace").splitlines()[-lines:]

    def end(self) -> None:
        """End all, the proxy first, and wait until they are gone."""
        _end([self._proxy] if self._proxy else [])
        _end([server for server in self._servers.values() if server.poll() is None])


async def _listens(child: Child, port: int, stop: asyncio.Event) -> bool:
    """Wait until `child` listens on `port`; False if it does not come to that."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_START_TIMEOUT):
            while child.poll() is None and not stop.is_set():
                with contextlib.suppress(ConnectionRefusedError):
                    socket.create_connection(("127.0.0.1", port)).close()
                    return True
                await asyncio.sleep(0.05)
    return False


def _child(module: str, *arguments: str, stdin: int | None = None, stderr: IO[bytes] | None = None) -> Child:
    """Start a module of ours, in a process group of its own: a Ctrl-C reaches the demo alone, which ends the rest."""
    command = [sys.executable, "-P", "-m", module, *arguments]  # -P: nothing of the directory one is in
    return subprocess.Popen(command, process_group=0, stdin=stdin, stderr=stderr)  # noqa: S603 - our own modules


def _end(children: list[Child]) -> None:
    for child in children:
        child.terminate()
    for child in children:
        try:
            child.wait(_END_TIMEOUT)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        if child.stdin:
            child.stdin.close()


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [s.getsockname()[1] for s in sockets]
