"""What an errno says of a connection: one table for connects, accepts, checks and what is relayed.

    refused      nobody listens there
    reset        who had accepted broke off
    closed       who had accepted takes no more
    timeout      no answer: to a connect, to keepalive, or to data within TCP_USER_TIMEOUT
    unreachable  the network knows no way there
    shortage     of ours: no descriptor, memory, local port or place in an epoll set left. It says nothing of the other
                 end, and is soon over
    error        anything else

These are labels of metrics too; a shortage is never counted there, for nobody but us is to blame.
"""

from __future__ import annotations

import errno
from typing import Final

REFUSED: Final = "refused"
RESET: Final = "reset"
CLOSED: Final = "closed"
TIMEOUT: Final = "timeout"
UNREACHABLE: Final = "unreachable"
SHORTAGE: Final = "shortage"
ERROR: Final = "error"

TABLE: Final = {
    errno.ECONNREFUSED: REFUSED,
    errno.ECONNRESET: RESET,
    errno.EPIPE: CLOSED,
    errno.ETIMEDOUT: TIMEOUT,
    errno.EHOSTUNREACH: UNREACHABLE,
    errno.ENETUNREACH: UNREACHABLE,
    errno.EHOSTDOWN: UNREACHABLE,
    errno.EMFILE: SHORTAGE,
    errno.ENFILE: SHORTAGE,
    errno.ENOBUFS: SHORTAGE,
    errno.ENOMEM: SHORTAGE,
    errno.EADDRNOTAVAIL: SHORTAGE,
    errno.EAGAIN: SHORTAGE,
    errno.ENOSPC: SHORTAGE,
}
"""EAGAIN as connect(2) and clone(2) mean it: no local port, no thread to be had; ENOSPC as epoll_ctl(2) does."""


def reason(number: int | None) -> str:
    """Return what the errno `number` says, in a word of the table above."""
    return TABLE.get(number or 0, ERROR)


def ours(number: int) -> bool:
    """Whether the errno says nothing of the other end, which may well be there and wait."""
    return reason(number) in (SHORTAGE, ERROR)


def silent(number: int) -> bool:
    """Whether the errno says that the other end is not there any more, rather than that it broke off."""
    return reason(number) in (TIMEOUT, UNREACHABLE)
