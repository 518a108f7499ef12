"""One question for SRV records (RFC 2782), and what an answer says (RFC 1035): all that is needed of DNS here.

Of a name with such records the C library's getaddrinfo knows nothing; a DNS library would be 2 MiB for one question.
Priorities become backups: only the targets of the lowest number are to be used while one of them can be reached.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from lbproxy.config.address import read_address
from lbproxy.config.model import ServerConfig

_SRV: Final = 33
_IN: Final = 1
_NO_SUCH_NAME: Final = 3
_MOST_RECORDS: Final = 1000
_MOST_LABELS: Final = 128
"""Of a name, which has at most 255 bytes; a pointer counts as one, so that those which lead in circles end."""
_HEADER: Final = struct.Struct("!6H")


class TruncatedError(ValueError):
    """The answer does not fit into a datagram: ask again over TCP."""


def question(name: str, number: int) -> bytes:
    """Return the question for the SRV records of `name`, told from others by `number`."""
    labels = name.removesuffix(".").encode("ascii").split(b".")
    return _HEADER.pack(number, 0x0100, 1, 0, 0, 0) + b"".join(
        bytes([len(label)]) + label for label in labels
    ) + b"\0" + struct.pack("!2H", _SRV, _IN)  # fmt: skip


def answers(asked: bytes, data: bytes) -> bool:
    """Whether `data` is the answer to the question `asked`, and not to another one."""
    size = len(asked) - _HEADER.size
    return (
        len(data) >= len(asked)
        and data[:2] == asked[:2]
        and bool(data[2] & 0x80)
        and data[_HEADER.size : _HEADER.size + size].lower() == asked[_HEADER.size :].lower()
    )


def servers(data: bytes) -> list[ServerConfig]:
    """Return the servers in an answer, none if it says that there are none.

    Raises TruncatedError, or ValueError for one that is none or cannot be read.
    """
    _, flags, questions, count, _, _ = _HEADER.unpack_from(_at_least(data, 0, _HEADER.size))
    if flags & 0x0200:
        raise TruncatedError
    if code := flags & 15:
        raise ValueError("there is no such name" if code == _NO_SUCH_NAME else f"the name server says error {code}")
    if questions > 1:
        raise ValueError("an answer to several questions")
    at = _HEADER.size
    if questions:
        at = _name(data, at)[1] + 4
    records = sorted(_records(data, at, min(count, _MOST_RECORDS)))
    return [
        ServerConfig(address=read_address(f"{host}:{port}", bound=False), weight=min(max(weight, 1), 1000),
                     backup=priority > records[0][0])
        for priority, weight, host, port in records if host
    ]  # fmt: skip


def _records(data: bytes, at: int, count: int) -> Iterator[tuple[int, int, str, int]]:
    """Yield priority, weight, target (empty: there is no such service) and port of each."""
    for _ in range(count):
        _, at = _name(data, at)
        kind, group, _, size = struct.unpack_from("!2HIH", _at_least(data, at, 10), at)
        at += 10
        _at_least(data, at, size)
        if (kind, group) == (_SRV, _IN):
            priority, weight, port = struct.unpack_from("!3H", _at_least(data, at, 7), at)
            yield priority, weight, _name(data, at + 6)[0], port
        at += size


def _name(data: bytes, at: int) -> tuple[str, int]:
    """Return the name at `at`, and where it ends."""
    labels: list[str] = []
    end = 0
    for _ in range(_MOST_LABELS):
        size = _at_least(data, at, 1)[at]
        if size == 0:
            return ".".join(labels), end or at + 1
        if size >= 0xC0:
            end = end or at + 2
            at = int.from_bytes(_at_least(data, at, 2)[at : at + 2], "big") & 0x3FFF
        elif size < 0x40:
            labels.append(_at_least(data, at, 1 + size)[at + 1 : at + 1 + size].decode("ascii"))
            at += 1 + size
        else:
            raise ValueError("a name of an unknown kind")
    raise ValueError("a name without an end")


def _at_least(data: bytes, at: int, size: int) -> bytes:
    """Return `data`, which has `size` bytes at `at`. Raises ValueError."""
    if at + size > len(data):
        raise ValueError("an answer that breaks off")
    return data
