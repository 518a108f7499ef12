"""What real connections show of one server: whether it is trusted, and when one that is not may be tried again.

As nginx has it, `max_fails` failures within `fail_timeout` make a server suspect, and so it stays for fail_timeout at
least. Then one connection tries it while the others go on avoiding it, until that one has worked or has taken as long
again. Being suspect is a preference and never a reason to refuse.

               FAILED    CONDEMNED  LAPSED    WORKED    VOUCHED   TRIED
    TRUSTED    FAILING   SUSPECT    TRUSTED   TRUSTED   TRUSTED   TRUSTED
    FAILING    FAILING   SUSPECT    TRUSTED   TRUSTED   FAILING   FAILING
    SUSPECT    SUSPECT   SUSPECT    SUSPECT   TRUSTED   TRUSTED   ON_TRIAL
    ON_TRIAL   SUSPECT   SUSPECT    ON_TRIAL  TRUSTED   TRUSTED   ON_TRIAL

    FAILED     a connection failed
    CONDEMNED  one failed, and with it there are max_fails
    LAPSED     fail_timeout has gone by since the first failure (only looked at when there is another)
    WORKED     a connection did what the failed ones did not
    VOUCHED    a check says up, and the time is over: clients may not come for hours
    TRIED      the time is over, and a connection has gone there

What undoes a failure depends on how far it got. A server that could not be connected to has only to be connected to.
One that broke off connections it had accepted must answer a client: that it accepts another proves nothing, and
neither does a check, which it may have passed all the time; unless the checks have seen an outage too, and its end:
then that was it (`explained`). Where no client comes at all, as to a backup, a check will do after a while: one client
would have been sent there by then.
"""

from __future__ import annotations

from typing import Final, NamedTuple

TRUSTED: Final = 0
FAILING: Final = 1
SUSPECT: Final = 2
ON_TRIAL: Final = 3

FAILED: Final = 0
CONDEMNED: Final = 1
LAPSED: Final = 2
WORKED: Final = 3
VOUCHED: Final = 4
TRIED: Final = 5

TABLE: Final = (
    (FAILING, SUSPECT, TRUSTED, TRUSTED, TRUSTED, TRUSTED),
    (FAILING, SUSPECT, TRUSTED, TRUSTED, FAILING, FAILING),
    (SUSPECT, SUSPECT, SUSPECT, TRUSTED, TRUSTED, ON_TRIAL),
    (SUSPECT, SUSPECT, ON_TRIAL, TRUSTED, TRUSTED, ON_TRIAL),
)
"""The standing that follows, by the one before and by the event."""


_UNTRIED: Final = 60.0
"""Seconds since the last failure, six times the usual fail_timeout, after which a check's word is all there will be."""
_UNPROVED: Final = 1e12
"""Seconds, more than any clock shows."""


class TrafficResult(NamedTuple):
    """What one real connection showed: `failure` is why it failed, empty if it worked.

    `answered` tells how far it got: the server sent a byte (or, failing, it had accepted and should have sent one);
    otherwise only the connect is meant.
    """

    failure: str = ""
    answered: bool = False


class Told(NamedTuple):
    """A `Suspicion` on its way to another process."""

    standing: int
    reason: str
    failed_at: float
    proved: bool
    must_answer: bool
    failures: int
    first_at: float
    try_at: float


class Suspicion:
    """One server's standing with its clients. `fail_timeout` in seconds; with `max_fails` 0 it is always trusted."""

    __slots__ = (
        "_count",
        "_first_at",
        "_must_answer",
        "_try_at",
        "fail_timeout",
        "failed_at",
        "max_fails",
        "proved",
        "reason",
        "standing",
    )

    def __init__(self, max_fails: int, fail_timeout: float) -> None:
        self.max_fails = max_fails
        self.fail_timeout = fail_timeout
        self.standing = TRUSTED
        self.reason = ""
        """The failure that made it suspect, or the last one since."""
        self.failed_at = 0.0
        """When a connection last failed."""
        self.proved = False
        """Whether a client has ever had an answer from it."""
        self._must_answer = False
        """Whether it has broken off a connection since it was trusted."""
        self._count = 0
        """Failures since it was trusted."""
        self._first_at = 0.0
        self._try_at = 0.0

    def tell(self) -> Told:
        """Return all that has been found out, for another process."""
        return Told(
            self.standing, self.reason, self.failed_at, self.proved, self._must_answer, self._count, self._first_at,
            self._try_at,
        )  # fmt: skip

    def believe(self, told: Told) -> None:
        """Be as another process has told."""
        self.standing, self.reason, self.failed_at, self.proved = told[:4]
        self._must_answer, self._count, self._first_at, self._try_at = told[4:]

    @property
    def suspected(self) -> bool:
        """Whether clients are better sent elsewhere."""
        return self.standing >= SUSPECT

    def rank(self) -> float:
        """Return a number by which to order suspects, the best guess lowest: see `pool`."""
        return self.failed_at if self.proved else self.failed_at + _UNPROVED

    def observe(self, result: TrafficResult, now: float) -> None:
        """Take in what a connection has shown at `now` (seconds)."""
        if result.failure:
            if self.max_fails:
                self._failed(result, now)
        elif result.answered or not self._must_answer:
            self._turn(WORKED)

    def vouch(self, now: float) -> None:
        """Take in that a check says up."""
        if now >= self._try_at and (not self._must_answer or now - self.failed_at >= _UNTRIED):
            self._turn(VOUCHED)

    def explained(self) -> None:
        """Take in that checks have found it bad since, and well again: from now on they may vouch for it."""
        self._must_answer = False

    def may_be_tried(self, now: float) -> bool:
        """Whether it is suspect and has sat out its time, so that one connection may go there."""
        return self.suspected and now >= self._try_at

    def begin_trial(self, now: float) -> None:
        """Take in that this one has gone there."""
        self._turn(TRIED)
        self._try_at = now + self.fail_timeout

    def _failed(self, result: TrafficResult, now: float) -> None:
        if now - self._first_at > self.fail_timeout:
            self._turn(LAPSED)
        if self.standing == TRUSTED:
            self._first_at = now
        self._count += 1
        self.failed_at = now
        self._must_answer = self._must_answer or result.answered
        self._turn(CONDEMNED if self._count >= self.max_fails else FAILED)
        if self.suspected:
            self.reason = result.failure
            self._try_at = now + self.fail_timeout

    def _turn(self, event: int) -> None:
        self.standing = TABLE[self.standing][event]
        if self.standing == TRUSTED:
            self._count = 0
            self._must_answer = False
