"""Is it a TLS ClientHello and nothing else? Only that may be said again to another server.

A ClientHello (RFC 8446 4.1.2) is one handshake message in one or several records, and a client that has sent it waits.
With early data (extension 42) it does not wait: a request follows that must not arrive twice.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

LIMIT: Final = 16384
"""Bytes, the record headers included; real ones have 200 to 2,000."""
_HANDSHAKE: Final = 22
_TLS: Final = 3
"""The major version that every record header carries."""
_CLIENT_HELLO: Final = 1
_EARLY_DATA: Final = 42
_RECORD_HEADER: Final = 5
_MESSAGE_HEADER: Final = 4
_LONGEST_RECORD: Final = 16384


class Hello(Enum):
    """What the first bytes of a client are."""

    PARTIAL = "partial"
    """The beginning of a ClientHello, as far as its headers tell."""
    COMPLETE = "complete"
    """One whole ClientHello without early data, and nothing behind it."""
    OTHER = "other"


_PARTIAL: Final = Hello.PARTIAL
_COMPLETE: Final = Hello.COMPLETE
_OTHER: Final = Hello.OTHER


def classify(data: bytes) -> Hello:
    """Say what `data`, everything that a client has sent so far, is. Never raises, whatever the bytes are."""
    size = len(data)
    if (size and data[0] != _HANDSHAKE) or size > LIMIT:
        return _OTHER
    message = b""
    at = promised = 0
    while at < size:
        length = _record_length(data, at)
        if length == 0:
            break
        if length < 0:
            return _OTHER
        body = at + _RECORD_HEADER
        at = body + length
        message = message + data[body:at] if message else data[body:at]
        promised += length
        have = len(message)
        if have and message[0] != _CLIENT_HELLO:
            return _OTHER
        if have < _MESSAGE_HEADER:
            continue
        whole = _MESSAGE_HEADER + (message[1] << 16 | message[2] << 8 | message[3])
        if promised > whole or whole + _RECORD_HEADER > LIMIT:
            return _OTHER
        if have == whole:
            return _COMPLETE if at == size and _waits(message) else _OTHER
    return _PARTIAL if size < LIMIT else _OTHER


def _record_length(data: bytes, at: int) -> int:
    """Return the length that the record header at `at` announces, 0 if it is cut short, -1 if it cannot be one."""
    left = len(data) - at
    if data[at] != _HANDSHAKE or (left > 1 and data[at + 1] != _TLS):
        return -1
    if left < _RECORD_HEADER:
        return 0
    length = data[at + 3] << 8 | data[at + 4]
    return length if 1 <= length <= _LONGEST_RECORD else -1


def _waits(message: bytes) -> bool:
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
            if message[at] << 8 | message[at + 1] == _EARLY_DATA:
                return False
            at += 4 + (message[at + 2] << 8 | message[at + 3])
    except IndexError:
        return False
    return at == end
