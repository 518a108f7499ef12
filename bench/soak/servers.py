"""The servers of the soak as processes, and when each has had which fault."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any, Final

from tests.support.child import Child
from tests.support.ports import free_port

ROOT: Final = Path(__file__).parents[2]


class SoakServer(Child):
    """One of them; `faults` are (kind, from, until) in seconds since the epoch."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.port = free_port()
        self.faults: list[tuple[str, float, float]] = []
        self._fault = ""
        self._since = 0.0

    @property
    def address(self) -> str:
        """`host:port`."""
        return f"127.0.0.1:{self.port}"

    def prepare(self) -> None:
        """Set the command."""
        self.env = {"PYTHONPATH": str(ROOT)}
        self.command = [sys.executable, "-m", "bench.soak.server", self.name, str(self.port)]
        self.ports = [self.port]

    def fail(self, how: str) -> None:
        """Have a fault of `plan.FAULTS`."""
        self._fault, self._since = how, time.time()
        if how == "kill":
            self.kill()
        elif how == "hang":
            self.freeze()
        else:
            self._mode(how)

    def recover(self) -> None:
        """Be well again."""
        if self._fault == "kill":
            self.start()
        elif self._fault == "hang":
            self.thaw()
        else:
            self._mode("well")
        if self._fault:
            self.faults.append((self._fault, self._since, time.time()))
        self._fault = ""

    def _mode(self, mode: str) -> None:
        new = self.dir / "new"
        new.write_text(mode)
        new.rename(self.dir / "mode")

    def records(self) -> list[dict[str, Any]]:
        """Return what it says of its streams; a line that a kill has cut short is left out."""
        path = self.dir / "records"
        lines = path.read_text().splitlines() if path.exists() else []
        return [json.loads(line) for line in lines if line.endswith("}")]
