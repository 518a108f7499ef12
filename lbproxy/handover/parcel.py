"""A live connection on its way to another process: what is told of it, and in which message its descriptors travel.

A *parcel* is one connection. Parcels travel in messages over a SOCK_SEQPACKET socket, many to a message, with their
descriptors as SCM_RIGHTS. A message is a version byte, then zlib-compressed JSON:

    {"parcels": [[roles, slot, serial, proxy, server name, server address, peer, born, up, down, first_fin], ...]}
    {"state": {...}}                            of the process; the last one counts

`roles` says which descriptors of the message are the parcel's, in order: `c` client, `s` server, and memfds with bytes
that were read and not yet written: `f` the client's first flight, `u` going up, `d` going down. `born` is
CLOCK_MONOTONIC, which is the same for every process of a boot. Half-close needs no telling: an end that was read is
read again from the same socket, and shutting a side twice does nothing.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterable
from typing import Final, TypedDict, cast

from lbproxy.errors import HandoverError
from lbproxy.net.contract import SocketAddress
from lbproxy.record import dataclass

VERSION: Final = 1
"""Of the message format. A successor that does not know it must not take over."""
MAX_FDS: Final = 253
"""SCM_MAX_FD of the kernel (include/net/scm.h)."""


class ProcessState(TypedDict, total=False):
    """What a successor must know of the process besides its connections."""

    drained: list[str]
    """Names of the servers that the operator has taken out of rotation."""
    carrier: int
    """Number of the queue in the fd store (`keeper`), 0 for none."""
    sets: list[str]
    """Names in the fd store of what several processes keep (`sets`)."""


_Row = tuple[str, int, int, str, str, str, list[str | int], float, int, int, str]


class _Content(TypedDict, total=False):
    parcels: list[_Row]
    state: ProcessState


@dataclass(slots=True, kw_only=True)
class Parcel:
    """One connection. `server_fd` is -1 while none is connected; then `server` is empty too."""

    client_fd: int
    server_fd: int = -1
    proxy: str
    server: tuple[str, str] = ("", "")
    """Name and address."""
    peer: SocketAddress
    born: float
    moved: tuple[int, int] = (0, 0)
    first_fin: str = ""
    flight: bytes = b""
    rests: tuple[bytes, bytes] = (b"", b"")
    """Bytes read from the client and from the server that were not written yet."""
    slot: int = 0
    """In the marks, 0 for none."""
    serial: int = 0

    @property
    def roles(self) -> str:
        """What each of its descriptors is, in order."""
        return ("cs" if self.server_fd >= 0 else "c") + "".join(role for role, _ in self.blobs())

    def blobs(self) -> list[tuple[str, bytes]]:
        """Return the bytes in transit, with their role, as far as there are any."""
        blobs = (("f", self.flight), ("u", self.rests[0]), ("d", self.rests[1]))
        return [(role, data) for role, data in blobs if data]


def encode(parcels: Iterable[Parcel]) -> bytes:
    """Return the message for parcels; their descriptors go with it in the same order."""
    rows: list[_Row] = [
        (p.roles, p.slot, p.serial, p.proxy, *p.server, list(p.peer), p.born, *p.moved, p.first_fin) for p in parcels
    ]
    return _pack({"parcels": rows})


def encode_state(state: ProcessState) -> bytes:
    """Return the message that carries the state of the process."""
    return _pack({"state": state})


def decode(message: bytes, fds: list[int]) -> tuple[list[Parcel], ProcessState | None]:
    """Return the parcels and the state in a message; `fds` came with it, and those of memfds are read and closed.

    Raises HandoverError for a version that is not known, or a message that is not whole; then all `fds` are closed.
    """
    try:
        rows, state = _unpack(message)
        if sum(len(row[0]) for row in rows) != len(fds):
            raise HandoverError("a handover message has lost descriptors (raise LimitNOFILE)")
    except HandoverError:
        for fd in fds:
            os.close(fd)
        raise
    left = iter(fds)
    return [_parcel(row, {role: next(left) for role in row[0]}) for row in rows], state


def _unpack(message: bytes) -> tuple[list[_Row], ProcessState | None]:
    if message[:1] != bytes([VERSION]):
        raise HandoverError(f"handover version {message[0] if message else 'none'}, only {VERSION} is known here")
    try:
        content: _Content = json.loads(zlib.decompress(message[1:]))
        return content.get("parcels", []), content.get("state")
    except (ValueError, AttributeError, zlib.error) as error:
        raise HandoverError(f"a handover message cannot be read: {error}") from None


def _parcel(row: _Row, owned: dict[str, int]) -> Parcel:
    _, slot, serial, proxy, name, address, peer, born, up, down, first_fin = row
    data = {role: _read(owned[role]) if role in owned else b"" for role in "fud"}
    return Parcel(
        client_fd=owned["c"],
        server_fd=owned.get("s", -1),
        proxy=proxy,
        server=(name, address),
        peer=cast("SocketAddress", tuple(peer)),
        born=born,
        moved=(up, down),
        first_fin=first_fin,
        flight=data["f"],
        rests=(data["u"], data["d"]),
        slot=slot,
        serial=serial,
    )


def _pack(content: _Content) -> bytes:
    return bytes([VERSION]) + zlib.compress(json.dumps(content, separators=(",", ":")).encode(), 1)


def memfd(name: str, data: bytes) -> int:
    """Return the descriptor of an anonymous file that holds `data`. Raises OSError, with nothing left open."""
    fd = os.memfd_create(f"lbproxy-{name}", os.MFD_CLOEXEC)
    try:
        written = 0
        while written < len(data):  # less at a time where memory is short
            written += os.write(fd, data[written:])
    except OSError:
        os.close(fd)
        raise
    return fd


def _read(fd: int) -> bytes:
    with open(fd, "rb") as file:
        file.seek(0)
        return file.read()
