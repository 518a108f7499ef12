"""Trials of new connections while one master, m2, fails in one way or another."""

from __future__ import annotations

import time
from collections.abc import Callable

from bench.trials.results import Fact, Result, quantile_of
from bench.trials.stage import Scene

BAD = "m2"
STAY = 2.0
"""Seconds that clients stay: under least connections, a server that loses its clients has the fewest."""
SEEN = 8.0
"""Seconds by which the check must have seen a silent master: interval, timeout, and again, hurried."""


def calm(scene: Scene) -> Result:
    """Nothing fails: what the numbers of the others are to be compared with."""
    return Result(scene.clients.arrive(scene.rate, 6, STAY).result())


def port_closed(scene: Scene) -> Result:
    """Close the port of one."""
    scene.masters[BAD].set(listening=False)
    return Result(scene.clients.arrive(scene.rate, 6, STAY).result())


def dropped(scene: Scene) -> Result:
    """Have the switch forward nothing to one."""
    return _before_and_after(scene, lambda: scene.net.kill(BAD, "unbridge"))


def stopped(scene: Scene) -> Result:
    """Stop the process of one: its kernel accepts, nobody answers."""
    return _before_and_after(scene, lambda: scene.net.kill(BAD, "freeze"))


def _before_and_after(scene: Scene, fail: Callable[[], None]) -> Result:
    fail()
    failed_at = time.monotonic()
    tries = scene.clients.arrive(scene.rate, SEEN + 4, STAY).result()
    first = Result(tries[: int(scene.rate * 6)])
    after = [each for each in tries if each.start > failed_at + SEEN]
    facts: dict[str, Fact] = {
        "errors in all": Result(tries).errors,
        "p99 ms once seen": quantile_of(after, 0.99),
        "longest ms": quantile_of(tries, 1.0),
    }
    return Result(first.tries, facts)


def reset_after_hello(scene: Scene) -> Result:
    """One resets every client that has said hello; its checks are fine."""
    scene.masters[BAD].set(reset=True)
    return Result(scene.clients.arrive(scene.rate, 4, STAY).result())


def unauthorized(scene: Scene) -> Result:
    """/readyz of one asks for a login: it is alive and keeps what it has, and new ones go to those that say ready."""
    held = scene.clients.hold(12)
    for path in ("readyz", "healthz"):
        scene.masters[BAD].set(**{path: [401, "Unauthorized"]})
    tries = scene.clients.arrive(scene.rate / 2, 12, STAY).result()
    late = [each for each in tries if each.start > tries[0].start + 9]
    return Result(tries, {
        "new after 9 s": len(late),
        "of these at it": sum(each.server == BAD for each in late),
        "cut": sum(each.ended is not None for each in held),
    })  # fmt: skip
