"""Complaints are made once."""

from __future__ import annotations

from lbproxy.warnonce import WarnOnce


def test_a_complaint_is_news_once_and_again_when_it_changes() -> None:
    """A log that says the same every second hides what else it says."""
    warning = WarnOnce()
    assert [warning.news(what) for what in ("a", "a", "b", "b", "a")] == [True, False, True, False, True]


def test_a_complaint_that_was_over_is_news_again() -> None:
    """And that it is over is news if it was said."""
    warning = WarnOnce()
    assert not warning.over()
    assert warning.news("a")
    assert [warning.over(), warning.over()] == [True, False]
    assert warning.news("a")
