"""The demo from its start to its end: on a terminal a live table and keys, elsewhere the table now and then.

Everything that it starts ends with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from lbproxy.demo.clients import CUT, FAILED, Clients
from lbproxy.demo.processes import NAMES, Processes
from lbproxy.demo.terminal import keys
from lbproxy.errors import LbproxyError
from lbproxy.status.commands import STATUS
from lbproxy.status.screen import Picture, screen
from lbproxy.status.text import proxy_lines
from lbproxy.tasks import Tasks

_CLIENTS = 6
_REFRESH = 0.5
"""Seconds between two pictures on a terminal."""
_REPORT = 2.0
"""Seconds between two elsewhere."""
_LOG_LINES = 6
"""Lines of the proxy's log below a live table."""
_LOG_LINES_OF_A_FAILURE = 100


def main() -> int:
    """Run the demo until `q`, Ctrl-C or SIGTERM; return the exit status."""
    with tempfile.TemporaryDirectory(prefix="lbproxy-demo-") as directory:
        return asyncio.run(Demo(Path(directory)).run())


class Demo:
    """One run of it."""

    def __init__(self, directory: Path) -> None:
        self._live = sys.stdin.isatty() and sys.stdout.isatty()
        self._tasks = Tasks()
        self._stop = asyncio.Event()
        self._processes = Processes(directory)
        self._clients = Clients(self._processes.port)
        self._picture = Picture(self._live)

    async def run(self) -> int:
        """Run it; return the exit status."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._stop.set)
        try:
            if not await self._processes.start(self._stop):
                return 0 if self._stop.is_set() else self._failed("did not start")
            self._introduce()
            for client in range(_CLIENTS):
                self._tasks.spawn(self._clients.run(), f"client {client}")
            with keys(self._press) if self._live else contextlib.nullcontext():
                return await self._show()
        finally:
            await self._tasks.cancel()
            self._processes.end()

    def _introduce(self) -> None:
        it, lbproxy = self._processes, f"LBPROXY_CONTROL={self._processes.control} {_program()}"
        print(f"Three servers ({', '.join(NAMES)}) behind lbproxy, and some clients. In another terminal:\n")
        print(f"  curl http://127.0.0.1:{it.port}/")
        for command in ("status", "conns", f"drain {NAMES[0]}", f"ready {NAMES[0]}"):
            print(f"  {lbproxy} {command}")
        print(f"  curl http://127.0.0.1:{it.admin}/metrics\n")
        if self._live:
            print("Keys: 1, 2, 3 stop and start that server; q or Ctrl-C quits.\n")
        sys.stdout.flush()

    async def _show(self) -> int:
        while not self._stop.is_set():
            if not self._processes.proxy_runs:
                return self._failed("has ended")
            self._draw()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_REFRESH if self._live else _REPORT):
                    await self._stop.wait()
        return 0

    def _draw(self) -> None:
        try:
            status = STATUS.ask(self._processes.control, {})["status"]
        except LbproxyError:
            return  # the proxy is just ending; `_show` says so
        lines = [line for name in status["proxies"] for line in proxy_lines(status, name, screen())]
        for title, seen in ("answers", NAMES), ("clients", (CUT, FAILED)):
            lines.append(f"{title}: " + ", ".join(f"{what} {self._clients.counts[what]}" for what in seen))
        if self._live:
            lines += ["", *(line.partition(" ")[2] for line in self._processes.log(_LOG_LINES))]  # without the date
        self._picture.show(lines)

    def _press(self, key: str) -> None:
        if key in ("q", "\x04"):
            self._stop.set()
        elif key in "123":
            self._processes.toggle(NAMES[int(key) - 1])
            self._draw()

    def _failed(self, how: str) -> int:
        log = "\n".join(self._processes.log(_LOG_LINES_OF_A_FAILURE))
        print(f"lbproxy: the proxy {how}:\n{log}", file=sys.stderr)
        return 1


def _program() -> str:
    """Return how to call lbproxy from the shell that this was started in: it need not be installed."""
    if shutil.which("lbproxy"):
        return "lbproxy"
    script = sys.argv[0]
    return f"{sys.executable} -m lbproxy" if script.endswith("__main__.py") else script
