"""Health of one server (the table is written by its owner; the values below are what probes answer)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Verdict(Enum):
    """What one active check says of a server."""

    UP = "up"
    DRAINING = "draining"
    SICK = "sick"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class Outcome:
    """One active check: `reason` for a person, `kind` the short label of lbproxy_server_checks_total{result}."""

    verdict: Verdict
    reason: str
    kind: str
