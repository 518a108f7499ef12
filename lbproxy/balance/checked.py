"""What active checks say of one server: a state that changes only when several of them in a row agree.

Before the first answer it is up: a proxy that has just started must not refuse on what it does not know. A check that
says the state in force ends whatever was being counted; any other counts, and how is for the table to say.

                  a check says
    in force      up        sick      draining  down
    up            AGREES    WORSENS   WORSENS   WORSENS
    sick          RISES     AGREES    DIFFERS   DIFFERS
    draining      RISES     DIFFERS   AGREES    DIFFERS
    down          RISES     DIFFERS   DIFFERS   AGREES

    AGREES        nothing changes, the count begins anew
    WORSENS       `fall` bad ones in a row are enough, whichever they are, and the mildest of them counts: a server that
                  fails in turns is not well, and nobody has seen it worse than that `fall` times
    DIFFERS       `fall` in a row that say the same
    RISES         `rise` in a row that say up, times the patience

Patience is for a server that comes and goes: each fall to down within FLAP_WINDOW of the last one doubles it, up to
FLAP_LIMIT, so that its connections are cut once and not over and over. A fall after that makes it 1 again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from lbproxy.balance.state import SEVERITY, State

FLAP_WINDOW: Final = 300.0
"""Seconds between two falls that make the second one flapping."""
FLAP_LIMIT: Final = 8

AGREES: Final = 0
WORSENS: Final = 1
DIFFERS: Final = 2
RISES: Final = 3

_UP: Final = State.UP
_SICK: Final = State.SICK
_DRAINING: Final = State.DRAINING
_DOWN: Final = State.DOWN

TABLE: Final[dict[State, dict[State, int]]] = {
    _UP: {_UP: AGREES, _SICK: WORSENS, _DRAINING: WORSENS, _DOWN: WORSENS},
    _SICK: {_UP: RISES, _SICK: AGREES, _DRAINING: DIFFERS, _DOWN: DIFFERS},
    _DRAINING: {_UP: RISES, _SICK: DIFFERS, _DRAINING: AGREES, _DOWN: DIFFERS},
    _DOWN: {_UP: RISES, _SICK: DIFFERS, _DRAINING: DIFFERS, _DOWN: AGREES},
}
"""How a check counts, by the state in force and by the state that the check says."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One active check: `reason` for a person, `kind` the short label of lbproxy_server_checks_total{result}."""

    state: State
    reason: str
    kind: str


class Checked:
    """The state that the checks of one server have settled on. `rise` and `fall` are the configured counts."""

    __slots__ = (
        "_candidate",
        "_count",
        "_fell_at",
        "_patience",
        "answered",
        "fall",
        "reason",
        "rise",
        "since",
        "state",
    )

    def __init__(self, rise: int, fall: int, now: float) -> None:
        self.rise = rise
        self.fall = fall
        self.state = _UP
        self.reason = "not checked yet"
        self.since = now
        """When the state last changed."""
        self.answered = False
        """Whether there has been a check at all."""
        self._candidate = CheckResult(_UP, "", "")
        """Whose state and reason will be in force when enough agree; of no meaning while the count is 0."""
        self._count = 0
        self._patience = 1
        self._fell_at = now - FLAP_WINDOW

    @property
    def unsettled(self) -> bool:
        """Whether checks disagree with the state in force, or none has answered: the next is worth having soon."""
        return self._count > 0 or not self.answered

    def observe(self, result: CheckResult, now: float) -> bool:
        """Take in one check, answered at `now` (seconds); returns whether the state in force has changed."""
        how = TABLE[self.state][result.state]
        if not self.answered and how == AGREES:
            self.reason = result.reason
        self.answered = True
        if how == AGREES:
            self._count = 0
            return False
        if how != WORSENS and result.state is not self._candidate.state:
            self._count = 0
        if not self._count or SEVERITY[result.state] <= SEVERITY[self._candidate.state]:
            self._candidate = result
        self._count += 1
        if self._count < (self.rise * self._patience if how == RISES else self.fall):
            return False
        self._settle(self._candidate, now)
        return True

    def forget(self, now: float) -> None:
        """Go back to the beginning, for there are no more checks."""
        if self.state is not _UP:
            self.since = now
        self.state = _UP
        self.reason = "not checked any more"
        self.answered = False
        self._count = 0

    def _settle(self, result: CheckResult, now: float) -> None:
        self.state = result.state
        self.reason = result.reason
        self.since = now
        self._count = 0
        if result.state is _DOWN:
            flapping = now - self._fell_at < FLAP_WINDOW
            self._patience = min(self._patience * 2, FLAP_LIMIT) if flapping else 1
            self._fell_at = now
