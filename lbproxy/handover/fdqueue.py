"""Connections in flight: they ride as SCM_RIGHTS in a socket that nobody reads until a successor does.

systemd's fd store can hold any descriptor, but each one it takes is compared with all it has, which is quadratic work
for PID 1. So it is given one: the reading end of a SOCK_SEQPACKET pair. What is sent into the other end stays in the
kernel when this process dies, and the next one reads it all. Entries cannot be taken out one by one; whoever feeds a
queue makes a new one when too much in it has died.
"""

from __future__ import annotations

import array
import os
import socket
from collections.abc import Iterable
from typing import Final

from lbproxy.errors import HandoverError
from lbproxy.handover.parcel import MAX_FDS, Parcel, ProcessState, decode, encode, encode_state, memfd

_ROOM: Final = 64 << 20
"""Bytes of send buffer asked for; the kernel cuts it to net.core.wmem_max, which is 212992 on ordinary machines."""
_PER_MESSAGE: Final = 100
_SO_PEEK_OFF: Final = 42
"""socket(7): a peek begins where the last one ended. Python has no name for it."""
_LONGEST: Final = 256 * 1024


class _Batch:
    """The connections of one message with their descriptors, of which the memfds are its own to close."""

    def __init__(self) -> None:
        self._parcels: list[Parcel] = []
        self._fds = array.array("i")
        self._memfds: list[int] = []

    def fits(self, parcel: Parcel) -> bool:
        """Whether the message holds this one too."""
        return len(self._parcels) < _PER_MESSAGE and len(self._fds) + len(parcel.roles) <= MAX_FDS

    def add(self, parcel: Parcel) -> None:
        """Put a connection in, or nothing of it. Raises OSError when no memfd can be made."""
        made: list[int] = []
        try:
            for _, data in parcel.blobs():
                made.append(memfd("bytes", data))
        except OSError:
            for fd in made:
                os.close(fd)
            raise
        self._fds.append(parcel.client_fd)
        if parcel.server_fd >= 0:
            self._fds.append(parcel.server_fd)
        self._fds.extend(made)
        self._memfds += made
        self._parcels.append(parcel)

    def flush(self, sock: socket.socket) -> int:
        """Send what is in it, and begin anew; returns how many connections that were. Raises OSError."""
        count = len(self._parcels)
        if count:
            sock.sendmsg([encode(self._parcels)], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, self._fds)])
            self.close()
        return count

    def close(self) -> None:
        """Empty it."""
        for fd in self._memfds:
            os.close(fd)
        self._parcels, self._fds, self._memfds = [], array.array("i"), []


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
        batch = _Batch()
        try:
            for parcel in parcels:
                if not batch.fits(parcel):
                    self.entries += batch.flush(self.sender)
                try:
                    batch.add(parcel)
                except OSError:  # those of the others are closed once they are sent
                    self.entries += batch.flush(self.sender)
                    batch.add(parcel)
            self.entries += batch.flush(self.sender)
        except OSError:  # EAGAIN: it is full; ETOOMANYREFS: more in flight than RLIMIT_NOFILE allows; EMFILE: no memfd
            return False
        finally:
            batch.close()
        return True

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
