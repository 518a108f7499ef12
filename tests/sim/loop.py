"""An event loop in virtual time, of one process."""

from __future__ import annotations

from asyncio import AbstractEventLoop
from collections.abc import Callable
from typing import Any

from tests.sim.kernel import Epoll, Kernel, Killed, Process

_TURN = 0.00005
"""Seconds from being woken to running."""


class Timer:
    """A timer handle."""

    def __init__(self, call: Callable[..., None]) -> None:
        self.call = call
        self.cancelled = False

    def cancel(self) -> None:
        """Never call."""
        self.cancelled = True


class SimLoop(AbstractEventLoop):
    """Runs `process`'s callbacks. What raises ends up in `failures`."""

    def __init__(self, kernel: Kernel, process: Process) -> None:
        self.kernel, self.process = kernel, process
        self.failures: list[BaseException] = []
        self.killed: Callable[[], None] = lambda: None
        """Called when the process was killed in the middle of something."""
        self.stopped_until = 0.0
        self._readers: dict[int, Callable[[], None]] = {}
        self._soon: list[Callable[[], None]] = []
        self._due = False
        self._dead = False

    def kill(self) -> None:
        """Run nothing ever again."""
        self._dead = True

    def stall(self, seconds: float) -> None:
        """Have the process stand still (SIGSTOP, or a machine without time for it)."""
        self.stopped_until = self.kernel.now + seconds

    @property
    def stalled(self) -> bool:
        """Whether the process stands still now."""
        return self.kernel.now < self.stopped_until

    def run_in(self, call: Callable[[], None]) -> None:
        """Run code as this process, at once."""
        before, self.kernel.current = self.kernel.current, self.process
        try:
            call()
        except Killed:
            self.killed()
        except Exception as error:
            self.failures.append(error)
        finally:
            self.kernel.current = before

    def add_reader(self, fd: int, call: Callable[[], None]) -> None:  # type: ignore[override]
        """Call `call` whenever the epoll set of that descriptor has something to tell."""
        self._readers[fd] = call
        file = self.process.file(fd)
        assert isinstance(file, Epoll)
        file.on_ready = self._wake
        self._wake()

    def remove_reader(self, fd: int) -> bool:  # type: ignore[override]
        """Stop that."""
        return self._readers.pop(fd, None) is not None

    def call_soon(self, call: Callable[..., None], *args: Any, **_: Any) -> Any:  # type: ignore[override]
        """Call `call` in the next turn."""
        self._soon.append(lambda: call(*args))
        self._wake()

    def call_later(self, delay: float, call: Callable[..., None], *args: Any, **_: Any) -> Any:  # type: ignore[override]
        """Call `call` after so many seconds."""
        timer = Timer(lambda: call(*args))
        self.kernel.later(delay, lambda: self._ring(timer))
        return timer

    def _ring(self, timer: Timer) -> None:
        if timer.cancelled or self._dead:
            return
        if self.stalled:
            self.kernel.at(self.stopped_until, lambda: self._ring(timer))
        else:
            self.run_in(timer.call)

    def _wake(self) -> None:
        if not self._due and not self._dead:
            self._due = True
            self.kernel.later(_TURN, self._turn)

    def _turn(self) -> None:
        if self._dead:
            return
        if self.stalled:
            self.kernel.at(self.stopped_until, self._turn)
            return
        self._due = False
        soon, self._soon = self._soon, []
        for call in soon:
            self.run_in(call)
        for fd, call in list(self._readers.items()):
            if self.process.files.get(fd) is not None and self.process.files[fd].mask():
                self.run_in(call)
        if any(self.process.files[fd].mask() for fd in self._readers if fd in self.process.files):
            self._wake()
