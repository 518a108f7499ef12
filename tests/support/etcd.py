"""A real etcd cluster of three members on loopback, and etcdctl."""

from __future__ import annotations

import contextlib
import os
import subprocess
from types import TracebackType
from typing import Self

from tests.support.child import Child, flags
from tests.support.need import find, need
from tests.support.ports import free_port
from tests.support.wait import FACTOR, until


class Member(Child):
    """One etcd; `peers` is every member's name and peer port."""

    def __init__(self, name: str, peers: dict[str, int]) -> None:
        super().__init__()
        self.name = name
        self.port = free_port()
        self.ports = [self.port]
        self._peers = peers

    @property
    def address(self) -> str:
        """`host:port` for clients."""
        return f"127.0.0.1:{self.port}"

    def prepare(self) -> None:
        """Choose the command; all of etcd's settings are flags."""
        peer, client = f"http://127.0.0.1:{self._peers[self.name]}", f"http://{self.address}"
        self.command = [
            find("etcd") or "etcd",
            *flags(
                name=self.name,
                data_dir=self.dir / "data",
                listen_peer_urls=peer,
                initial_advertise_peer_urls=peer,
                listen_client_urls=client,
                advertise_client_urls=client,
                initial_cluster=",".join(f"{name}=http://127.0.0.1:{port}" for name, port in self._peers.items()),
                logger="zap",
            ),
        ]

    def start(self) -> None:
        """Start and wait for nothing: a member serves only once the others are there."""
        self.spawn()


class Etcd:
    """Three members as a context manager, ready to take writes."""

    def __init__(self) -> None:
        need("etcd", "etcdctl")
        peers = {name: free_port() for name in ("etcd1", "etcd2", "etcd3")}
        self.members = [Member(name, peers) for name in peers]

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            for member in self.members:
                stack.enter_context(member)
            until(lambda: all(healthy(member.address) for member in self.members), "etcd is healthy", 60)
            self._open = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._open.__exit__(kind, error, at)


def _command(address: str, words: tuple[str, ...]) -> list[str]:
    return [find("etcdctl") or "etcdctl", f"--endpoints=http://{address}", *words]


def _environment() -> dict[str, str]:
    return {**os.environ, "ETCDCTL_API": "3"}


def healthy(address: str) -> bool:
    """Whether the endpoint takes a write."""
    done = subprocess.run(_command(address, ("endpoint", "health")), capture_output=True, env=_environment())
    return done.returncode == 0


def etcdctl(address: str, *words: str) -> str:
    """Run etcdctl against one endpoint and return what it printed; fails with its stderr if it does."""
    done = subprocess.run(
        _command(address, words), capture_output=True, text=True, env=_environment(), timeout=30 * FACTOR
    )
    assert done.returncode == 0, f"etcdctl {' '.join(words)}: {done.stderr}"
    return done.stdout


class Watch(Child):
    """`etcdctl watch KEY` against one endpoint; its log is what it printed."""

    def __init__(self, address: str, key: str) -> None:
        super().__init__()
        self.command = _command(address, ("watch", key))
        self.env = {"ETCDCTL_API": "3"}

    def prepare(self) -> None:
        """There is nothing to write."""

    def saw(self, value: str) -> bool:
        """Whether the watch has printed `value`."""
        return value in self.log.splitlines()
