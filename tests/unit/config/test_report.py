"""Problems, their places and their lines."""

from __future__ import annotations

import pytest

from lbproxy.config.report import MOST, EnoughError, Report, item, quoted, under


def test_places_are_dotted_and_numbered() -> None:
    """As the contract shows them."""
    assert under(item(under(under("", "proxies"), "a"), 1), "weight") == "proxies.a[1].weight"


def test_a_key_that_would_garble_a_message_is_quoted_and_cut() -> None:
    """Control characters and novels come from a broken file."""
    assert under("proxies", "a\nb") == r"proxies.'a\nb'"
    assert quoted("x" * 100) == repr("x" * 77 + "...")


def test_a_problem_is_on_the_line_of_the_nearest_thing_known() -> None:
    """A key that is missing is reported where it should have been."""
    report = Report("f")
    report.seen("proxies.a", 2)
    report.seen("proxies.a.servers[1]", 7)
    lines = [report.line(f"proxies.{x}") for x in ("a.servers[1].name", "a.servers[0]", "a", "b.listen")]
    assert lines == [7, 2, 2, 0]


def test_problems_come_out_in_file_order() -> None:
    """Whatever the order they were found in; what concerns the whole file is first."""
    report = Report("f")
    assert report.clean
    report.add("b", "second", 9)
    report.add("a", "first", 3)
    report.add("", "is odd")
    assert str(report.error()) == "f: is odd\nf:3: a: first\nf:9: b: second"
    assert not report.clean
    assert report.faulty("a")
    assert not report.faulty("c")


def test_nobody_reads_more_than_so_many_problems() -> None:
    """Nor should anybody wait until all are found: a megabyte of something else has a hundred thousand."""
    report = Report("f")
    for line in range(MOST):
        report.add("a", "wrong", line + 1)
    with pytest.raises(EnoughError):
        report.add("a", "wrong", MOST + 1)
    error = report.error()
    assert len(error.problems) == MOST + 1
    assert str(error).endswith(f"f:{MOST}: a: wrong\nf: has more problems, which were not looked for")


def test_what_would_garble_a_terminal_is_escaped() -> None:
    """A YAML tag may have a newline or ESC in it, and a log line is one line."""
    report = Report("f")
    report.add("a", "a YAML tag (!x\n2026 INFO all is well\x1b[2J\u2028) is not allowed", 1)
    assert str(report.error()) == r"f:1: a: a YAML tag (!x\n2026 INFO all is well\x1b[2J\u2028) is not allowed"
