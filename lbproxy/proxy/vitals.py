"""Whether the servers of one proxy still acknowledge what they are sent: two looks at what the kernel knows.

Each linked connection is looked at by itself now and then (`Session.due`), and cut when its server has acknowledged
nothing for tcp_user_timeout that it should have. The kernel's own TCP_USER_TIMEOUT would do that too, but it also cuts
a peer that reads nothing and acknowledges each probe of its closed window (`kubectl exec -i` into a program that does
not read).

A few of them are looked at twice a second, in turn: data that was repeated in vain is the first sign of a master that
has vanished, seconds before any check is due. It hurries the check of that server, and one that fails is then enough
(`balance.checked`). So watches that have something to say do not stand still for ten seconds; with all well no server
is asked more often than before.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final

from lbproxy.net.contract import Socket
from lbproxy.net.poller import Poller
from lbproxy.net.tcpinfo import unanswered
from lbproxy.net.timers import NEVER, Timer
from lbproxy.proxy.backend import Backend
from lbproxy.proxy.phases import LINKED
from lbproxy.proxy.session import Session

_LOOK: Final = 0.5
"""Seconds between two looks at some of the connections."""
_SOME: Final = 32
"""Connections in a look: a tenth of a millisecond of work."""
_SILENT: Final = 0.5
"""Seconds without an acknowledgement, of data that was repeated twice: 0.6 s to 0.9 s after it was sent first."""


class Vitals(Timer):
    """Looks at some of the connections of one proxy. `serving` says whether it goes on without any."""

    __slots__ = ("_backend", "_left", "_poller", "_serving", "_sessions")

    def __init__(
        self, poller: Poller, backend: Backend, sessions: Collection[Session], serving: Callable[[], bool]
    ) -> None:
        super().__init__()
        self._poller = poller
        self._backend = backend
        self._sessions = sessions
        self._serving = serving
        self._left: list[Session] = []
        """Those whose turn is still to come before all begin again."""

    def due(self, now: float) -> float:
        """Look at those whose turn it is; returns when to be called again."""
        if not len(self._sessions):
            return now + _LOOK if self._serving() else NEVER
        if not self._left:
            self._left = list(self._sessions)
        some, self._left = self._left[:_SOME], self._left[_SOME:]
        for session in some:
            link = session.link
            server = session.server
            if session.phase == LINKED and link is not None and server is not None and silent(link.server, _SILENT):
                self._backend.silent(server, now)
        return now + _LOOK


def silent(sock: Socket, seconds: float) -> bool:
    """Whether the peer has acknowledged nothing for so long that it should have."""
    try:
        return unanswered(sock) >= seconds
    except OSError:
        return False  # gone meanwhile
