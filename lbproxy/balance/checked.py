"""What active checks say of one server: a state that changes only when several of them in a row agree.

Before the first answer it is unchecked, and up where there are no checks: a proxy that has just started must not refuse
on what it does not know. A check that says the state in force ends whatever was being counted; any other counts, and
how is for the table to say.

                  a check says
    in force      up        sick      draining  down
    unchecked     FIRST     WORSENS   WORSENS   WORSENS
    up            AGREES    WORSENS   WORSENS   WORSENS
    sick          RISES     AGREES    DIFFERS   DIFFERS
    draining      RISES     DIFFERS   AGREES    DIFFERS
    down          RISES     DIFFERS   DIFFERS   AGREES

    AGREES        nothing changes, the count begins anew
    FIRST         one is enough
    WORSENS       `fall` bad ones in a row are enough, whichever they are, and the mildest of them counts: a server that
                  fails in turns is not well, and nobody has seen it worse than that `fall` times
    DIFFERS       `fall` in a row that say the same
    RISES         `rise` in a row that say up, times the patience, and over a time of that many intervals at least: a
                  master that is back says ready before it is (etcd finds its leader, caches fill), and checks that come
                  a second apart would all fall into that time

Late is not gone where all are: who has not answered in time while nobody else did either (`all_late`) is sick at worst.
A queue before the masters is no reason to take connections off one of them.

One check is enough that says down while the kernel, too, has heard nothing from there (`silent`): they are two
witnesses who know nothing of each other.

Patience is for a server that comes and goes: each fall to down within FLAP_WINDOW of the last one doubles it, up to
FLAP_LIMIT, so that its connections are cut once and not over and over. A fall after that makes it 1 again.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from lbproxy.balance.state import SEVERITY, State

FLAP_WINDOW: Final = 300.0
"""Seconds between two falls that make the second one flapping."""
FLAP_LIMIT: Final = 8

_MEANWHILE: Final = 1.0
"""Seconds: who has answered so shortly before is not asked again to know that he does."""
_ALL_ASKED: Final = 2.2
"""Intervals within which each server is asked, also where it is idle (`checks.schedule`)."""
LATE: Final = "timeout"
"""The kind of a check whose answer has not come in time."""

SILENT_FOR: Final = 10.0
"""Seconds for which what the kernel has heard, or rather not heard, is news."""

NEVER: Final = float("inf")

AGREES: Final = 0
WORSENS: Final = 1
DIFFERS: Final = 2
RISES: Final = 3
FIRST: Final = 4

_UP: Final = State.UP
_UNCHECKED: Final = State.UNCHECKED
_SICK: Final = State.SICK
_DRAINING: Final = State.DRAINING
_DOWN: Final = State.DOWN

TABLE: Final[dict[State, dict[State, int]]] = {
    _UNCHECKED: {_UP: FIRST, _SICK: WORSENS, _DRAINING: WORSENS, _DOWN: WORSENS},
    _UP: {_UP: AGREES, _SICK: WORSENS, _DRAINING: WORSENS, _DOWN: WORSENS},
    _SICK: {_UP: RISES, _SICK: AGREES, _DRAINING: DIFFERS, _DOWN: DIFFERS},
    _DRAINING: {_UP: RISES, _SICK: DIFFERS, _DRAINING: AGREES, _DOWN: DIFFERS},
    _DOWN: {_UP: RISES, _SICK: DIFFERS, _DRAINING: DIFFERS, _DOWN: AGREES},
}
"""How a check counts, by the state in force and by the state that the check says."""


class CheckResult(NamedTuple):
    """One active check: `reason` for a person, `kind` the short label of lbproxy_server_checks_total{result}.

    `sure` is False for a server that is alive and did not say whether it is ready (it wants a login first).
    """

    state: State
    reason: str
    kind: str
    sure: bool = True


class Checked:
    """The state that the checks of one server have settled on.

    `rise` and `fall` are the configured counts, `interval` the seconds between two checks when all is well; 0 for a
    server that is not checked.
    """

    __slots__ = (
        "_began",
        "_candidate",
        "_count",
        "_fell_at",
        "_patience",
        "_silent_at",
        "fall",
        "interval",
        "reason",
        "recovered_at",
        "rise",
        "since",
        "state",
        "sure",
    )

    def __init__(self, rise: int, fall: int, interval: float, now: float) -> None:
        self.rise = rise
        self.fall = fall
        self.interval = interval
        self.state = _UNCHECKED if interval else _UP
        self.reason = "no check has answered yet" if interval else "no failure seen yet"
        self.since = now
        """When the state last changed."""
        self.recovered_at = -NEVER
        """When it last came up after having been something else that was known."""
        self.sure = True
        """Whether the last check that said up said that it is ready, too."""
        self._candidate = CheckResult(_UP, "", "")
        """Whose state and reason will be in force when enough agree; of no meaning while the count is 0."""
        self._count = 0
        self._began = now
        """When the first of those counted answered."""
        self._patience = 1
        self._fell_at = now - FLAP_WINDOW
        self._silent_at = now - SILENT_FOR

    @property
    def vouches(self) -> bool:
        """Whether checks are made, and the last ones said up."""
        return self.interval > 0 and self.state is _UP

    @property
    def unsettled(self) -> bool:
        """Whether the next check is worth having soon: none has answered yet, or the last ones say that it is worse.

        Not when they say that it is better: those are to be spread over time.
        """
        return self.state is _UNCHECKED or (self._count > 0 and self._candidate.state is not _UP)

    def compared_since(self, now: float) -> float:
        """Return since when another server must have answered for a late answer at `now` to be this one's fault.

        The first that is late has the others asked, too, and the last one of those that count looks at what came of
        that. Where nothing is counted, it is the time in which they have been asked anyway.
        """
        if self._count:
            return self._began - _MEANWHILE
        return now - (_MEANWHILE if self.state in (_UP, _UNCHECKED) and self.fall > 1 else _ALL_ASKED * self.interval)

    @property
    def rising(self) -> bool:
        """Whether it is not up, and the last check said that it is."""
        return self._count > 0 and self._candidate.state is _UP

    def silent(self, now: float) -> None:
        """Take in that the kernel has had no acknowledgement from there for a while, on connections that should."""
        self._silent_at = now

    def observe(self, result: CheckResult, now: float, all_late: bool = False) -> bool:
        """Take in one check, answered at `now` (seconds); returns whether the state in force has changed.

        `all_late` says that its answer was late and that no other server has answered meanwhile.
        """
        gone = now - self._silent_at < SILENT_FOR
        if all_late and self.state is _SICK and not gone:
            result = _mild(result)
        how = TABLE[self.state][result.state]
        if result.state is _UP:
            self.sure = result.sure
        if how == AGREES:
            self._count = 0
            self.reason = result.reason
            return False
        if how != WORSENS and result.state is not self._candidate.state:
            self._count = 0
        if not self._count:
            self._began = now
        if not self._count or SEVERITY[result.state] <= SEVERITY[self._candidate.state]:
            self._candidate = result
        self._count += 1
        if how in (WORSENS, DIFFERS) and result.state is _DOWN and gone:
            self._settle(result, now)
        elif self._enough(how, now):
            milder = all_late and self._candidate.state is _DOWN and self._candidate.kind == LATE
            self._settle(_mild(self._candidate) if milder else self._candidate, now)
        else:
            return False
        return True

    def forget(self, now: float) -> None:
        """Go back to the beginning: there are no more checks, or, with an `interval`, none yet."""
        state = _UNCHECKED if self.interval else _UP
        if self.state is not state:
            self.since = now
        self.state = state
        self.reason = "no check has answered yet" if self.interval else "not checked any more"
        self.sure = True
        self._count = 0

    def _enough(self, how: int, now: float) -> bool:
        if how == RISES:
            return self._count >= self.rise * self._patience and now - self._began >= self.rise * self.interval
        return how == FIRST or self._count >= self.fall

    def _settle(self, result: CheckResult, now: float) -> None:
        if result.state is _UP and self.state is not _UNCHECKED:
            self.recovered_at = now
        self.state = result.state
        self.reason = result.reason
        self.since = now
        self._count = 0
        if result.state is _DOWN:
            flapping = now - self._fell_at < FLAP_WINDOW
            self._patience = min(self._patience * 2, FLAP_LIMIT) if flapping else 1
            self._fell_at = now


def _mild(late: CheckResult) -> CheckResult:
    return late._replace(state=_SICK, reason=f"{late.reason}, nor from another server")
