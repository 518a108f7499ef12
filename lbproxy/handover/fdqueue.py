"""Connections in flight: they ride as SCM_RIGHTS in a socket that nobody reads until a successor does.

systemd's fd store can hold any descriptor, but each one it takes is compared with all it has, which is quadratic work
for PID 1. So it is given one: the reading end of a SOCK_SEQPACKET pair. What is sent into the other end stays in the
kernel when this process dies, and the next one reads it all. Entries cannot be taken out one by one; whoever feeds a
carrier makes a new one when too much in it has died.
"""

from __future__ import annotations

import array
import os
import socket
from collections.abc import Iterable
from typing import Final

from lbproxy.errors import HandoverError
from lbproxy.handover.parcel import MAX_FDS, Parcel, ProcessState, decode, encode, encode_state

_ROOM: Final = 64 << 20
"""Bytes of send buffer asked for; the kernel cuts it to net.core.wmem_max, which is 212992 on ordinary machines."""
_PER_MESSAGE: Final = 100
_SO_PEEK_OFF: Final = 42
"""socket(7): a peek begins where the last one ended. Python has no name for it."""
_LONGEST: Final = 256 * 1024


class FdQueue:
    """The sending end of a pair, and the receiving end for as long as it is not given away."""

    def __init__(self, room: int = _ROOM) -> None:
        """`room` is its size in bytes. Raises OSError when there are no descriptors left."""
        self.sender, self.receiver = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.sender.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, room)
        self.sender.setblocking(False)
        self.entries = 0
        """Connections sent since the beginning."""

    def send(self, parcels: Iterable[Parcel]) -> bool:
        """Send connections; False if there is no room or no descriptor for all of them."""
        batch: list[tuple[Parcel, str]] = []
        fds: list[int] = []
        try:
            for parcel in parcels:
                roles, more = parcel.fds()
                if len(fds) + len(more) > MAX_FDS or len(batch) == _PER_MESSAGE:
                    full, with_them, batch, fds = batch, fds, [(parcel, roles)], more
                    self._send(full, with_them)
                else:
                    batch.append((parcel, roles))
                    fds += more
            if batch:
                full, with_them, batch, fds = batch, fds, [], []
                self._send(full, with_them)
        except OSError:  # EAGAIN: it is full; ETOOMANYREFS: more in flight than RLIMIT_NOFILE allows; EMFILE: no memfd
            return False
        finally:
            _close_memfds(batch, fds)
        return True

    def _send(self, batch: list[tuple[Parcel, str]], fds: list[int]) -> None:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
        try:
            self.sender.sendmsg([encode(batch)], rights)
        finally:
            _close_memfds(batch, fds)
        self.entries += len(batch)

    def send_state(self, state: ProcessState) -> bool:
        """Send the state of the process; False if there is no room for it."""
        try:
            self.sender.send(encode_state(state))
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Close both ends; what is in flight is lost unless somebody else holds the receiving end."""
        self.sender.close()
        self.receiver.close()


def receive_message(sock: socket.socket, flags: int = 0) -> tuple[bytes, list[int]]:
    """Return the next message and the descriptors that came with it; Python 3.11's recv_fds forgets its flags."""
    fds = array.array("i")
    room = socket.CMSG_LEN(MAX_FDS * fds.itemsize)
    message, rights, _, _ = sock.recvmsg(_LONGEST, room, socket.MSG_CMSG_CLOEXEC | flags)
    for _, _, data in rights:
        fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    return message, list(fds)


def receive(sock: socket.socket, until_closed: bool = False) -> tuple[list[Parcel], ProcessState, list[str]]:
    """Return everything that is in flight towards `sock`, the last state, and what was wrong with messages.

    It stays in flight, for the next process should this one not get as far as to send it on. With `until_closed` it is
    taken out instead, and more is waited for until the sender has closed its end.
    """
    if not until_closed:
        sock.setsockopt(socket.SOL_SOCKET, _SO_PEEK_OFF, 0)
    parcels: list[Parcel] = []
    state: ProcessState = {}
    wrong: list[str] = []
    while True:
        try:
            message, fds = receive_message(sock, 0 if until_closed else socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return parcels, state, wrong
        if not message:
            return parcels, state, wrong
        try:
            more, newer = decode(message, fds)
        except HandoverError as error:
            wrong.append(str(error))
            continue
        parcels += more
        state = newer if newer is not None else state


def _close_memfds(batch: list[tuple[Parcel, str]], fds: list[int]) -> None:
    at = 0
    for _, roles in batch:
        for role in roles:
            if role in "fud":
                os.close(fds[at])
            at += 1
