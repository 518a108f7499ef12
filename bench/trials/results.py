"""What a trial has measured, and the rules it is held to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from bench.trials.clients import Held, Try
from bench.trials.stage import Scene

Fact = float | int | str | None


@dataclass
class Result:
    """`tries` are the new connections that count for errors and times; `facts` what else was seen, by name."""

    tries: list[Try] = field(default_factory=list)
    facts: dict[str, Fact] = field(default_factory=dict)

    @property
    def errors(self) -> int:
        """How many new connections failed."""
        return sum(bool(each.error) for each in self.tries)

    def kinds(self) -> str:
        """Return the failures by kind, as a text."""
        counts = Counter(each.error for each in self.tries if each.error)
        return ", ".join(f"{count} {kind}" for kind, count in counts.most_common())

    def quantile(self, share: float) -> float:
        """Return e.g. the 0.99 quantile of the milliseconds from connect to answer, of those that were answered."""
        times = sorted(each.seconds for each in self.tries if not each.error)
        return 1000 * times[min(len(times) - 1, int(share * len(times)))] if times else float("nan")

    def late(self) -> float:
        """Return the milliseconds that the machine was too busy to begin a connection in time, at worst."""
        return 1000 * max((each.late for each in self.tries), default=0.0)

    def number(self, fact: str) -> float:
        """Return a fact that is a number; one that did not come to pass is endless."""
        value = self.facts[fact]
        return float("inf") if value is None else float(value)

    def plain(self) -> dict[str, Any]:
        """Return it for JSON."""
        times = {name: round(self.quantile(share), 2) for name, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))}
        return {"connections": len(self.tries), "errors": self.errors, "kinds": self.kinds(),
                "milliseconds": times if self.tries else {}, "begun_late_milliseconds": round(self.late(), 1),
                "facts": self.facts}  # fmt: skip


@dataclass(frozen=True)
class Rule:
    """Something that lbproxy must show; with `speed`, only where nothing else takes the machine's time."""

    text: str
    met: Callable[[Result], bool]
    speed: bool = False


@dataclass(frozen=True)
class Trial:
    """`run` makes a result in a scene with lbproxy's `settings`."""

    name: str
    title: str
    run: Callable[[Scene], Result]
    rules: tuple[Rule, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)
    plain: bool = False


def quantile_of(tries: Iterable[Try], share: float) -> Fact:
    """Return a quantile in milliseconds of some tries, None if there are none."""
    part = Result(list(tries))
    return round(part.quantile(share), 1) if any(not each.error for each in part.tries) else None


def cuts(held: Iterable[Held], since: float) -> list[float]:
    """Return after how many seconds each connection that was cut was cut, in order."""
    return sorted(each.ended - since for each in held if each.ended is not None)


def spread(counts: Iterable[str]) -> str:
    """Return how many went to each master, as `m1 4, m2 4, m3 4`."""
    return ", ".join(f"{name} {count}" for name, count in sorted(Counter(counts).items()))
