"""Faults in the system calls of a running process: strace has every nth of them fail, and tells which."""

from __future__ import annotations

import re
import signal
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.need import need
from tests.support.wait import FACTOR, until

_DONE = re.compile(r"^\d+ +(?:<\.\.\. )?(\w+).*\((?:INJECTED|DELAYED)\)$", re.MULTILINE)


def options(faults: Iterable[str], report: Path) -> list[str]:
    """Return strace's command line for `faults`, each like `read:error=EIO:when=2+3`; it tells of them in `report`."""
    faults = list(faults)
    names = ",".join(fault.partition(":")[0] for fault in faults)
    return ["strace", "-f", "-o", str(report), "-e", f"trace={names}", "-e", "signal=none",
            *(word for fault in faults for word in ("-e", f"inject={fault}"))]  # fmt: skip


def injected(report: Path) -> Counter[str]:
    """Return how often each system call was made to fail so far."""
    text = report.read_text(errors="replace") if report.exists() else ""
    return Counter(_DONE.findall(text))


class Faults:
    """`faults` in the processes `pids`, and in the children that they have, while the block lasts."""

    def __init__(self, pids: Sequence[int], faults: Iterable[str]) -> None:
        self._pids = pids
        self._faults = list(faults)

    def __enter__(self) -> Self:
        need("strace")
        self._dir = tempfile.TemporaryDirectory(prefix="lbproxy-test-")
        self._report = Path(self._dir.name, "report")
        said = Path(self._dir.name, "said")
        pids = [word for pid in self._pids for word in ("-p", str(pid))]
        with said.open("wb") as out:
            self._strace = subprocess.Popen([*options(self._faults, self._report), *pids], stderr=out)
        try:
            until(lambda: said.read_text().count("attached") >= len(self._pids), "strace has attached")
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.counts = injected(self._report)
        self._end()

    def _end(self) -> None:
        self._strace.send_signal(signal.SIGINT)  # it lets go of whom it has attached to
        self._strace.wait(20 * FACTOR)
        self._dir.cleanup()

    def each(self) -> Counter[str]:
        """Return how often each system call was made to fail by now; of one that was never called nothing is said."""
        return injected(self._report)
