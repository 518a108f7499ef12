"""What a predecessor has left behind: listening sockets, live connections, its state and its configuration."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from socket import SocketType
from typing import Final

from lbproxy.balance.server import Server
from lbproxy.config.model import Address, ServerConfig
from lbproxy.handover import keeper
from lbproxy.handover.fdqueue import receive
from lbproxy.handover.marks import Marks
from lbproxy.handover.parcel import Parcel, ProcessState
from lbproxy.handover.revive import AtRest, revive, sift
from lbproxy.net.closing import end_shared
from lbproxy.net.poller import Poller
from lbproxy.proxy.proxy import Proxy

log = logging.getLogger(__name__)

_LONGEST_CONFIG: Final = 4 << 20


@dataclass(slots=True)
class Inherited:
    """What there was."""

    listeners: dict[Address, SocketType] = field(default_factory=dict)
    marks: Marks | None = None
    rested: list[Parcel] = field(default_factory=list)
    """Written when nothing moved any more."""
    kept: list[Parcel] = field(default_factory=list)
    """Written before; see `sift`."""
    state: ProcessState = field(default_factory=lambda: ProcessState())
    queues: list[int] = field(default_factory=list)
    """Numbers of those in the fd store."""
    config: str = ""
    """The text of the configuration that was in force."""


def address_of(sock: SocketType) -> Address:
    """Return the address a listening socket is bound to."""
    host, port = sock.getsockname()[:2]
    return Address(host, port)


def from_fds(named: Mapping[str, list[int]]) -> Inherited:
    """Make sense of the descriptors that systemd has passed, by name.

    Whatever listens is a listener, from the fd store or from a socket unit. What another version of lbproxy has left
    and this one cannot read is closed, and said so: the connections are reset, the ports stay open.
    """
    inherited = Inherited()
    queues: dict[int, socket.socket] = {}
    for name, fds in named.items():
        for fd in fds:
            if name == keeper.MARKS:
                inherited.marks = Marks(fd)
            elif name == keeper.CONFIG:
                inherited.config = os.pread(fd, _LONGEST_CONFIG, 0).decode(errors="replace")
                os.close(fd)
            elif name.startswith(f"{keeper.QUEUE}-"):
                queues[int(name.rpartition("-")[2])] = socket.socket(fileno=fd)
            else:
                _add_listener(inherited, name, fd)
    for number in sorted(queues):
        _unload(inherited, number, queues[number])
    return inherited


def _unload(inherited: Inherited, number: int, sock: socket.socket) -> None:
    with sock:
        found, state, wrong = receive(sock)
    at_rest = inherited.marks is not None and inherited.marks.at_rest == number
    (inherited.rested if at_rest else inherited.kept).extend(found)
    inherited.state = state or inherited.state
    inherited.queues.append(number)
    if wrong:
        log.error("connections of the process before this one are lost: %s", wrong[0])


def _add_listener(inherited: Inherited, name: str, fd: int) -> None:
    try:
        sock = SocketType(fileno=fd)
    except OSError:  # no socket at all
        log.warning("descriptor %s is of no use here and closed", name)
        os.close(fd)
        return
    try:
        listening = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError:
        listening = 0
    if listening and sock.family in (socket.AF_INET, socket.AF_INET6) and sock.type == socket.SOCK_STREAM:
        sock.setblocking(False)
        inherited.listeners[address_of(sock)] = sock
    else:
        log.warning("descriptor %s is of no use here and closed", name)
        sock.close()


def adopt(inherited: Inherited, poller: Poller, marks: Marks | None, proxy_of: Callable[[str], Proxy]) -> list[AtRest]:
    """Return the sessions of the connections that can go on, at rest; what cannot is reset.

    A connection to a server that is no longer configured goes on for as long as that one may drain.
    """
    good, holed = sift(inherited.rested, inherited.kept, marks)
    if marks is not None:
        marks.claim(parcel.slot for parcel in good if parcel.slot)
    adopted: list[AtRest] = []
    strangers: dict[tuple[str, str, str], Server] = {}
    for parcel in good:
        proxy = proxy_of(parcel.proxy)
        server = None
        if parcel.server_fd >= 0:
            server = next((s for s in proxy.backend.pool.servers if s.key == parcel.server), None)
            server = server or strangers.setdefault((parcel.proxy, *parcel.server), _stranger(parcel, poller.now))
        session = revive(parcel, poller, proxy.backend, server, proxy.sessions.on_end)
        proxy.sessions.take_in(session)
        adopted.append(AtRest(session, parcel.flight))
    for (name, _, _), server in strangers.items():
        proxy_of(name).retire(server)
    drop(holed)
    if good or holed:
        log.info("took over %d connections, reset %d", len(good), len(holed))
    return adopted


def drop(lost: Iterable[Parcel]) -> None:
    """Reset connections, for whoever else may hold them too."""
    for parcel in lost:
        for fd in (parcel.client_fd, parcel.server_fd):
            if fd >= 0:
                sock = SocketType(fileno=fd)
                end_shared(sock, abort=True)
                sock.close()


def _stranger(parcel: Parcel, now: float) -> Server:
    name, address = parcel.server
    host, _, port = address.rpartition(":")
    return Server(ServerConfig(name=name, address=Address(host.strip("[]"), int(port))), now=now)
