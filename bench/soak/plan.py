"""What happens in a cycle, from a seed: the same in each cycle, so that one third of a soak is like another."""

from __future__ import annotations

import random
from typing import Final, NamedTuple

SERVERS: Final = ("s1", "s2", "s3", "s4")
TARGETS: Final = ("staying", "replaced")
FAULTS: Final = ("kill", "hang", "reset", "refuse", "slow", "sick")
"""Of a server: the process is killed, or stopped; resets everybody; does not listen; answers late; says 500."""
_FAULTS_AT: Final = (0.02, 0.11, 0.20, 0.29, 0.38, 0.47)
_LASTS: Final = 0.06
_OPERATOR: Final = (
    (0.05, "reload"), (0.10, "drain"), (0.19, "ready"), (0.26, "remove"), (0.36, "add"), (0.46, "reload"),
)  # fmt: skip
_REPLACEMENTS: Final = (
    (0.14, "upgrade"), (0.41, "restart 1"),
    (0.56, "upgrade"), (0.60, "restart 2"), (0.64, "upgrade"), (0.68, "kill"), (0.72, "kill worker"),
    (0.76, "restart 1"), (0.80, "kill"),
)  # fmt: skip
"""`restart N`: with so many workers. Two while a server is ill; the last fifth of the cycle is for rest."""


class Act(NamedTuple):
    """At `at`, a share of the cycle, `what` is done to `whom`: a server, all targets, or the one that is replaced."""

    at: float
    what: str
    whom: str


def cycle(seed: int) -> list[Act]:
    """Return the acts of one cycle in their order; the seed says which server has which fault, and which when."""
    luck = random.Random(seed)
    faults = list(FAULTS)
    luck.shuffle(faults)
    acts = [Act(at, what, "replaced") for at, what in _REPLACEMENTS]
    drained, removed = luck.sample(SERVERS, 2)
    for at, what in _OPERATOR:
        suffix = {"drain": f" {drained}", "ready": f" {drained}", "remove": f" {removed}", "add": f" {removed}"}
        acts.append(Act(at, what + suffix.get(what, ""), "all"))
    for at, what in zip(_FAULTS_AT, faults, strict=True):
        whom = luck.choice([name for name in SERVERS if name not in (drained, removed)])
        acts += [Act(at, what, whom), Act(at + _LASTS, "well", whom)]
    return sorted(acts)


def cycles(minutes: float) -> int:
    """Return how many cycles a soak of so many minutes has: a multiple of three, each of some five minutes; or one."""
    return max(1, round(minutes / 15)) * 3 if minutes >= 2 else 1
