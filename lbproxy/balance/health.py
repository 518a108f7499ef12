"""What is believed of one server, from checks and from real traffic, through one door: `observe`.

Two witnesses, kept apart, because each can be wrong in its own way: a check passes on a server that resets every real
connection, and traffic says nothing of a server that nobody uses.

*Checks* (`CheckResult`). The state in force changes only after `fall` results in a row that agree on a worse or another
bad state, or `rise` in a row that say up; an outcome that agrees with the verdict in force resets the count. To end
an up it is enough that all of them are bad: the mildest counts, since a server that fails in turns is not well. Before
the first verdict a server counts as up: a proxy that has just started must not refuse on what it does not know. Every
fall to down within FLAP_WINDOW of the last one doubles the `rise` that is asked, up to FLAP_LIMIT times, so that a
server that comes and goes has its connections cut once and not over and over.

*Traffic* (`TrafficResult`). As nginx has it: `max_fails` failures within `fail_timeout` make a server suspect for
`fail_timeout`; then one connection tries it, and the others go on avoiding it until that one has worked. Being
suspect is a preference and never a reason to refuse. A server that broke off connections it had accepted must answer
to be trusted again; that it accepts another proves nothing. Of one that could not be connected to, a check that says
up once fail_timeout is over proves as much as a connection: clients may not come for hours.

The state is the worse of the two. Only a change of state is a `Transition`, to be logged and acted on; one from down to
down says that the checks have now found out what traffic had shown before them.
"""

from __future__ import annotations

from dataclasses import dataclass

from lbproxy.balance.state import SEVERITY, State

FLAP_WINDOW = 300.0
"""Seconds between two falls that make the second one flapping."""
FLAP_LIMIT = 8


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One active check: `reason` for a person, `kind` the short label of lbproxy_server_checks_total{result}."""

    verdict: State
    reason: str
    kind: str


@dataclass(frozen=True, slots=True)
class TrafficResult:
    """What one real connection showed: `failure` is why it failed, empty if it worked.

    `answered` tells how far it got: the server sent a byte (or, failing, it had accepted and should have sent one);
    otherwise only the connect is meant.
    """

    failure: str = ""
    answered: bool = False


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

    __slots__ = (
        "_agreeing",
        "_broke_off",
        "_candidate",
        "_checked",
        "_checked_reason",
        "_confirmed",
        "_fails",
        "_fails_since",
        "_fell_at",
        "_first",
        "_patience",
        "_retry_at",
        "_suspect",
        "checked_since",
        "reason",
        "rules",
        "severity",
        "since",
        "state",
    )

    def __init__(self, rules: Rules, now: float) -> None:
        self.rules = rules
        self.state = State.UP
        self.severity = 0
        """SEVERITY of the state, kept beside it because choosing looks at it for every server and every connection."""
        self.reason = "no failure seen yet"
        self.since = now
        self._first = True
        self._checked = State.UP
        self.checked_since = now
        """When what the checks say last changed."""
        self._checked_reason = ""
        self._confirmed = True
        self._candidate = State.UP
        self._agreeing = 0
        self._patience = 1
        self._fell_at = -FLAP_WINDOW
        self._fails = 0
        self._fails_since = now
        self._suspect = ""
        self._broke_off = False
        self._retry_at = 0.0

    @property
    def checked(self) -> State:
        """What the checks alone say."""
        return self._checked

    @property
    def doubted(self) -> bool:
        """Whether traffic has failed lately: only then is a success worth observing."""
        return self._fails > 0

    @property
    def unsettled(self) -> bool:
        """Whether outcomes disagree with the verdict in force: then the next check is worth having soon."""
        return self._agreeing > 0 or self._first

    def observe(self, evidence: CheckResult | TrafficResult, now: float) -> Transition | None:
        """Take in one outcome or sign, seen at `now` (seconds); returns the change of state if it makes one."""
        if isinstance(evidence, CheckResult):
            self._check(evidence, now)
        elif evidence.failure:
            self._failed(evidence, now)
        else:
            self._worked(evidence)
        return self._settle(now, isinstance(evidence, CheckResult))

    def on_trial(self, now: float) -> bool:
        """Whether a suspect server has sat out its time, so that one connection may try it."""
        return bool(self._suspect) and self._checked is State.UP and now >= self._retry_at

    def begin_trial(self, now: float) -> None:
        """One connection tries it; the others keep away for another fail_timeout or until it has worked."""
        self._retry_at = now + self.rules.fail_timeout

    def forget_checks(self, now: float) -> Transition | None:
        """Drop the checks' verdict, for when there are no more checks."""
        self._checked = State.UP
        self._checked_reason = "not checked any more"
        self._agreeing = 0
        self._first = True
        return self._settle(now, checked=True)

    def _check(self, outcome: CheckResult, now: float) -> None:
        verdict = outcome.verdict
        if verdict is State.UP and self._suspect and not self._broke_off and now >= self._retry_at:
            self._worked(TrafficResult())
            self._checked_reason = outcome.reason if self._checked is State.UP else self._checked_reason
        if self._first:
            self._first = False
            self.reason = outcome.reason if self.state is State.UP and verdict is State.UP else self.reason
        if verdict is self._checked:
            self._candidate = verdict
            self._agreeing = 0
            return
        if self._checked is State.UP and self._candidate is not State.UP:
            if SEVERITY[verdict] < SEVERITY[self._candidate]:
                self._candidate = verdict
        elif verdict is not self._candidate:
            self._candidate = verdict
            self._agreeing = 0
        verdict = self._candidate
        self._agreeing += 1
        needed = self.rules.rise * self._patience if verdict is State.UP else self.rules.fall
        if self._agreeing < needed:
            return
        self._agreeing = 0
        self._checked = verdict
        self.checked_since = now
        self._checked_reason = outcome.reason
        if verdict is State.DOWN:
            flapping = now - self._fell_at < FLAP_WINDOW
            self._patience = min(self._patience * 2, FLAP_LIMIT) if flapping else 1
            self._fell_at = now

    def _failed(self, sign: TrafficResult, now: float) -> None:
        if not self.rules.max_fails:
            return
        if now - self._fails_since > self.rules.fail_timeout and not self._suspect:
            self._fails = 0
        if not self._fails:
            self._fails_since = now
        self._fails += 1
        self._broke_off = self._broke_off or sign.answered
        if self._fails >= self.rules.max_fails:
            self._suspect = sign.failure
            self._retry_at = now + self.rules.fail_timeout

    def _worked(self, sign: TrafficResult) -> None:
        if self._broke_off and not sign.answered:
            return
        self._fails = 0
        self._suspect = ""
        self._broke_off = False

    def _settle(self, now: float, checked: bool) -> Transition | None:
        state = self._checked
        reason = self._checked_reason
        if self._suspect and SEVERITY[state] < SEVERITY[State.DOWN]:
            state, reason = State.DOWN, self._suspect
        confirmed = state is self._checked
        found_out = confirmed and not self._confirmed
        self._confirmed = confirmed
        if state is self.state and not found_out:
            return None
        if state is State.UP and not checked:
            reason = "a connection to it worked"
        flip = Transition(self.state, state, reason, checked)
        if state is not self.state:
            self.since = now
        self.state, self.severity, self.reason = state, SEVERITY[state], reason
        return flip
