"""When a certificate ends, from its DER form (RFC 5280, 4.1): Python's ssl tells that only of one it has verified."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

_VERSION: Final = 0xA0
"""The tag of the version, which alone may be missing."""
_BEFORE_VALIDITY: Final = 3
"""Serial number, algorithm and issuer."""
_UTC_TIME: Final = 0x17


def expiry(der: bytes) -> float:
    """Return the Unix time after which it is no longer valid; 0 if that cannot be read."""
    try:
        to_be_signed, _ = _enter(der, _enter(der, 0)[0])
        at = to_be_signed
        if der[at] == _VERSION:
            at = _enter(der, at)[1]
        for _ in range(_BEFORE_VALIDITY):
            at = _enter(der, at)[1]
        not_before, _ = _enter(der, at)
        not_after = _enter(der, not_before)[1]
        start, end = _enter(der, not_after)
        return _time(der[start:end].decode("ascii"), short=der[not_after] == _UTC_TIME)
    except (IndexError, ValueError):
        return 0.0


def _enter(der: bytes, at: int) -> tuple[int, int]:
    """Return where the content of the value at `at` begins and ends."""
    length = der[at + 1]
    at += 2
    if length >= 0x80:  # then it is the number of bytes of the length
        size = length & 0x7F
        length = int.from_bytes(der[at : at + size])
        at += size
    return at, at + length


def _time(text: str, short: bool) -> float:
    """Return the Unix time of `[YY]YYMMDDHHMMSSZ`; a `short` year from 50 on is one of the last century's."""
    if short:
        text = ("19" if text >= "50" else "20") + text
    parts = text[:4], text[4:6], text[6:8], text[8:10], text[10:12], text[12:14]
    year, month, day, hour, minute, second = map(int, parts)
    return datetime(year, month, day, hour, minute, second, tzinfo=UTC).timestamp()
