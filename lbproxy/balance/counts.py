"""What is counted of one configured server since the process began, whichever of its addresses it was at."""

from __future__ import annotations

from lbproxy.balance.histogram import CONNECT, FIRST_BYTE, Seconds
from lbproxy.balance.shared import Counted


class Counts(Counted):
    """Plain counters that the data plane increments."""

    __slots__ = (
        "bytes_in",
        "bytes_out",
        "check_took",
        "checked_at",
        "checks",
        "connect_seconds",
        "connections_total",
        "cuts",
        "failures",
        "first_byte_seconds",
        "replays",
        "resolve_failures",
        "resolved_at",
        "transitions",
    )

    def __init__(self) -> None:
        super().__init__()
        self.connections_total = 0
        self.bytes_in = 0
        """Of connections that have ended; the live ones know their own."""
        self.bytes_out = 0
        self.failures: dict[str, int] = {}
        """Failed attempts to connect, by reason."""
        self.checks: dict[str, int] = {}
        """By result."""
        self.checked_at = -1.0
        """When the last check ended, below 0 if there was none."""
        self.check_took = 0.0
        self.cuts: dict[str, int] = {}
        """By reason."""
        self.resolve_failures = 0
        """Look-ups of its name that found nothing."""
        self.resolved_at = -1.0
        """When its name was last found, below 0 if it was not yet."""
        self.replays = 0
        self.transitions = 0
        self.connect_seconds = Seconds(CONNECT)
        self.first_byte_seconds = Seconds(FIRST_BYTE)

    def failed(self, reason: str) -> None:
        """Count a failed attempt to connect."""
        self.failures[reason] = self.failures.get(reason, 0) + 1

    def checked(self, kind: str, now: float, took: float) -> None:
        """Count a check with its result, and how long it took."""
        self.checks[kind] = self.checks.get(kind, 0) + 1
        self.checked_at = now
        self.check_took = took
