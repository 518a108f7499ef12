"""Rules of what is remembered of the log."""

from __future__ import annotations

import logging

from lbproxy.process.events import MOST, Events


def say(events: Events, level: int, text: str, name: str = "lbproxy.proxy.proxy") -> None:
    """Have a logger say `text`, if `events` wants to hear it."""
    record = logging.LogRecord(name, level, "", 0, "%s", (text,), None)
    if level >= events.level:
        events.handle(record)


def test_info_and_above_is_remembered_and_debug_is_not() -> None:
    """Single connections are not news."""
    events = Events()
    for level in (logging.DEBUG, logging.INFO, logging.ERROR):
        say(events, level, logging.getLevelName(level))
    assert [(each["level"], each["msg"]) for each in events.all()] == [("info", "INFO"), ("error", "ERROR")]


def test_an_event_says_when_how_bad_who_and_what() -> None:
    """In the words of a JSON line of the log."""
    events = Events()
    say(events, logging.WARNING, "m2 is down")
    (event,) = events.all()
    assert event["ts"].endswith("Z")
    assert (event["level"], event["logger"], event["msg"]) == ("warning", "proxy", "m2 is down")


def test_the_access_log_is_left_out() -> None:
    """A line for each connection would soon be all that is remembered."""
    events = Events(without={"lbproxy.access"})
    say(events, logging.INFO, "one connection", "lbproxy.access")
    assert events.all() == []


def test_the_oldest_make_room() -> None:
    """Memory is bounded whatever happens."""
    events = Events()
    for number in range(MOST + 5):
        say(events, logging.INFO, str(number))
    assert [each["msg"] for each in (events.all()[0], events.all()[-1])] == ["5", str(MOST + 4)]
