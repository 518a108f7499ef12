"""What is counted of one configured server."""

from __future__ import annotations

from lbproxy.balance.counts import Counts


def test_failures_are_counted_by_reason() -> None:
    """As lbproxy_server_connect_failures_total has them."""
    counts = Counts()
    for reason in ("refused", "timeout", "refused"):
        counts.failed(reason)
    assert counts.failures == {"refused": 2, "timeout": 1}
