"""Rules of what a terminal is taken for, and of what is drawn on it."""

from __future__ import annotations

import pytest

from lbproxy.status.screen import Picture, screen
from lbproxy.status.text import Screen


@pytest.fixture(autouse=True)
def _terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make stdout a terminal of 100 columns and 6 lines."""
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    for name, value in (("COLUMNS", "100"), ("LINES", "6"), ("TERM", "xterm")):
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("NO_COLOR", raising=False)


def test_a_terminal_has_colours_unless_they_are_unwanted(monkeypatch: pytest.MonkeyPatch) -> None:
    """NO_COLOR counts when it is not empty (no-color.org)."""
    assert screen() == Screen(100, True)
    monkeypatch.setenv("NO_COLOR", "")
    assert screen() == Screen(100, True)
    monkeypatch.setenv("NO_COLOR", "1")
    assert screen() == Screen(100, False)


def test_what_is_no_terminal_gets_whole_lines_without_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program reads it; but whoever sets COLUMNS wants that width."""
    monkeypatch.setattr("sys.stdout.isatty", lambda: False)
    assert screen() == Screen(100, False)
    monkeypatch.delenv("COLUMNS")
    assert screen() == Screen(0, False)


def test_a_live_picture_goes_back_over_the_lines_that_it_has_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    """What was longer before is cleared."""
    picture = Picture(live=True)
    picture.show(["a", "b"])
    assert capsys.readouterr().out == "a\x1b[K\nb\x1b[K\n\x1b[J"
    picture.show(["c"])
    assert capsys.readouterr().out == "\x1b[2Ac\x1b[K\n\x1b[J"


def test_a_live_picture_keeps_to_the_lines_that_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    """What scrolls away cannot be drawn over; that something is missing is said."""
    Picture(live=True).show([str(number) for number in range(9)])
    assert capsys.readouterr().out.replace("\x1b[K", "").split() == [
        "0",
        "1",
        "2",
        "3",
        "(5",
        "more",
        "lines)",
        "\x1b[J",
    ]


def test_elsewhere_pictures_follow_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    """With an empty line between."""
    picture = Picture(live=False)
    picture.show(["a"])
    picture.show(["b"])
    assert capsys.readouterr().out == "a\n\nb\n\n"
