"""What a predecessor has left behind: listening sockets, live connections, its state and its configuration."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Iterable, Mapping
from dataclasses import field
from socket import SocketType
from typing import Final

from lbproxy.balance.group import Group
from lbproxy.balance.server import Endpoint, Server
from lbproxy.config.model import Address, ServerConfig
from lbproxy.handover import keeper, sets
from lbproxy.handover.fdqueue import receive
from lbproxy.handover.marks import Marks
from lbproxy.handover.parcel import Parcel, ProcessState
from lbproxy.handover.revive import AtRest, revive, sift
from lbproxy.net.closing import end_shared
from lbproxy.net.poller import Poller
from lbproxy.net.sockets import family_of
from lbproxy.proxy.proxy import Proxy
from lbproxy.record import dataclass

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
    holed: list[Parcel] = field(default_factory=list)
    """To be reset, for sure."""
    sets: list[str] = field(default_factory=list)
    """Names in the fd store of what several processes have kept; it is all in here, see `sets`."""
    config: str = ""
    """The text of the configuration that was in force."""
    events: int = -1
    """The descriptor of the file with what has happened, -1 for none."""

    def descriptors(self) -> int:
        """Return how many descriptors its connections have here."""
        parcels = (*self.rested, *self.kept, *self.holed)
        return sum([(each.client_fd >= 0) + (each.server_fd >= 0) for each in parcels])


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
    parts: dict[int, dict[str, int]] = {}
    for name, fds in named.items():
        for fd in fds:
            if (part := sets.parse(name)) is not None:
                parts.setdefault(part[0], {})[part[1]] = fd
                inherited.sets.append(name)
            elif name == keeper.MARKS:
                inherited.marks = Marks(fd)
            elif name == keeper.CONFIG:
                inherited.config = os.pread(fd, _LONGEST_CONFIG, 0).decode(errors="replace")
                os.close(fd)
            elif name == keeper.EVENTS:
                inherited.events = fd
            elif name.startswith(f"{keeper.QUEUE}-"):
                queues[int(name.rpartition("-")[2])] = socket.socket(fileno=fd)
            else:
                _add_listener(inherited, name, fd)
    for number in sorted(queues):
        _unload(inherited, number, queues[number])
    if parts:
        _take_apart(inherited, parts)
    return inherited


def _take_apart(inherited: Inherited, parts: Mapping[int, Mapping[str, int]]) -> None:
    """Take in what several processes have kept, beside what a single one may have left."""
    newest_first = [sets.unload(parts[number]) for number in sorted(parts, reverse=True)]
    flatten(inherited, newest_first)
    for fd in [fd for each in parts.values() for fd in each.values()]:
        os.close(fd)


def flatten(inherited: Inherited, newer: Iterable[sets.Content] = ()) -> None:
    """Have the connections that were kept be without slots: those of the marks, which go, and of `newer` sets."""
    good, holed = sift(inherited.rested, inherited.kept, inherited.marks)
    for parcel in good:
        parcel.slot = parcel.serial = 0
    own = sets.Content(good, [*inherited.holed, *holed], inherited.state.get("drained", []), [])
    whole = sets.merge([*newer, own])
    inherited.rested, inherited.kept, inherited.holed = whole.good, [], whole.holed
    inherited.state["drained"] = sorted(set(whole.drained))
    inherited.sets += map(keeper.queue_name, inherited.queues)
    inherited.queues = []
    if inherited.marks is not None:
        inherited.marks.close()
        inherited.marks = None
        inherited.sets.append(keeper.MARKS)
    if whole.wrong:
        log.error("connections of the process before this one are lost: %s", whole.wrong[0])


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


def adopt(
    inherited: Inherited, poller: Poller, marks: Marks | None, proxy_of: Callable[[str], Proxy]
) -> tuple[list[AtRest], int]:
    """Return the sessions of the connections that can go on, at rest, and how many cannot and were reset.

    A connection to a server that is no longer configured goes on for as long as that one may drain. A name leads to
    where its connections are, too: the one answer that there was so far, if any, may lack some (see `balance.group`).
    """
    good, holed = sift(inherited.rested, inherited.kept, marks)
    holed += inherited.holed
    if marks is not None:
        marks.claim(parcel.slot for parcel in good if parcel.slot)
    finder = Finder(good, proxy_of, poller.now)
    adopted: list[AtRest] = []
    for parcel in good:
        proxy = proxy_of(parcel.proxy)
        session = revive(parcel, poller, proxy.backend, finder.server_of(parcel), proxy.sessions.on_end)
        proxy.sessions.take_in(session)
        adopted.append(AtRest(session, parcel.flight))
    finder.retire_strangers()
    drop(holed)
    return adopted, len(holed)


class Finder:
    """Tells which server each parcel's connection belongs to."""

    def __init__(self, parcels: Iterable[Parcel], proxy_of: Callable[[str], Proxy], now: float) -> None:
        self._proxy_of = proxy_of
        self._now = now
        self._strangers: dict[tuple[str, tuple[str, str], Endpoint | None], Server] = {}
        self._groups: dict[tuple[str, tuple[str, str]], Group] = {}
        places: dict[tuple[str, tuple[str, str]], list[Endpoint]] = {}
        for parcel in parcels:
            where = _where(parcel)
            if parcel.server_fd >= 0:
                places.setdefault((parcel.proxy, parcel.server), []).extend([where] if where is not None else ())
        for (name, key), found in places.items():
            proxy = proxy_of(name)
            group = next((each for each in proxy.backend.pool.groups if each.key == key), None)
            if group is None:
                continue
            self._groups[name, key] = group
            if found and not family_of(group.settings.address.host):
                proxy.located(group, found)

    def server_of(self, parcel: Parcel) -> Server | None:
        """Return it; None while none was connected."""
        if parcel.server_fd < 0:
            return None
        group = self._groups.get((parcel.proxy, parcel.server))
        where = _where(parcel)
        if group is not None:
            for server in group.members:
                # What is given as an IP address is one server, wherever its connections say they are; and of one that
                # the server has ended meanwhile nobody can say where it was.
                if server.endpoint == where or not server.place or where is None:
                    return server
        key = (parcel.proxy, parcel.server, where)
        if key not in self._strangers:
            self._strangers[key] = group.make(where, self._now) if group else _stranger(parcel, self._now)
        return self._strangers[key]

    def retire_strangers(self) -> None:
        """Let the connections drain whose server is no longer there."""
        for (name, _, _), server in self._strangers.items():
            self._proxy_of(name).retire(server)


def _where(parcel: Parcel) -> Endpoint | None:
    """Return where its server's end is connected to, None if it is not (any more)."""
    if parcel.server_fd < 0:
        return None
    sock = SocketType(fileno=parcel.server_fd)
    try:
        return int(sock.family), sock.getpeername()
    except OSError:
        return None
    finally:
        sock.detach()


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
