"""Is it a TLS ClientHello and nothing else? Only that may be said again to another server.

A ClientHello (RFC 8446 4.1.2) is one handshake message in one or several records, and a client that has sent it waits.
With early data (extension 42) it does not wait: a request follows that must not arrive twice.
"""

from __future__ import annotations

import struct
from enum import Enum
from typing import Final

LIMIT: Final = 16384
"""Bytes, the record headers included; real ones have 200 to 2,000."""
_HANDSHAKE: Final = 22
_CLIENT_HELLO: Final = 1
_EARLY_DATA: Final = 42
_RECORD_HEADER: Final = 5
_MESSAGE_HEADER: Final = 4
_LONGEST_RECORD: Final = 16384
_extension: Final = struct.Struct("!HH").unpack_from
"""Type and length at an offset."""


class Hello(Enum):
    """What the first bytes of a client are."""

    PARTIAL = "partial"
    """The beginning of a ClientHello, as far as its headers tell."""
    COMPLETE = "complete"
    """One whole ClientHello without early data, and nothing behind it."""
    OTHER = "other"


def classify(data: bytes | bytearray | memoryview) -> Hello:
    """Say what `data`, everything that a client has sent so far, is. Never raises, whatever the bytes are."""
    size = len(data)
    if (size and data[0] != _HANDSHAKE) or size > LIMIT:
        return Hello.OTHER
    message = bytearray()
    at = promised = 0
    while at < size:
        length = _record_length(bytes(data[at : at + _RECORD_HEADER]))
        if length == 0:
            break
        message += data[at + _RECORD_HEADER : at + _RECORD_HEADER + max(length, 0)]
        at += _RECORD_HEADER + length
        promised += length
        if length < 0 or (message and message[0] != _CLIENT_HELLO):
            return Hello.OTHER
        if len(message) < _MESSAGE_HEADER:
            continue
        whole = _MESSAGE_HEADER + int.from_bytes(message[1:4], "big")
        if promised > whole or whole + _RECORD_HEADER > LIMIT:
            return Hello.OTHER
        if len(message) == whole:
            return Hello.COMPLETE if at == size and _waits(message) else Hello.OTHER
    return Hello.PARTIAL if size < LIMIT else Hello.OTHER


def _record_length(header: bytes) -> int:
    """Return the length that a record's header announces, 0 if the header is cut short, -1 if it cannot be one."""
    if header[0] != _HANDSHAKE or header[1:2] not in (b"", b"\x03"):
        return -1
    if len(header) < _RECORD_HEADER:
        return 0
    length = header[3] << 8 | header[4]
    return length if 1 <= length <= _LONGEST_RECORD else -1


def _waits(message: bytearray) -> bool:
    """Whether the fields of a whole ClientHello fit into it exactly and none of its extensions is early data."""
    end = len(message)
    try:
        at = 38  # behind type, length, version and random
        at += 1 + message[at]  # session id
        at += 2 + (message[at] << 8 | message[at + 1])  # cipher suites
        at += 1 + message[at]  # compression methods
        if at == end:
            return True
        if at + 2 + (message[at] << 8 | message[at + 1]) != end:
            return False
        at += 2
        while at < end:
            kind, length = _extension(message, at)
            if kind == _EARLY_DATA:
                return False
            at += 4 + length
    except (IndexError, struct.error):
        return False
    return at == end
