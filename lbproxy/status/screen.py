"""The terminal as it is: its width, whether it shows colours, and pictures that are drawn over themselves."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable
from typing import Final

from lbproxy.status.text import Screen

REFRESH: Final = 1.0
"""Seconds between two pictures of a command that watches."""


def screen() -> Screen:
    """Return what stdout can show: $COLUMNS or the terminal's width, and colours but for $NO_COLOR (no-color.org).

    What is no terminal gets lines as long as they are, without colours.
    """
    terminal = sys.stdout.isatty()
    width = shutil.get_terminal_size((0, 0)).columns if terminal or os.environ.get("COLUMNS") else 0
    return Screen(width, terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb")


class Picture:
    """Lines that are shown again and again; `live` draws each time over the last."""

    def __init__(self, live: bool) -> None:
        self._live = live
        self._drawn = 0

    def show(self, lines: list[str]) -> None:
        """Show `lines`; on a terminal as many as it has room for, the last of which says that there are more."""
        if not self._live:
            print("\n".join(lines) + "\n", flush=True)
            return
        room = shutil.get_terminal_size().lines - 1  # what has scrolled away cannot be drawn over
        if len(lines) > room:
            lines = [*lines[: room - 1], f"({len(lines) - room + 1} more lines)"]
        up = f"\x1b[{self._drawn}A" if self._drawn else ""
        print(up + "".join(f"{line}\x1b[K\n" for line in lines) + "\x1b[J", end="", flush=True)
        self._drawn = len(lines)


def watch(text: Callable[[], str]) -> None:
    """Show what `text` returns anew each second, until Ctrl-C."""
    picture = Picture(sys.stdout.isatty())
    try:
        while True:
            picture.show(text().splitlines())
            time.sleep(REFRESH)
    except KeyboardInterrupt:
        return
