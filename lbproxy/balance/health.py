"""What is believed of one server: the worse of what checks say and of what clients have met.

Two witnesses, each a machine of its own (`checked`, `suspicion`), because each can be wrong in its own way: a check
passes on a server that resets every real connection, and traffic says nothing of a server that nobody uses. A suspect
server is shown, and chosen last, like one that is down.

The combined state is for display and for choice alone. What is done to open connections follows from the checks' own
word, also where the combined state hides it: one that clients have found down before is sick all the same when the
checks say so. A `Transition` tells of both.
"""

from __future__ import annotations

from typing import NamedTuple

from lbproxy.balance.checked import Checked, CheckResult
from lbproxy.balance.state import SEVERITY, State
from lbproxy.balance.suspicion import TRUSTED, Suspicion, TrafficResult
from lbproxy.balance.suspicion import Told as Suspected


class Rules(NamedTuple):
    """The configured counts and times (seconds)."""

    rise: int = 2
    fall: int = 2
    interval: float = 0.0
    """Between two checks; 0 where there are none."""
    max_fails: int = 1
    fail_timeout: float = 10.0


class Transition(NamedTuple):
    """A change of the combined state, or of what the checks say behind it, and why.

    `said` is what the checks now say, None if it is not they who have changed their mind.
    """

    old: State
    new: State
    reason: str
    said: State | None


class Told(NamedTuple):
    """A `Health` on its way to another process, as far as choosing and the fate of connections follow from it."""

    state: State
    reason: str
    since: float
    said: State
    said_reason: str
    said_since: float
    recovered_at: float
    sure: bool
    suspected: Suspected


class Health:
    """The two witnesses of one server and the state that follows."""

    __slots__ = ("_rules", "checked", "reason", "severity", "since", "state", "suspicion")

    def __init__(self, rules: Rules, now: float) -> None:
        self._rules = rules
        self.checked = Checked(rules.rise, rules.fall, rules.interval, now)
        self.suspicion = Suspicion(rules.max_fails, rules.fail_timeout)
        self.state = self.checked.state
        self.severity = SEVERITY[self.state]
        """SEVERITY of the state, kept beside it because choosing looks at it for every server and every connection."""
        self.reason = self.checked.reason
        self.since = now

    @property
    def rules(self) -> Rules:
        """What was asked."""
        return self._rules

    @rules.setter
    def rules(self, rules: Rules) -> None:
        self._rules = rules
        self.checked.rise, self.checked.fall, self.checked.interval = rules.rise, rules.fall, rules.interval
        self.suspicion.max_fails, self.suspicion.fail_timeout = rules.max_fails, rules.fail_timeout

    @property
    def doubted(self) -> bool:
        """Whether traffic has failed lately: only then is a success worth observing."""
        return self.suspicion.standing != TRUSTED

    def observe(self, seen: CheckResult | TrafficResult, now: float, all_late: bool = False) -> Transition | None:
        """Take in what a check or a connection has shown at `now` (seconds); returns the transition if it makes one.

        `all_late` says of a check that no other server has answered meanwhile.
        """
        if isinstance(seen, TrafficResult):
            self.suspicion.observe(seen, now)
            return self._settle("a connection to it worked", now)
        changed = self.checked.observe(seen, now, all_late)
        if seen.state is State.UP:
            if changed and self.checked.recovered_at == now:
                self.suspicion.explained()
            self.suspicion.vouch(now)
        return self._settle(seen.reason, now, by_checks=changed)

    def tell(self) -> Told:
        """Return what another process is to believe."""
        checked = self.checked
        return Told(
            self.state, self.reason, self.since, checked.state, checked.reason, checked.since, checked.recovered_at,
            checked.sure, self.suspicion.tell(),
        )  # fmt: skip

    def believe(self, told: Told) -> Transition | None:
        """Be as another process has told, which has all the witnesses; returns the transition if it makes one."""
        old, checked = self.state, self.checked
        said = told.said if told.said is not checked.state or told.said_since != checked.since else None
        checked.state, checked.reason, checked.since = told.said, told.said_reason, told.said_since
        checked.recovered_at, checked.sure = told.recovered_at, told.sure
        self.suspicion.believe(told.suspected)
        self.state, self.severity, self.reason, self.since = told.state, SEVERITY[told.state], told.reason, told.since
        if told.state is old and said is None:
            return None
        return Transition(old, told.state, told.reason, said)

    def may_be_tried(self, now: float) -> bool:
        """Whether nothing but a suspicion that has lasted its time speaks against it: one connection may try it."""
        return self.checked.state in (State.UP, State.UNCHECKED) and self.suspicion.may_be_tried(now)

    def forget_checks(self, now: float) -> Transition | None:
        """Drop what the checks have said: there are no more of them, or they begin anew."""
        old = self.checked.state
        self.checked.forget(now)
        return self._settle(self.checked.reason, now, by_checks=self.checked.state is not old)

    def _settle(self, recovery: str, now: float, by_checks: bool = False) -> Transition | None:
        """Combine the two. `recovery` is why the server is up, if it now is; `by_checks`: theirs has changed."""
        old, state, reason = self.state, self.checked.state, self.checked.reason
        if self.suspicion.suspected and state is not State.DOWN:
            state, reason = State.DOWN, self.suspicion.reason
        elif state is State.UP and state is not old:
            reason = recovery
        self.reason = reason
        if state is old and not by_checks:
            return None
        if state is not old:
            self.since = now
        self.state, self.severity = state, SEVERITY[state]
        return Transition(old, state, reason, self.checked.state if by_checks else None)
