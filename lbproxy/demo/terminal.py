"""The keys that the demo takes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import termios
import tty
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def keys(pressed: Callable[[str], None]) -> Iterator[None]:
    """Hand each key to `pressed` while inside, `q` when the terminal is gone; it is as before afterwards."""
    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    loop = asyncio.get_running_loop()
    tty.setcbreak(fd)

    def read() -> None:
        for key in os.read(fd, 64).decode(errors="replace") or "q":
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
