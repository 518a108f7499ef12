"""How long a start takes until the port listens, and what the memory at rest is: `python bench/startup.py [TREE...]`.

A TREE is what a package installs as /usr/lib/lbproxy (`make deb` leaves one in build/packaging); several are measured
in turn. The configuration is README's, with admin: checks over https, admin, watch.
"""

from __future__ import annotations

import argparse
import os
import re
import socket
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CONFIG = """
control: {directory}/control.sock
proxies:
  kube-apiserver:
    listen: ["127.0.0.1:{port}"]
    servers: ["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"]
    health: {{type: https}}
admin: {{listen: "127.0.0.1:{admin}"}}
"""
RUN = (
    'import sys; sys.path.insert(0, "{tree}"); sys.argv[0] = "lbproxy"; from lbproxy.cli import main; sys.exit(main())'
)
UNTIL_BIND = """
import os, sys
def hook(event, arguments):
    if event == "socket.bind" and arguments[1][1:2] == ({port},):
        os._exit(0)
sys.addaudithook(hook)
"""
"""Ends a start where the port is bound; `listen` is the next call."""
BARE = 'import sys; sys.path.insert(0, "{tree}"); import uvloop, ssl'
REST = 6.0
"""Seconds until everything is loaded and the first checks are over."""


class Start:
    """One way to start: a bare interpreter with uvloop and ssl, or a tree."""

    def __init__(self, python: str, flags: str, code: str, file: str = "") -> None:
        self.command = [python, flags, "-c", code, *(["run", "-c", file] if file else [])]
        self.wall: list[float] = []
        self.cpu: list[float] = []

    def run(self) -> None:
        """Run it once to its end, in milliseconds."""
        began = time.perf_counter()
        process = subprocess.Popen(self.command, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0, self.command
        self.wall.append((time.perf_counter() - began) * 1000)
        self.cpu.append((usage.ru_utime + usage.ru_stime) * 1000)

    def instructions(self) -> float:
        """Return the millions of instructions in user mode, by valgrind."""
        valgrind = ["valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"]
        done = subprocess.run([*valgrind, *self.command], capture_output=True, text=True, check=True)
        found = re.search(r"I +refs: +([\d,]+)", done.stderr)
        assert found
        return int(found[1].replace(",", "")) / 1e6


def at_rest(command: list[str]) -> dict[str, int]:
    """Return KiB of a daemon that has been left alone: all of it (PSS), its own, and of files."""
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        time.sleep(REST)
        text = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
    finally:
        process.kill()
        process.wait()
    return {key: int(value) for key, value in re.findall(r"^(Pss|Pss_Anon|Pss_File): +(\d+)", text, re.MULTILINE)}


def main() -> None:
    """Print a line for each tree."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("tree", nargs="*", default=[*map(str, ROOT.glob("build/packaging/py3*-root/usr/lib/lbproxy"))])
    parser.add_argument("--python", default="/usr/bin/python3")
    parser.add_argument("--flags", default="-IS", help="of the interpreter; those of /usr/bin/lbproxy")
    parser.add_argument("--rounds", type=int, default=21)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory, socket.socket() as one, socket.socket() as other:
        for each in (one, other):
            each.bind(("127.0.0.1", 0))
        port, admin = one.getsockname()[1], other.getsockname()[1]
        one.close()
        other.close()
        file = Path(directory, "lbproxy.yaml")
        file.write_text(CONFIG.format(directory=directory, port=port, admin=admin))
        until = UNTIL_BIND.format(port=port)
        bare = Start(args.python, "-I", BARE.format(tree=args.tree[0]))
        starts = {tree: Start(args.python, args.flags, until + RUN.format(tree=tree), str(file)) for tree in args.tree}
        for _ in range(args.rounds):
            for start in (bare, *starts.values()):
                start.run()
        print(f"uvloop, ssl: {statistics.median(bare.wall):.0f} ms, {bare.instructions():.0f} M instructions")
        for tree, start in starts.items():
            wall, cpu = (
                statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
                for ours, theirs in ((start.wall, bare.wall), (start.cpu, bare.cpu))
            )
            rest = at_rest([args.python, args.flags, "-c", RUN.format(tree=tree), "run", "-c", str(file)])
            print(
                f"{tree}: {statistics.median(start.wall):.0f} ms, {start.instructions():.0f} M instructions; "
                f"{wall:.2f} times the wall clock and {cpu:.2f} times the CPU of uvloop, ssl; "
                + ", ".join(f"{key} {value} KiB" for key, value in rest.items())
            )


if __name__ == "__main__":
    main()
