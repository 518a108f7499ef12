"""A program as a child process: its own directory, log and process group; started, stopped, frozen, killed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.netns import Namespace, inside
from tests.support.ports import listening
from tests.support.wait import FACTOR, until

running: list[Child] = []
"""Those between `__enter__` and `__exit__`."""


class Child:
    """A context manager around one program.

    `command` is what runs, `ports` what it listens on once it serves (none: it counts as ready at once).
    Its directory `dir` and everything in its process group are gone afterwards.
    """

    stop_signal = signal.SIGTERM

    def __init__(self, ns: Namespace | None = None) -> None:
        self.ns = ns
        self.command: list[str] = []
        self.ports: list[int] = []
        self.env: dict[str, str] = {}
        self._process: subprocess.Popen[bytes] | None = None

    def prepare(self) -> None:
        """Write what the program reads into `dir` and set `command` and `ports`."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        self._dir = tempfile.TemporaryDirectory(prefix=f"lbproxy-test-{os.getpid()}-")
        running.append(self)
        try:
            self.prepare()
            self.start()
        except BaseException:
            self._close(show=True)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._close(show=kind is not None)

    @property
    def dir(self) -> Path:
        """A directory that lives as long as this."""
        return Path(self._dir.name)

    @property
    def log(self) -> str:
        """What the program wrote to stdout and stderr so far."""
        with contextlib.suppress(FileNotFoundError):
            return (self.dir / "log").read_text(errors="replace")
        return ""

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The running (or ended) child."""
        assert self._process, "not started"
        return self._process

    @property
    def pid(self) -> int:
        """The process id."""
        return self.process.pid

    def start(self) -> None:
        """Start the program, again after `stop` or `kill`, and wait until its ports listen."""
        self.spawn()
        until(lambda: self.ready() or self.process.poll() is not None, f"{self.command[0]} listens on {self.ports}", 20)
        assert self.process.poll() is None, f"{self.command[0]} exited with {self.process.returncode}:\n{self.log}"

    def spawn(self) -> None:
        """Start the program and wait for nothing."""
        with (self.dir / "log").open("ab") as log, inside(self.ns):
            self._process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.dir, process_group=0,
                env={**os.environ, **self.env},
            )  # fmt: skip

    def ready(self) -> bool:
        """Whether every one of `ports` is listened on."""
        return self.wanted() <= listening(self.pid)

    def wanted(self) -> set[int]:
        """Return the ports that must listen."""
        return set(self.ports)

    def stop(self, timeout: float = 20.0) -> int:
        """End the program in its own way and return its exit status."""
        self.send(self.stop_signal)
        return self.process.wait(timeout * FACTOR)

    def kill(self) -> None:
        """SIGKILL for the whole process group, at once."""
        self.send(signal.SIGKILL)
        self.process.wait()

    def freeze(self) -> None:
        """Stop every process of it: the kernel still accepts connections, nobody answers."""
        self._signal_group(signal.SIGSTOP)

    def thaw(self) -> None:
        """Undo `freeze`."""
        self._signal_group(signal.SIGCONT)

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the program itself; SIGKILL goes to its whole group."""
        if number is signal.SIGKILL:
            self._signal_group(number)
        else:
            self.process.send_signal(number)

    def _signal_group(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def _close(self, show: bool) -> None:
        running.remove(self)
        try:
            if self._process:
                self.kill()  # the group too, should the leader have left somebody behind
        finally:
            if show and self.log:
                print(f"--- log of {self.command[0]}:\n{self.log}---", file=sys.stderr)
            self._dir.cleanup()


def flags(**options: str | int | Path) -> Iterable[str]:
    """Return `--some-key=value` for each `some_key=value`."""
    return [f"--{key.replace('_', '-')}={value}" for key, value in options.items()]
