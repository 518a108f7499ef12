"""Listening sockets, addresses, and every socket option but those of the hot path (`syscalls`, `closing`)."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import termios
from contextlib import suppress
from socket import SocketType
from typing import Final

from lbproxy.config.model import Address, Keepalive
from lbproxy.errors import AbsentError, BindError, TakenError, YieldError
from lbproxy.net.contract import Socket, SocketAddress

BACKLOG: Final = 4096
"""The kernel cuts it to net.core.somaxconn (4096 since Linux 5.4)."""
_CLIENT_IDLE: Final = 60
"""Seconds. A loopback peer cannot vanish silently; this only finds connections that a program has leaked."""
_UNSENT: Final = 256 * 1024
"""Bytes that wait in the kernel for a client without room for them. Left to itself it lets 2.6 MB wait on loopback, and
a hundred clients that do not read take most of all others' bulk; less than this is no faster (bench/README.md)."""
_ABSENT: Final = frozenset((errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT))
"""The latter is what a kernel without IPv6 says of it."""
_LISTENS: Final = "0A"
"""TCP_LISTEN as /proc/net/tcp writes it."""


def family_of(host: str) -> int:
    """Return the address family of an IP address, 0 for a host name."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except OSError:
            continue
        return family
    return 0


def sockaddr(host: str, port: int) -> SocketAddress:
    """Return the socket address of an IP address and a port."""
    return (host, port, 0, 0) if ":" in host else (host, port)


def name(address: SocketAddress) -> str:
    """Return `host:port` of a socket address, IPv6 in brackets."""
    return str(Address(address[0], address[1]))


def listen(proxy: str, address: Address) -> SocketType:
    """Bind and listen; raises BindError (one of its kinds) that says for which proxy, where, and why not.

    TCP_NODELAY and all else that is set here is inherited by every connection accepted (tcp(7)).
    """
    try:
        return listening(address)
    except OSError as error:
        holders = _everywhere(address.port) if error.errno == errno.EADDRINUSE else set()
        if holders and holders & _own():
            raise BindError(
                f"{proxy}: cannot listen on {address} while this process listens on port {address.port} of every "
                "address: stop it and start it again to go from one to the other"
            ) from None
        if holders:
            raise YieldError(
                f"{proxy}: {address} is left to the program that listens on port {address.port} of every "
                "address, as the kube-apiserver of a master does"
            ) from None
        kind = AbsentError if error.errno in _ABSENT else TakenError if error.errno == errno.EADDRINUSE else BindError
        raise kind(f"{proxy}: cannot listen on {address}: {os.strerror(error.errno or 0)}") from None


def listening(address: Address) -> SocketType:
    """Bind and listen; raises OSError as it comes, which takes no time, where `listen` finds out what it means."""
    family = family_of(address.host)
    sock = SocketType(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _CLIENT_IDLE)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT)
        sock.bind(sockaddr(address.host, address.port))
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def _everywhere(port: int) -> set[int]:
    """Return the inodes of the sockets that listen on `port` of every address."""
    found: set[int] = set()
    ending = f":{port:04X}"
    for table in ("tcp", "tcp6"):
        try:
            with open(f"/proc/self/net/{table}", encoding="ascii") as file:
                lines = file.read().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            _, local, _, state, _, _, _, _, _, inode, *_ = line.split()
            if state == _LISTENS and local.endswith(ending) and not local.removesuffix(ending).strip("0"):
                found.add(int(inode))
    return found


def _own() -> set[int]:
    """Return the inodes of all that this process has open."""
    found: set[int] = set()
    for fd in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            found.add(os.fstat(int(fd)).st_ino)
    return found


def is_here(endpoint: tuple[int, SocketAddress]) -> bool:
    """Whether an IP address is one of this machine's; nothing is sent."""
    host = endpoint[1][0]
    if host == "::1" or host.startswith("127.") or host in ("0.0.0.0", "::"):
        return True
    try:
        with socket.socket(endpoint[0], socket.SOCK_DGRAM) as probe:
            probe.connect(endpoint[1])
            return bool(probe.getsockname()[0] == host)  # only to itself a machine speaks from that address
    except OSError:
        return False


def has_data(sock: Socket) -> bool:
    """Whether bytes wait to be read, before a FIN if there is one."""
    try:
        return any(fcntl.ioctl(sock.fileno(), termios.FIONREAD, bytes(4)))
    except (OSError, ValueError):  # ValueError: it is closed
        return False


def harden(sock: Socket, keepalive: Keepalive) -> None:
    """Have the kernel notice a server that has silently gone while nothing is sent. One that is gone is left alone.

    TCP_USER_TIMEOUT, for when something is, would also end connections to peers that are just slow: see `tcpinfo`.
    """
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, max(1, round(keepalive.idle)))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, max(1, round(keepalive.interval)))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, keepalive.count)
    except OSError:
        pass  # reset meanwhile; whoever reads it is told
