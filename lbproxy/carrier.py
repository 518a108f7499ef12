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
from typing import Any, Final

from lbproxy.handover import MAX_FDS, Parcel, decode, encode, encode_state

_ROOM: Final = 64 << 20
"""Bytes of send buffer asked for; the kernel cuts it to net.core.wmem_max. Without CAP_NET_ADMIN and with the usual
212992, some 85 full messages fit, each with a hundred connections."""
_PER_MESSAGE: Final = 100
_LONGEST: Final = 256 * 1024


class Carrier:
    """The sending end of a pair, and the receiving end for as long as it is not given away."""

    def __init__(self) -> None:
        self.sender, self.receiver = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.sender.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _ROOM)
        self.sender.setblocking(False)
        self.entries = 0
        """Connections sent since the beginning."""

    def send(self, parcels: Iterable[Parcel]) -> bool:
        """Send connections; False if there is no room for all of them."""
        batch: list[tuple[Parcel, str]] = []
        fds: list[int] = []
        for parcel in parcels:
            roles, more = parcel.fds()
            if len(fds) + len(more) > MAX_FDS or len(batch) == _PER_MESSAGE:
                if not self._send(batch, fds):
                    _close_memfds([(parcel, roles)], more)
                    return False
                batch, fds = [], []
            batch.append((parcel, roles))
            fds += more
        return not batch or self._send(batch, fds)

    def _send(self, batch: list[tuple[Parcel, str]], fds: list[int]) -> bool:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
        try:
            self.sender.sendmsg([encode(batch)], rights)
        except OSError:  # EAGAIN: the buffer is full; ETOOMANYREFS: more in flight than RLIMIT_NOFILE allows
            return False
        finally:
            _close_memfds(batch, fds)
        self.entries += len(batch)
        return True

    def send_state(self, state: dict[str, Any]) -> bool:
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


def receive(sock: socket.socket, until_closed: bool = False) -> tuple[list[Parcel], dict[str, Any]]:
    """Return everything that is in flight towards `sock`, and the last state. Raises HandoverError.

    With `until_closed` it waits for more until the sender has closed its end.
    """
    parcels: list[Parcel] = []
    state: dict[str, Any] = {}
    flags = socket.MSG_CMSG_CLOEXEC | (0 if until_closed else socket.MSG_DONTWAIT)
    while True:
        try:
            message, fds, _, _ = socket.recv_fds(sock, _LONGEST, MAX_FDS, flags)
        except BlockingIOError:
            return parcels, state
        if not message:
            return parcels, state
        more, newer = decode(message, fds)
        parcels += more
        state = newer if newer is not None else state


def _close_memfds(batch: list[tuple[Parcel, str]], fds: list[int]) -> None:
    at = 0
    for _, roles in batch:
        for role in roles:
            if role in "fud":
                os.close(fds[at])
            at += 1
