"""A node and three masters, each in a network namespace of its own, and the ways in which a master goes silent.

The namespaces have no name and no mount: a file descriptor holds each, and whatever lives in it (sockets,
processes). When these are gone it is gone, even if the test process was killed. A socket stays in the
namespace it was made in, so one process can be all hosts.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from tests.support.need import find

How = Literal["unbridge", "port", "linkdown", "blackhole", "nft", "freeze"]

NODE = "10.0.0.10"
MASTERS = {"m1": "10.0.0.1", "m2": "10.0.0.2", "m3": "10.0.0.3"}

CLONE_NEWNET = 0x40000000

_libc = ctypes.CDLL(None, use_errno=True)
_NFT = "add table bridge f; add chain bridge f c {{ type filter hook forward priority 0; }}; " + "; ".join(
    f"add rule bridge f c {way} p-{{host}} drop" for way in ("iifname", "oifname")
)


def _checked(result: int, call: str) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), f"{call}: {os.strerror(ctypes.get_errno())}")


class Namespace:
    """A network namespace with its loopback up; `close` lets go of it."""

    def __init__(self) -> None:
        back = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _checked(_libc.unshare(CLONE_NEWNET), "unshare")
            try:
                self._fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            finally:
                _checked(_libc.setns(back, CLONE_NEWNET), "setns")
        finally:
            os.close(back)
        self.ip("link", "set", "lo", "up")

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Within the block, sockets and processes that this thread makes belong to this namespace."""
        back = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _checked(_libc.setns(self._fd, CLONE_NEWNET), "setns")
            try:
                yield
            finally:
                _checked(_libc.setns(back, CLONE_NEWNET), "setns")
        finally:
            os.close(back)

    @property
    def path(self) -> str:
        """What `ip link add ... netns` takes."""
        return f"/proc/{os.getpid()}/fd/{self._fd}"

    def run(self, *command: str) -> str:
        """Run a command inside and return what it printed; fails with its stderr if it does."""
        with self.inside():
            done = subprocess.run([find(command[0]) or command[0], *command[1:]], capture_output=True, text=True)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr.strip()}"
        return done.stdout

    def ip(self, *words: str) -> str:
        """Run `ip WORDS...` inside."""
        return self.run("ip", *words)

    def pids(self) -> list[int]:
        """Return the processes inside, without this one."""
        me = os.fstat(self._fd)
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                with contextlib.suppress(OSError):
                    if os.path.samestat((entry / "ns/net").stat(), me):
                        found.append(int(entry.name))
        return found

    def close(self) -> None:
        """Let go of the namespace."""
        os.close(self._fd)


def inside(where: Namespace | None) -> contextlib.AbstractContextManager[None]:
    """Like `where.inside()`; None stands for the namespace one is in."""
    return where.inside() if where else contextlib.nullcontext()


class Topology:
    """A node (10.0.0.10) and the masters m1 to m3 (10.0.0.1 to 3) on one switch; a context manager.

    With `routed`, the node's neighbour entries for the masters are permanent, as if they stood behind a
    router: a dead one is then plain silence. Without, ARP fails in the end and gives EHOSTUNREACH.
    """

    def __init__(self, routed: bool = True) -> None:
        self._routed = routed

    def __enter__(self) -> Self:
        self._open = contextlib.ExitStack()
        try:
            self.switch = self._namespace()
            self.node = self._namespace()
            self.masters = {name: self._namespace() for name in MASTERS}
            self.switch.ip("link", "add", "br0", "type", "bridge")
            self.switch.ip("link", "set", "br0", "up")
            self._plug("node", self.node, NODE)
            for name, address in MASTERS.items():
                self._plug(name, self.masters[name], address)
        except BaseException:
            self._open.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._open.close()

    def kill(self, master: str, how: How) -> None:
        """Make `master` go silent.

        unbridge: the switch stops forwarding for it, every carrier stays up (the cleanest silent death);
        port: its switch port goes down; linkdown: its own interface does; blackhole: it hears, its answers
        vanish; nft: the switch drops its packets; freeze: every process in it is stopped, so that its kernel
        still accepts and acknowledges and nobody answers (servers in the test process do not freeze).
        """
        match how:
            case "unbridge":
                self.switch.ip("link", "set", f"p-{master}", "nomaster")
            case "port":
                self.switch.ip("link", "set", f"p-{master}", "down")
            case "linkdown":
                self.masters[master].ip("link", "set", "eth0", "down")
            case "blackhole":
                self.masters[master].ip("route", "add", "blackhole", f"{NODE}/32")
            case "nft":
                self.switch.run("nft", _NFT.format(host=master))
            case "freeze":
                self._signal(master, signal.SIGSTOP)

    def heal(self, master: str) -> None:
        """Undo every way of `kill`."""
        host = self.masters[master]
        self.switch.ip("link", "set", f"p-{master}", "master", "br0", "up")
        host.ip("link", "set", "eth0", "up")
        if "blackhole" in host.ip("route", "show", f"{NODE}/32"):
            host.ip("route", "del", "blackhole", f"{NODE}/32")
        if find("nft") and "bridge f" in self.switch.run("nft", "list", "tables"):
            self.switch.run("nft", "delete table bridge f")
        self._signal(master, signal.SIGCONT)

    def _namespace(self) -> Namespace:
        made = Namespace()
        self._open.callback(made.close)
        return made

    def _plug(self, name: str, host: Namespace, address: str) -> None:
        port = f"p-{name}"
        self.switch.ip("link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", host.path)
        self.switch.ip("link", "set", port, "master", "br0", "up")
        host.ip("address", "add", f"{address}/24", "dev", "eth0")
        host.ip("link", "set", "eth0", "up")
        if self._routed and host is not self.node:
            words = host.ip("-oneline", "link", "show", "eth0").split()
            mac = words[words.index("link/ether") + 1]
            self.node.ip("neighbour", "replace", address, "lladdr", mac, "dev", "eth0", "nud", "permanent")

    def _signal(self, master: str, number: signal.Signals) -> None:
        for pid in self.masters[master].pids():
            os.kill(pid, number)
