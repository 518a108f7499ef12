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
import re
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
_LONGEST: Final = 4 << 20
"""Bytes of a message's JSON; a hundred connections have 20 KiB."""
_TYPES: Final[tuple[type | tuple[type, ...], ...]] = (str, int, int, str, str, str, list, (int, float), int, int, str)
"""Of what a row has."""
_ROLES: Final = re.compile("cs?f?u?d?")
_PLACE: Final = re.compile(".+:[0-9]{1,5}")
_MOST: Final = (1 << 64) - 1


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
        left = iter(fds)
        parcels = [_parcel(row, {role: next(left) for role in row[0]}) for row in rows]
    except HandoverError:
        for fd in fds:
            os.close(fd)
        raise
    connections = {fd for parcel in parcels for fd in (parcel.client_fd, parcel.server_fd)}
    for fd in fds:
        if fd not in connections:
            os.close(fd)
    return parcels, state


def _unpack(message: bytes) -> tuple[list[_Row], ProcessState | None]:
    if message[:1] != bytes([VERSION]):
        raise HandoverError(f"handover version {message[0] if message else 'none'}, only {VERSION} is known here")
    try:
        content: _Content = json.loads(_inflated(message[1:]))
        rows, state = content.get("parcels", []), content.get("state")
    except (ValueError, AttributeError, RecursionError, zlib.error) as error:
        raise HandoverError(f"a handover message cannot be read: {error}") from None
    if not isinstance(rows, list) or not all(map(_is_row, rows)) or not _is_state(state):
        raise HandoverError("a handover message says what is not known here")
    return rows, state


def _inflated(data: bytes) -> bytes:
    stream = zlib.decompressobj()
    content = stream.decompress(data, _LONGEST)
    if not stream.eof:
        raise ValueError("it breaks off, or is too long")
    return content


def _is_row(row: object) -> bool:
    """Whether it is what `encode` writes of a connection."""
    if not isinstance(row, list) or len(row) != len(_TYPES):
        return False
    if not all(isinstance(each, kind) for each, kind in zip(row, _TYPES, strict=True)):
        return False
    roles, slot, serial, _, _, address, peer, born, up, down, _ = row
    return (
        _ROLES.fullmatch(roles) is not None
        and all(0 <= number <= _MOST for number in (slot, serial, born, up, down))
        and (_PLACE.fullmatch(address) is not None or "s" not in roles)
        and len(peer) > 1
        and isinstance(peer[0], str)
        and all(isinstance(each, int) for each in peer[1:])
    )


def _is_state(state: object) -> bool:
    """Whether it is a state, or none; what a later version adds to one is let pass."""
    if not isinstance(state, dict):
        return state is None
    names = [state.get("drained", []), state.get("sets", [])]
    return isinstance(state.get("carrier", 0), int) and all(
        isinstance(each, list) and all(isinstance(name, str) for name in each) for each in names
    )


def _parcel(row: _Row, owned: dict[str, int]) -> Parcel:
    _, slot, serial, proxy, name, address, peer, born, up, down, first_fin = row
    try:
        data = {role: _read(owned[role]) if role in owned else b"" for role in "fud"}
    except OSError as error:
        raise HandoverError(f"bytes in transit cannot be read: {error.strerror}") from None
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
    return os.pread(fd, os.fstat(fd).st_size, 0)
