"""What stands for systemd's fd store."""

from __future__ import annotations

import os
from collections.abc import Sequence


class Shelf:
    """An fd store: holds copies by name. `log` says what was asked of it."""

    def __init__(self) -> None:
        self.held: dict[str, list[int]] = {}
        self.log: list[str] = []

    def store(self, name: str, fds: Sequence[int]) -> None:
        self.log.append(f"+{name}")
        self.held.setdefault(name, []).extend(os.dup(fd) for fd in fds)

    def forget(self, name: str) -> None:
        self.log.append(f"-{name}")
        for fd in self.held.pop(name, ()):
            os.close(fd)

    def names(self) -> list[str]:
        """Return what is held."""
        return sorted(self.held)

    def pass_on(self) -> dict[str, list[int]]:
        """Return what a new process is given: copies, for the store keeps its own."""
        return {name: [os.dup(fd) for fd in fds] for name, fds in self.held.items()}

    def close(self) -> None:
        """Forget everything."""
        for name in self.names():
            self.forget(name)
