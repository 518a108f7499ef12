"""Which local process a client is: read by the command that asks, with the rights of who asks, and not by the daemon.

/proc/net/tcp and tcp6 (proc_net(5)) name the inode of each socket, /proc/PID/fd the sockets of each process that one
may look into.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc")
_SOCKET: Final = "socket:["


def owners(clients: Collection[str], ports: Collection[int], proc: Path = _PROC) -> dict[str, str]:
    """Return `kubelet[812]` for each of `clients` (`127.0.0.1:40000`) whose process can be seen.

    `ports` are those that the proxies listen on: a client's port may at the same time be used for another peer.
    """
    inodes = {inode: client for inode, client in _sockets(proc, ports) if client in clients}
    found: dict[str, str] = {}
    for process in proc.glob("[0-9]*") if inodes else ():
        for inode in _sockets_of(process):
            if inode in inodes:
                found[inodes[inode]] = f"{_name(process)}[{process.name}]"
    return found


def _sockets(proc: Path, ports: Collection[int]) -> Iterator[tuple[str, str]]:
    """Yield the inode and the own address of each socket whose peer has one of `ports`."""
    for table in ("tcp", "tcp6"):
        try:
            lines = (proc / "net" / table).read_text().splitlines()[1:]
        except OSError:  # a kernel without IPv6
            continue
        for line in lines:
            fields = line.split()
            if int(fields[2].rpartition(":")[2], 16) in ports:
                yield fields[9], _address(fields[1])


def _address(text: str) -> str:
    """Return `127.0.0.1:40000` for `0100007F:9C40`: 32-bit words in the machine's order, then the port."""
    words, _, port = text.partition(":")
    packed = b"".join(struct.pack("=I", int(words[at : at + 8], 16)) for at in range(0, len(words), 8))
    if packed.startswith(b"\0" * 10 + b"\xff\xff"):  # an IPv4 client with an IPv6 socket
        packed = packed[12:]
    if len(packed) == 4:
        return f"{socket.inet_ntop(socket.AF_INET, packed)}:{int(port, 16)}"
    return f"[{socket.inet_ntop(socket.AF_INET6, packed)}]:{int(port, 16)}"


def _sockets_of(process: Path) -> Iterator[str]:
    """Yield the inodes of the sockets of a process; none of one that has ended or may not be looked into."""
    try:
        links = list((process / "fd").iterdir())
    except OSError:
        return
    for link in links:
        with suppress(OSError):  # closed meanwhile
            target = str(link.readlink())
            if target.startswith(_SOCKET):
                yield target[len(_SOCKET) : -1]


def _name(process: Path) -> str:
    try:
        return (process / "comm").read_text().strip()
    except OSError:
        return "?"
