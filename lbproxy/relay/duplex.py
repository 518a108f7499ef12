"""Half-close: when a direction ends, what the other side is told, and when both are done.

A TCP connection is two streams. Each of them is in one of these states here:

    OPEN      bytes may come
    ENDING    the source has sent its FIN; what it sent before is not all written yet
    SHUT      everything is written and the destination has had the FIN passed on (shutdown, SHUT_WR)
    BROKEN    the destination takes no more (EPIPE, ECONNRESET): what the source still sends is lost
    RESET     the source was reset: the stream ended without an end

and moves by these events, seen by whoever does the I/O:

    EOF              a read returned nothing
    EMPTY            all that was read has been written
    WRITE_REFUSED    a write was refused
    FAILED           a read was refused, or a write for a reason that says nothing of the destination (no memory)

A direction that is SHUT leaves the other one alone: a client that sends FIN after its request still gets the answer.
A BROKEN direction leaves the other one open for as long as that brings bytes, since a server that answers early and
closes has its answer in our receive queue; but the end is then a reset, because bytes were lost and a clean end would
hide it. A RESET source ends both at once, with a reset. Whatever is not in the table is a bug and raises KeyError.
"""

from __future__ import annotations

from typing import Final

from lbproxy.relay.table import Table

OPEN: Final = 0
ENDING: Final = 1
SHUT: Final = 2
BROKEN: Final = 3
RESET: Final = 4

EOF: Final = 0x10
EMPTY: Final = 0x20
WRITE_REFUSED: Final = 0x30
FAILED: Final = 0x40

TABLE: Final = Table(
    {
        OPEN | EOF: ENDING,
        OPEN | EMPTY: OPEN,
        OPEN | WRITE_REFUSED: BROKEN,
        OPEN | FAILED: RESET,
        ENDING | EMPTY: SHUT,
        ENDING | WRITE_REFUSED: BROKEN,
        ENDING | FAILED: RESET,
    }
)
"""state | event -> state of one direction. SHUT, BROKEN and RESET are final: nothing is read or written after."""

RUN: Final = 0
CLOSE: Final = 1
ABORT: Final = 2


def fate(one: int, other: int) -> int:
    """Say what becomes of the connection with its directions in these states: RUN, CLOSE (FIN) or ABORT (RST)."""
    if one == RESET or other == RESET:
        return ABORT
    if one == BROKEN:
        return RUN if other in (OPEN, ENDING) else ABORT
    if other == BROKEN:
        return RUN if one in (OPEN, ENDING) else ABORT
    return CLOSE if one == SHUT and other == SHUT else RUN
