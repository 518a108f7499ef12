"""How a flow moves its bytes: by copy or by splice, and what it holds while the destination takes no more.

    COPY         read into the buffer that all flows share and write at once; nothing is held
    REST         as COPY, but what the destination did not take is held in memory and goes first
    SPLICE       through a pipe, which is borrowed for the turn; nothing is held
    PIPED        as SPLICE, but what the destination did not take is still in the pipe and goes first
    COPY_ONLY    as COPY, for good: these two cannot be spliced
    REST_ONLY    as REST, and then COPY_ONLY

Copy is cheaper for a message and splice for bulk, of which a read that fills the buffer is the sign. What happens:

    FULL         a read filled the buffer
    PART         bytes are in memory that the destination has not taken
    BLOCKED      bytes are in the pipe that the destination does not take now
    EMPTIED      nothing is held any more: it is written, or lost, or somebody else writes it
    LITTLE       a turn by splice moved little, or cannot go on: no pipe is left, or the end or urgent data has come
    NOT_FROM     the source refuses to be spliced
    NOT_TO       the destination does; what is in the pipe by then is taken out of it into memory

Between two turns a flow holds a pipe or a rest only while its destination is blocked: an idle one holds nothing. What
is not in the table is a bug and raises KeyError. Errors are not in it: they end a direction, see `duplex`.
"""

from __future__ import annotations

from typing import Final

from lbproxy.relay.table import Table

COPY: Final = 0
SPLICE: Final = 1
COPY_ONLY: Final = 2
HOLDING: Final = 3
"""From here on something is held."""
REST: Final = 3
PIPED: Final = 4
REST_ONLY: Final = 5

FULL: Final = 0x10
PART: Final = 0x20
BLOCKED: Final = 0x30
EMPTIED: Final = 0x40
LITTLE: Final = 0x50
NOT_FROM: Final = 0x60
NOT_TO: Final = 0x70

TABLE: Final = Table(
    {
        COPY | FULL: SPLICE,
        COPY | PART: REST,
        REST | EMPTIED: COPY,
        SPLICE | PART: REST,
        SPLICE | EMPTIED: SPLICE,
        SPLICE | BLOCKED: PIPED,
        SPLICE | LITTLE: COPY,
        SPLICE | NOT_FROM: COPY_ONLY,
        SPLICE | NOT_TO: REST_ONLY,
        PIPED | EMPTIED: SPLICE,
        PIPED | BLOCKED: PIPED,
        PIPED | LITTLE: COPY,
        PIPED | NOT_FROM: COPY_ONLY,
        PIPED | NOT_TO: REST_ONLY,
        COPY_ONLY | FULL: COPY_ONLY,
        COPY_ONLY | PART: REST_ONLY,
        REST_ONLY | EMPTIED: COPY_ONLY,
    }
)
"""mode | event -> mode."""
