"""`lbproxy demo`: three small servers and a real `lbproxy run` in front of them, on free loopback ports.

On a terminal it draws a live table and takes keys; elsewhere it prints the table now and then. Everything it
starts ends with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import json
import os
import shutil
import signal
import socket
import socketserver
import subprocess
import sys
import tempfile
import termios
import threading
import tty
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from lbproxy.errors import LbproxyError
from lbproxy.status.commands import STATUS
from lbproxy.status.render import status_text
from lbproxy.tasks import Tasks

_NAMES = ("alpha", "beta", "gamma")
_CLIENTS = 6  # of the traffic of its own; each asks a few times on a connection and then makes a new one
_REFRESH = 0.5  # seconds between two pictures on a terminal
_REPORT = 2.0  # seconds between two reports elsewhere
_LOG_LINES = 6
_START_TIMEOUT = 10.0
_CUT, _FAILED = "open connections cut", "new connections failed"
_CONFIG = """\
control: {directory}/control.sock
shutdown_timeout: 250ms
admin: {{listen: 127.0.0.1:{admin}}}
proxies:
  demo:
    listen: [127.0.0.1:{port}]
    servers: {servers}
    fail_timeout: 2s
    health: {{type: http, path: /readyz, interval: 1s}}
"""


def main() -> int:
    """Run the demo until `q`, Ctrl-C or SIGTERM; return the exit status."""
    with tempfile.TemporaryDirectory(prefix="lbproxy-demo-") as directory:
        return asyncio.run(_Demo(Path(directory)).run())


def _program() -> str:
    """Return how to call lbproxy from the shell that this was started in: it need not be installed."""
    if shutil.which("lbproxy"):
        return "lbproxy"
    script = sys.argv[0]
    return f"{sys.executable} -m lbproxy" if script.endswith("__main__.py") else script


class _Demo:
    """The process tree, and the picture of it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._live = sys.stdin.isatty() and sys.stdout.isatty()
        self._control = str(directory / "control.sock")
        self._tasks = Tasks()
        self._done = asyncio.Event()
        self._servers: dict[str, subprocess.Popen[bytes]] = {}
        self._counts: Counter[str] = Counter()  # what the clients saw
        self._drawn = 0
        self._port, self._admin, *ports = _free_ports(2 + len(_NAMES))
        self._ports = dict(zip(_NAMES, ports, strict=True))

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._done.set)
        proxy = None
        try:
            for name in _NAMES:
                self._toggle(name)
            for name in _NAMES:
                await self._answers(self._ports[name], self._servers[name])
            proxy = self._start_proxy()
            if not await self._answers(self._port, proxy):
                if self._done.is_set():
                    return 0
                print(f"lbproxy: the proxy did not start:\n{self._log(100)}", file=sys.stderr)
                return 1
            self._introduce()
            for client in range(_CLIENTS):
                self._tasks.spawn(self._client(), f"client {client}")
            with _keys(self._key) if self._live else contextlib.nullcontext():
                await self._show(proxy)
        finally:
            await self._tasks.cancel()
            _end([proxy] if proxy else [])
            _end([server for server in self._servers.values() if server.poll() is None])
        return 0

    def _start_proxy(self) -> subprocess.Popen[bytes]:
        servers = [{"name": name, "address": f"127.0.0.1:{port}"} for name, port in self._ports.items()]
        config = self._directory / "lbproxy.yaml"
        config.write_text(
            _CONFIG.format(directory=self._directory, admin=self._admin, port=self._port, servers=json.dumps(servers))
        )
        with (self._directory / "log").open("wb") as log:
            return _child(["-m", "lbproxy", "run", "-c", str(config)], stderr=log)

    async def _answers(self, port: int, child: subprocess.Popen[bytes]) -> bool:
        """Wait until `child` listens on `port`; False if it does not come to that."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_START_TIMEOUT):
                while child.poll() is None and not self._done.is_set():
                    with contextlib.suppress(ConnectionRefusedError):
                        socket.create_connection(("127.0.0.1", port)).close()
                        return True
                    await asyncio.sleep(0.05)
        return False

    def _introduce(self) -> None:
        print(f"Three servers ({', '.join(_NAMES)}) behind lbproxy, and some clients. In another terminal:\n")
        print(f"  curl http://127.0.0.1:{self._port}/")
        for command in ("status", "conns", f"drain {_NAMES[0]}", f"ready {_NAMES[0]}"):
            print(f"  LBPROXY_CONTROL={self._control} {_program()} {command}")
        print(f"  curl http://127.0.0.1:{self._admin}/metrics\n")
        if self._live:
            print("Keys: 1, 2, 3 stop and start that server; q or Ctrl-C quits.\n")
        sys.stdout.flush()

    async def _show(self, proxy: subprocess.Popen[bytes]) -> None:
        while not self._done.is_set():
            if proxy.poll() is not None:
                print(f"lbproxy: the proxy has ended:\n{self._log(100)}", file=sys.stderr)
                return
            self._draw()
            try:
                async with asyncio.timeout(_REFRESH if self._live else _REPORT):
                    await self._done.wait()
            except TimeoutError:
                continue

    def _draw(self) -> None:
        try:
            table = status_text(STATUS.ask(self._control, {})["status"])
        except LbproxyError:
            return  # it is just ending; `_show` says so
        lines = table.splitlines()[2:]
        for title, seen in ("answers", _NAMES), ("clients", (_CUT, _FAILED)):
            lines.append(f"{title}: " + ", ".join(f"{what} {self._counts[what]}" for what in seen))
        if self._live:
            width = shutil.get_terminal_size().columns - 1  # a line that wraps would spoil the count of lines
            lines += ["", *(line.partition(" ")[2] for line in self._log(_LOG_LINES).splitlines())]  # without the date
            up = f"\x1b[{self._drawn}A" if self._drawn else ""
            print(up + "".join(f"{line[:width]}\x1b[K\n" for line in lines) + "\x1b[J", end="", flush=True)
            self._drawn = len(lines)
        else:
            print("\n".join(lines) + "\n", flush=True)

    def _log(self, lines: int) -> str:
        text = (self._directory / "log").read_text(errors="replace")
        return "\n".join(text.splitlines()[-lines:])

    def _key(self, key: str) -> None:
        if key in ("q", "\x04"):
            self._done.set()
        elif key in "123":
            self._toggle(_NAMES[int(key) - 1])
            self._draw()

    def _toggle(self, name: str) -> None:
        """Stop the server `name` if it runs, else start it."""
        running = self._servers.get(name)
        if running and running.poll() is None:
            _end([running])
        else:
            self._servers[name] = _child(["-m", "lbproxy.demo", name, str(self._ports[name])], stdin=subprocess.PIPE)

    async def _client(self) -> None:
        """Ask again and again, as a client would that keeps its connection for a while."""
        while True:
            try:
                async with asyncio.timeout(10):
                    await self._conversation()
            except (OSError, asyncio.IncompleteReadError):
                await asyncio.sleep(0.2)

    async def _conversation(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        broken = _FAILED
        try:
            for _ in range(10):
                writer.write(b"GET / HTTP/1.1\r\nHost: demo\r\n\r\n")
                await reader.readuntil(b"\r\n\r\n")
                self._counts[(await reader.readline()).decode().strip()] += 1
                broken = _CUT
                await asyncio.sleep(0.3)
            broken = ""
        finally:
            writer.transport.abort()
            self._counts[broken] += 1


class _Server(http.server.BaseHTTPRequestHandler):
    """Answers every GET, /readyz included, with its name."""

    protocol_version = "HTTP/1.1"
    name = ""

    def do_GET(self) -> None:
        body = f"{self.name}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args: Any) -> None:
        """Say nothing: the terminal belongs to the table."""


class _Listener(socketserver.ThreadingTCPServer):  # HTTPServer would look up its own name in the DNS
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, *_args: Any) -> None:
        """Say nothing: a client that is gone is expected here."""


def _serve(name: str, port: int) -> None:
    """Be one of the servers, until told to end or until the demo is gone."""
    _Server.name = name
    listener = _Listener(("127.0.0.1", port), _Server)
    threading.Thread(target=listener.serve_forever, daemon=True).start()
    sys.stdin.read()


def _child(arguments: list[str], **kwargs: Any) -> subprocess.Popen[bytes]:
    """Start Python in a process group of its own, so that a Ctrl-C reaches the demo alone, which ends its children."""
    return subprocess.Popen([sys.executable, *arguments], process_group=0, **kwargs)  # noqa: S603 - our own modules


def _end(children: list[subprocess.Popen[bytes]]) -> None:
    for child in children:
        child.terminate()
    for child in children:
        try:
            child.wait(3)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        if child.stdin:
            child.stdin.close()


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [s.getsockname()[1] for s in sockets]


@contextlib.contextmanager
def _keys(pressed: Callable[[str], None]) -> Iterator[None]:
    """Hand each key to `pressed` while inside; the terminal is as before afterwards."""
    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    loop = asyncio.get_running_loop()
    tty.setcbreak(fd)

    def read() -> None:
        for key in os.read(fd, 64).decode(errors="replace") or "q":  # nothing: the terminal is gone
            pressed(key)

    loop.add_reader(fd, read)
    print("\x1b[?25l", end="", flush=True)  # the cursor would jump about
    try:
        yield
    finally:
        loop.remove_reader(fd)
        termios.tcsetattr(fd, termios.TCSADRAIN, before)
        with contextlib.suppress(OSError):  # the terminal is gone
            print("\x1b[?25h", end="", flush=True)


if __name__ == "__main__":
    _serve(sys.argv[1], int(sys.argv[2]))
