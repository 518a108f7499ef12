"""How far a client has come on its way to a server, and what moves it on: the phases of a session, as a table.

A session looks for a server before it relays. A TLS client speaks first and then waits, so until the server's first
byte nothing has happened that another server could not do as well, and the search goes on. The phases:

    DIALLING         a server is being connected to, the first one or another; what the client says waits
    WAITING          connected; the server was told what the client has said, and has not sent a byte
    HEDGING          it has been silent for so long that another one is dialled. It is kept until that one has
                     connected: it may just be slow, and be the only one that works
    LINKED           the search is over, bytes flow both ways
    AT_REST          nothing moves: not begun yet, or frozen while it searched. What it has said is kept, the search
                     begins anew
    LINKED_AT_REST   likewise, with the link that will go on
    ENDED            the sockets are closed, and whoever wanted to know has been told

At rest nothing is done to the sockets: they may be another process's by now. Who is to cut a link then cuts it as soon
as it goes on. The events:

    START       go on after a rest, and begin
    CONNECTED   a server has taken the connection
    SILENT      first_byte_timeout has passed since the client's ClientHello
    LOST        the server has gone, or was found down, before its first byte
    NO_OTHER    beside a silent server, no other one is to be had
    LINK        the server has sent its first byte; or the client has said what may not be said twice; or
                first_byte_timeout is 0. At rest: a link has come from another process
    FREEZE      stop, for the connection may be handed over
    END         the client has left, nobody can be reached, a time is over, it is cut, or the link has ended

             START             CONNECTED              SILENT
    AT_REST ───────► DIALLING ───────────► WAITING ─────────────► HEDGING
                      │  ▲ ▲                │ │ ▲                 │ │ │
                      │  │ ╰───── LOST ─────╯ │ ╰─── CONNECTED ───╯ │ │
                      │  │                    │      NO_OTHER       │ │
                      │  ╰────────────────────┼──────── LOST ───────╯ │
                      │                       │                       │
                      ╰───────── LINK ────────┼───────── LINK ────────╯
                                              ▼  FREEZE
                                           LINKED ◄────► LINKED_AT_REST
                                                   START

FREEZE leads from each of the three phases of the search to AT_REST, END from each of the four that move to ENDED.
Whatever is not in the table is a bug and raises KeyError.
"""

from __future__ import annotations

from typing import Final

from lbproxy.relay.table import Table

AT_REST: Final = 0
DIALLING: Final = 1
WAITING: Final = 2
HEDGING: Final = 3
LINKED: Final = 4
LINKED_AT_REST: Final = 5
ENDED: Final = 6

START: Final = 0x10
CONNECTED: Final = 0x20
SILENT: Final = 0x30
LOST: Final = 0x40
NO_OTHER: Final = 0x50
LINK: Final = 0x60
FREEZE: Final = 0x70
END: Final = 0x80

TABLE: Final = Table(
    {
        AT_REST | START: DIALLING,
        AT_REST | LINK: LINKED_AT_REST,
        DIALLING | CONNECTED: WAITING,
        DIALLING | LINK: LINKED,
        DIALLING | FREEZE: AT_REST,
        DIALLING | END: ENDED,
        WAITING | SILENT: HEDGING,
        WAITING | LOST: DIALLING,
        WAITING | LINK: LINKED,
        WAITING | FREEZE: AT_REST,
        WAITING | END: ENDED,
        HEDGING | CONNECTED: WAITING,
        HEDGING | NO_OTHER: WAITING,
        HEDGING | LOST: DIALLING,
        HEDGING | LINK: LINKED,
        HEDGING | FREEZE: AT_REST,
        HEDGING | END: ENDED,
        LINKED | FREEZE: LINKED_AT_REST,
        LINKED | END: ENDED,
        LINKED_AT_REST | START: LINKED,
    }
)
"""phase | event -> phase."""
