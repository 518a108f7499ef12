"""Faults put in on purpose: `python -m tests.sim.mutations` shows that the simulation sees each of them.

Each is a line of lbproxy that says something else, in a copy. All must be found within SEEDS seeds.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
SEEDS = 2000
MUTATIONS = (
    ("an edge is forgotten", "relay/flow.py", "if size < BUFFER and not self.thorough:", "if True:"),
    (
        "a pipe is closed and used again",
        "net/pipes.py",
        "            pipe.close()\n        else:",
        "            pipe.close()\n        if True:",
    ),
    (
        "a lease is never given up",
        "proxy/dial.py",
        "        attempt.lease.release()\n        self._poller",
        "        self._poller",
    ),
    ("a FIN for a RST", "relay/link.py", "how == ABORT)", "False)"),
    ("half-close ends both directions", "relay/duplex.py", "one == SHUT and other == SHUT", "SHUT in (one, other)"),
    ("one client too many", "proxy/sessions.py", "len(self._open) < most", "len(self._open) <= most"),
    (
        "more than a ClientHello is said again",
        "proxy/clienthello.py",
        "if at == size and _waits(message) else _OTHER",
        "if _waits(message) else _OTHER",
    ),
    (
        "connections are cut with no other server up",
        "proxy/reaction.py",
        "if not others_up(server):",
        "if False:",
    ),
    (
        "bytes in transit are left behind",
        "handover/revive.py",
        "self.session, self.flight, self.rests)",
        "self.session, self.flight)",
    ),
    ("the mark is set after the read", "relay/flow.py", "marks[self._mark] = 1", "marks[self._mark] = 0"),
    ("the fullest server is chosen", "balance/pool.py", "or load < best_load:", "or load > best_load:"),
    ("a drained server is chosen", "balance/pool.py", "server.manual or full", "full"),
    ("a backup is one of the others", "balance/pool.py", "            return BACKUP\n", "            return PRIMARY\n"),
    ("a server takes more than max_conns", "balance/pool.py", "full = server.max_conns and", "full = False and"),
    ("bytes are not counted", "relay/flow.py", "            self.moved += size\n", ""),
    ("a mark is left behind", "handover/keeper.py", "        self.marks.free(slot)\n", ""),
    (
        "a name leads nowhere but where the first answer says",
        "handover/inherit.py",
        "if found and not family_of(group.settings.address.host):",
        "if found and group.members[0].endpoint is None:",
    ),
    ("a shortage ends the listening", "proxy/listener.py", "self._poller.at(self, self._poller.now + _PAUSE)", "pass"),
    ("a removed server lives on", "balance/pool.py", "[(server, server.place", "[(server.key, server.place"),
)


def found(file: str, before: str, after: str) -> str:
    """Put a fault in, simulate, and return the first line of what was found, empty if nothing was."""
    with tempfile.TemporaryDirectory(prefix="lbproxy-mutation-") as made:
        shutil.copytree(ROOT / "lbproxy", Path(made, "lbproxy"), ignore=shutil.ignore_patterns("*.so", "__pycache__"))
        (Path(made) / "tests").symlink_to(ROOT / "tests")
        path = Path(made, "lbproxy", file)
        text = path.read_text()
        assert text.count(before), f"{file} does not say {before!r} any more"
        path.write_text(text.replace(before, after))
        command = [sys.executable, "-m", "tests.sim", "--seeds", str(SEEDS), "--stop"]
        environ = {**os.environ, "PYTHONPATH": made}
        done = subprocess.run(command, cwd=made, env=environ, capture_output=True, text=True)
        seen = re.search("^seed .*", done.stdout, re.MULTILINE)
        assert seen or not done.returncode, done.stderr  # one that does not even start is not found by the simulation
        return seen[0] if seen else ""


def main() -> int:
    """Try all, or those that an argument names, once nothing is found without; returns how many were not found."""
    if without := found("__init__.py", "", ""):
        print(f"without any fault: {without}")
        return 1
    missed = 0
    for name, file, before, after in [each for each in MUTATIONS if not sys.argv[1:] or sys.argv[1] in each[0]]:
        began = time.monotonic()
        seen = found(file, before, after)
        missed += not seen
        print(f"{time.monotonic() - began:4.0f} s  {name}: {seen[:110] or 'NOT FOUND'}", flush=True)
    return missed


if __name__ == "__main__":
    sys.exit(main())
