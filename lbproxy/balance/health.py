"""What is believed of one server: the worse of what checks say and of what clients have met.

Two witnesses, each a machine of its own (`checked`, `suspicion`), because each can be wrong in its own way: a check
passes on a server that resets every real connection, and traffic says nothing of a server that nobody uses. A suspect
server is shown, and chosen last, like one that is down; only the checks' word cuts connections.

A change of the combined state is a `Transition`, to be logged and acted on. So is the checks' word that a server is
down which clients had found down before: the state is the same, and now it is the checks that say it.
"""

from __future__ import annotations

from dataclasses import dataclass

from lbproxy.balance.checked import Checked, CheckResult
from lbproxy.balance.state import SEVERITY, State
from lbproxy.balance.suspicion import TRUSTED, Suspicion, TrafficResult


@dataclass(frozen=True, slots=True)
class Rules:
    """The configured counts and times (seconds)."""

    rise: int = 2
    fall: int = 2
    max_fails: int = 1
    fail_timeout: float = 10.0


@dataclass(frozen=True, slots=True)
class Transition:
    """A change of state and why. `checked` says whether the checks brought it about."""

    old: State
    new: State
    reason: str
    checked: bool


class Health:
    """The two witnesses of one server and the state that follows."""

    __slots__ = ("_rules", "checked", "reason", "severity", "since", "state", "suspicion")

    def __init__(self, rules: Rules, now: float) -> None:
        self._rules = rules
        self.checked = Checked(rules.rise, rules.fall, now)
        self.suspicion = Suspicion(rules.max_fails, rules.fail_timeout)
        self.state = State.UP
        self.severity = 0
        """SEVERITY of the state, kept beside it because choosing looks at it for every server and every connection."""
        self.reason = "no failure seen yet"
        self.since = now

    @property
    def rules(self) -> Rules:
        """What was asked."""
        return self._rules

    @rules.setter
    def rules(self, rules: Rules) -> None:
        self._rules = rules
        self.checked.rise, self.checked.fall = rules.rise, rules.fall
        self.suspicion.max_fails, self.suspicion.fail_timeout = rules.max_fails, rules.fail_timeout

    @property
    def doubted(self) -> bool:
        """Whether traffic has failed lately: only then is a success worth observing."""
        return self.suspicion.standing != TRUSTED

    def observe(self, seen: CheckResult | TrafficResult, now: float) -> Transition | None:
        """Take in what a check or a connection has shown at `now` (seconds); returns the transition if it makes one."""
        if isinstance(seen, CheckResult):
            return self._check(seen, now)
        self.suspicion.observe(seen, now)
        return self._settle("a connection to it worked", now)

    def may_be_tried(self, now: float) -> bool:
        """Whether nothing but a suspicion that has lasted its time speaks against it: one connection may try it."""
        return self.checked.state is State.UP and self.suspicion.may_be_tried(now)

    def forget_checks(self, now: float) -> Transition | None:
        """Drop what the checks have said, for there are no more of them."""
        self.checked.forget(now)
        return self._settle(self.checked.reason, now, by_checks=True)

    def _check(self, result: CheckResult, now: float) -> Transition | None:
        first = not self.checked.answered
        if result.state is State.UP:
            self.suspicion.vouch(now)
        changed = self.checked.observe(result, now)
        transition = self._settle(result.reason, now, by_checks=True, found_out=changed)
        if first and transition is None and result.state is State.UP and self.state is State.UP:
            self.reason = result.reason  # which says more than that nothing was seen
        return transition

    def _settle(self, recovery: str, now: float, by_checks: bool = False, found_out: bool = False) -> Transition | None:
        """Combine the two. `recovery` is why the server is up, if it now is; `found_out`: the checks say so anew."""
        old, state, reason = self.state, self.checked.state, self.checked.reason
        if self.suspicion.suspected and state is not State.DOWN:
            state, reason, found_out = State.DOWN, self.suspicion.reason, False
        elif state is State.UP:
            reason = recovery
        if state is old and not found_out:
            return None
        if state is not old:
            self.since = now
        self.state, self.severity, self.reason = state, SEVERITY[state], reason
        return Transition(old, state, reason, by_checks)
