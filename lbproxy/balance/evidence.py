"""What is evidence of what: who speaks, what was seen, and what that says of whom.

A client's connection (`weigh`, the table below):

    seen                                                      says of the server
    CONNECT_FAILED    refused, unreachable, timed out, or     cannot be connected to, until a connect works
                      overtaken by one that came later
    CONNECT_BROKEN    reset by who had accepted it            broke off
    SHORTAGE          no descriptor, memory or port of ours   nothing
    CLOSED_AT_ONCE    by the server, nothing was said yet     broke off; another one is asked
    CLOSED_PATIENTLY  the same after 3 s                      nothing: the client was not worth waiting for
    HELLO_CUT_SHORT   by the server, half a ClientHello said  nothing: it waited for the rest
    HELLO_REFUSED     by the server, a whole one said         broke off; another one is asked
    HELLO_UNANSWERED  for first_byte_timeout                  broke off; another one is asked
    HELLO_GIVEN_UP    the client left, and had waited         broke off: nobody waits as long as the timeout
    LEFT_SOON         the client left before that             nothing
    OTHER_REFUSED     by the server, bytes that are no TLS    broke off, where no check vouches for it: what a server
                                                              does with garbage is no news of one that is well
    VANISHED          the kernel says: nothing acknowledged   cannot be connected to
    CONNECTED         a connect worked                        can be connected to
    ANSWERED          the server's first byte                 answers

A check says up, sick, draining or down (`checks.answer` has what each answer means); `checked` counts them. It also
vouches, once fail_timeout is over: for a server that could not be connected to, and for one that broke off if checks
have found it bad since then and well again.

The kernel knows which data it has repeated in vain (`net.tcpinfo`). That a server acknowledges nothing for a while
makes one failed check enough, and hurries it; that it reads nothing and acknowledges each probe says that it is slow.

A name server says where servers are, and nothing of how they are. An answer that is empty, an error and silence leave
what is known; addresses that no answer has had for five minutes are drained.

The operator drains and makes ready. A server that says `[-]shutdown` drains by its own word, and ends its connections
itself. The combined state of a server is for display and for choice; what is done to its connections follows from what
the checks say, and only where there is a better place.
"""

from __future__ import annotations

from typing import Final

from lbproxy.balance.suspicion import TrafficResult

CONNECT_FAILED: Final = 0
CONNECT_BROKEN: Final = 1
SHORTAGE: Final = 2
CLOSED_AT_ONCE: Final = 3
CLOSED_PATIENTLY: Final = 4
HELLO_CUT_SHORT: Final = 5
HELLO_REFUSED: Final = 6
HELLO_UNANSWERED: Final = 7
HELLO_GIVEN_UP: Final = 8
LEFT_SOON: Final = 9
OTHER_REFUSED: Final = 10
VANISHED: Final = 11
CONNECTED: Final = 12
ANSWERED: Final = 13

NOTHING: Final = 0
NO_CONNECT: Final = 1
BROKE_OFF: Final = 2
BROKE_OFF_UNVOUCHED: Final = 3
CONNECTS: Final = 4
ANSWERS: Final = 5

TABLE: Final = (
    NO_CONNECT,
    BROKE_OFF,
    NOTHING,
    BROKE_OFF,
    NOTHING,
    NOTHING,
    BROKE_OFF,
    BROKE_OFF,
    BROKE_OFF,
    NOTHING,
    BROKE_OFF_UNVOUCHED,
    NO_CONNECT,
    CONNECTS,
    ANSWERS,
)
"""What it says of the server, by what was seen."""

ANOTHER: Final = (CLOSED_AT_ONCE, HELLO_REFUSED, HELLO_UNANSWERED)
"""What lets another server be asked: nothing has been said that may not be said again, and this one will not answer."""

KEPT_WAITING: Final = (HELLO_UNANSWERED, HELLO_GIVEN_UP)
"""What says that the server is late, and no more: it has neither refused nor broken off anything."""


def weigh(seen: int, why: str, vouched: bool) -> TrafficResult | None:
    """Return what a connection has shown, None if nothing.

    `why` is the failure in words; `vouched` says that checks are made and the last ones said up.
    """
    says = TABLE[seen]
    if says == NOTHING or (says == BROKE_OFF_UNVOUCHED and vouched):
        return None
    if says in (CONNECTS, ANSWERS):
        return TrafficResult(answered=says == ANSWERS)
    return TrafficResult(why, answered=says != NO_CONNECT)
