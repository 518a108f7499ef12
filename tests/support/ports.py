"""Free loopback ports, and who listens where."""

from __future__ import annotations

import errno
import itertools
import os
import socket
from collections.abc import Iterator
from pathlib import Path

LISTEN = "0A"
"""TCP_LISTEN as /proc/net/tcp writes it."""


def candidates(worker: int, workers: int) -> Iterator[int]:
    """Yield ports below the ephemeral range, so that no outgoing connection takes one between choice and bind.

    Each of the `workers` that pytest-xdist runs side by side has its own: what one of them dials in vain, since its
    server has stopped, must not be where another one listens.
    """
    low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    ports = (range(10_000, low) if low > 12_000 else range(low + 1, 65_000))[worker::workers]
    start = os.getpid() * 61 % len(ports)  # processes that run side by side start apart
    return itertools.cycle(itertools.chain(ports[start:], ports[:start]))


_ports = candidates(
    int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")),
    int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")),
)


def free_port() -> int:
    """Return a port that nobody uses on 127.0.0.1 and ::1; the same one is not returned again soon."""
    for port in _ports:
        if all(_is_free(family, host, port) for family, host in ((socket.AF_INET, ""), (socket.AF_INET6, "::"))):
            return port
    raise AssertionError("no free port")


def free_ports(count: int) -> list[int]:
    """Return `count` different free ports."""
    return [free_port() for _ in range(count)]


def _is_free(family: socket.AddressFamily, host: str, port: int) -> bool:
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        return family == socket.AF_INET6 and error.errno != errno.EADDRINUSE  # a machine without IPv6
    return True


def listening(pid: int | str = "self") -> set[int]:
    """Return the TCP ports that are listened on in the network namespace of `pid`, without connecting to them."""
    found = set()
    for table in ("tcp", "tcp6"):
        try:
            lines = Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            _, local, _, state = line.split()[:4]
            if state == LISTEN:
                found.add(int(local.rpartition(":")[2], 16))
    return found
