"""`lbproxy demo` on a terminal and without one: it starts, it obeys, it leaves nothing."""

import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from lbproxy.demo import processes
from tests.support.clients import connect, get, receive_all
from tests.support.need import need
from tests.support.wait import FACTOR, until

WAIT = 20 * FACTOR


class Demo:
    """A running demo, on a terminal of its own or on a pipe, and all that it has written."""

    def __init__(self, tmp_path: Path, terminal: bool) -> None:
        self.tmp_path = tmp_path
        self.output = ""
        if terminal:
            need("pty")
        self.ours, self.theirs = pty.openpty() if terminal else os.pipe()
        self.terminal = terminal

    def __enter__(self) -> Self:
        self.mode = termios.tcgetattr(self.theirs) if self.terminal else []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "lbproxy", "demo"],
            stdin=self.theirs if self.terminal else subprocess.DEVNULL, stdout=self.theirs, stderr=subprocess.STDOUT,
            env={**os.environ, "TMPDIR": str(self.tmp_path)}, start_new_session=True, preexec_fn=self._take_terminal,
        )  # fmt: skip
        return self

    def _take_terminal(self) -> None:
        """Make the terminal the controlling one, so that Ctrl-C is a signal to the foreground group."""
        if self.terminal:
            import fcntl

            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(WAIT)
        os.close(self.ours)
        os.close(self.theirs)

    def read_until(self, pattern: str) -> re.Match[str]:
        """Read on until what has come since the last call matches `pattern`."""
        end = time.monotonic() + WAIT
        while not (found := re.search(pattern, self.output)):
            assert time.monotonic() < end, f"{pattern} is not in: {self.output}"
            if select.select([self.ours], [], [], 0.1)[0]:
                self.output += os.read(self.ours, 1 << 16).decode(errors="replace")
        self.output = self.output[found.end() :]
        return found

    def press(self, keys: bytes) -> None:
        """Type `keys`."""
        os.write(self.ours, keys)

    def ended(self) -> int:
        """Read to the end and return the exit status."""
        until(lambda: self._drain() or self.process.poll() is not None, "the demo ends", 20)
        return self.process.wait()

    def _drain(self) -> None:
        if select.select([self.ours], [], [], 0)[0]:
            self.output += os.read(self.ours, 1 << 16).decode(errors="replace")

    def processes(self) -> dict[int, str]:
        """Return the commands of its processes, by number."""
        return _processes_with(str(self.tmp_path))

    def left(self) -> list[str]:
        """Return what is left of it: processes, files."""
        return [*self.processes().values(), *map(str, self.tmp_path.iterdir())]


def _processes_with(word: str) -> dict[int, str]:
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if process.name != str(os.getpid()) and word.encode() in (process / "environ").read_bytes():
                found[int(process.name)] = (process / "cmdline").read_text().replace("\0", " ")
        except OSError:
            continue
    return found


@pytest.fixture(params=[True, False], ids=["terminal", "pipe"])
def demo(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Demo]:
    """Run a demo on a terminal, and one without."""
    with Demo(tmp_path, request.param) as running:
        yield running


@pytest.fixture
def on_terminal(tmp_path: Path) -> Iterator[Demo]:
    """Run a demo on a terminal."""
    with Demo(tmp_path, terminal=True) as running:
        yield running


def row(name: str, state: str) -> str:
    """Return the pattern of a server's line in the table."""
    return rf"{name} \(127\.0\.0\.1:\d+\) +(\x1b\[[0-9;]+m)?{state} "


def test_the_lines_to_paste_work(demo: Demo) -> None:
    """A curl is answered by one of the three, `lbproxy status` by the proxy; its own clients get answers too."""
    port = int(demo.read_until(r"curl http://127\.0\.0\.1:(\d+)/\s")[1])
    control = demo.read_until(r"LBPROXY_CONTROL=(\S+) \S.* status")[1]
    with connect(port) as client:
        client.sendall(get())
        assert receive_all(client).split()[-1].decode() in ("alpha", "beta", "gamma")
    demo.read_until("3 of 3 servers up")
    status = subprocess.run(
        [sys.executable, "-m", "lbproxy", "status"],
        env={**os.environ, "LBPROXY_CONTROL": control}, capture_output=True, text=True, timeout=WAIT,
    )  # fmt: skip
    assert status.returncode == 0, status.stderr
    for name in ("alpha", "beta", "gamma"):
        assert re.search(row(name, "up"), status.stdout), status.stdout
    demo.read_until(r"(alpha|beta|gamma) [1-9]")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_signal_ends_it_with_0_and_nothing_is_left(demo: Demo, number: signal.Signals) -> None:
    """No process, no file."""
    demo.read_until(row("gamma", "up"))
    demo.process.send_signal(number)
    assert demo.ended() == 0
    assert demo.left() == []


def test_a_signal_while_it_starts_leaves_nothing(demo: Demo) -> None:
    """Ctrl-C of the impatient, at the first sign of a child."""
    until(lambda: any("lbproxy run" in line for line in demo.processes().values()))
    demo.process.send_signal(signal.SIGINT)
    assert demo.ended() == 0
    assert demo.left() == []


def test_a_proxy_that_dies_ends_it_with_1(demo: Demo) -> None:
    """There is nothing more to see; what the proxy logged is shown, and nothing is left."""
    demo.read_until(row("gamma", "up"))
    (proxy,) = (number for number, command in demo.processes().items() if "lbproxy run" in command)
    os.kill(proxy, signal.SIGKILL)
    assert demo.ended() == 1
    assert "lbproxy: the proxy has ended:" in demo.output
    assert demo.left() == []


@pytest.mark.parametrize("key", [b"q", b"\x03"], ids=["q", "ctrl-c"])
def test_a_key_ends_it_and_the_terminal_is_as_before(on_terminal: Demo, key: bytes) -> None:
    """Echo and line mode are back, the cursor is visible, nothing is left."""
    on_terminal.read_until(row("gamma", "up"))
    assert termios.tcgetattr(on_terminal.theirs) != on_terminal.mode
    on_terminal.press(key)
    assert on_terminal.ended() == 0
    assert termios.tcgetattr(on_terminal.theirs) == on_terminal.mode
    assert on_terminal.output.rstrip().endswith("\x1b[?25h")
    assert on_terminal.left() == []


def test_a_key_stops_a_server_and_starts_it_again(on_terminal: Demo) -> None:
    """The table shows it going down and coming up, and no new connection fails meanwhile."""
    on_terminal.read_until(row("beta", "up"))
    on_terminal.press(b"2")
    on_terminal.read_until(row("beta", "down"))
    on_terminal.press(b"2")
    on_terminal.read_until(row("beta", "up"))
    on_terminal.read_until(r"new connections failed 0")


def test_the_children_import_nothing_of_the_directory_the_demo_is_started_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file called json.py there would be run."""
    (tmp_path / "json.py").write_text("raise SystemExit('this is not json')\n")
    monkeypatch.chdir(tmp_path)
    assert processes._child("lbproxy", "check", "--json", "/dev/null").wait(WAIT) == 1
    assert processes._child("lbproxy", "version").wait(WAIT) == 0
