"""What the demo shows, drawn over itself on a terminal and printed anew elsewhere, and the keys that it takes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sys
import termios
import tty
from collections.abc import Callable, Iterator


class Picture:
    """Lines that are shown again and again; `live` draws each time over the last."""

    def __init__(self, live: bool) -> None:
        self._live = live
        self._drawn = 0

    def show(self, lines: list[str]) -> None:
        """Show `lines`."""
        if not self._live:
            print("\n".join(lines) + "\n", flush=True)
            return
        width = shutil.get_terminal_size().columns - 1  # a line that wraps would spoil the count of lines
        up = f"\x1b[{self._drawn}A" if self._drawn else ""
        print(up + "".join(f"{line[:width]}\x1b[K\n" for line in lines) + "\x1b[J", end="", flush=True)
        self._drawn = len(lines)


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
