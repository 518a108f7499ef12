"""What came of a scenario, in figures."""

from __future__ import annotations

from typing import NamedTuple

from bench.fleet.scenarios import Outcome


class Figures(NamedTuple):
    """Of one scenario and one kind of node.

    `worst` connects of clients in a second at the master that had most; `handshakes` the same with those of checks;
    `until` seconds from the event until 99 % of the clients have been served for good; `lost` seconds that a client was
    without a master, on average; `peak` and `end` how many times the mean the busiest of the masters that work has, at
    the worst and in the end; `after` the same 10 minutes after the event; `moved` connects of a client, on average;
    `checks` a second of each master in the end, and `most_checks` at the worst.
    """

    worst: int
    handshakes: int
    until: int
    lost: float
    peak: float
    after: float
    end: float
    moved: float
    checks: float
    most_checks: int


_LAST = 30
_ENOUGH = 0.99


def figures(outcome: Outcome) -> Figures:
    """Return the figures of an outcome."""
    short = [second for second, served in enumerate(outcome.served) if served < _ENOUGH * outcome.clients]
    pairs = zip(outcome.connects, outcome.handshakes, strict=True)
    return Figures(
        worst=max(map(max, outcome.connects)),
        handshakes=max(a + b for mine, checks in pairs for a, b in zip(mine, checks, strict=True)),
        until=short[-1] + 1 if short else 0,
        lost=round(sum(outcome.clients - served for served in outcome.served) / outcome.clients, 2),
        peak=round(max(outcome.imbalance), 2),
        after=round(outcome.imbalance[min(600, len(outcome.imbalance)) - 1], 2),
        end=round(outcome.imbalance[-1], 2),
        moved=round(sum(map(sum, outcome.connects)) / outcome.clients, 2),
        checks=round(sum(sum(each[-_LAST:]) for each in outcome.checks) / _LAST / len(outcome.checks), 1),
        most_checks=max(map(max, outcome.checks)),
    )


HEADS = ("", "connects/s", "with checks", "99 % served after", "client without a master", "busiest/mean: worst",
         "after 10 min", "at the end", "checks/s")  # fmt: skip


def table(found: dict[str, Figures]) -> list[str]:
    """Return a table of Markdown, a row for each kind of node."""
    lines = [f"| {' | '.join(HEADS)} |", "|---" * len(HEADS) + "|"]
    for rules, each in found.items():
        cells = (f"{each.worst:,}", f"{each.handshakes:,}", f"{each.until} s", f"{each.lost:g} s", f"{each.peak:.2f}",
                 f"{each.after:.2f}", f"{each.end:.2f}", f"{each.checks:,.0f}")  # fmt: skip
        lines.append(f"| {rules} | {' | '.join(cells)} |")
    return lines
