"""Rules of what is remembered of the log."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import pytest

from lbproxy.process.events import MOST, ROOM, Events


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


def test_what_is_no_event_in_the_file_is_passed_over() -> None:
    """Whatever another version, or a process that was killed, has left there."""
    fd = os.memfd_create("events")
    good = b'{"ts": "t", "level": "info", "logger": "app", "msg": "serving"}\n'
    os.write(fd, b"[" * 100_000 + b"\n{\n[1]\n" + good + good[:9])
    events = Events()
    events.keep_in(fd)
    assert [each["msg"] for each in events.all()] == ["serving"]
    events.leave()
    os.close(fd)


def test_the_oldest_make_room() -> None:
    """Memory is bounded whatever happens."""
    events = Events()
    for number in range(MOST + 5):
        say(events, logging.INFO, str(number))
    assert [each["msg"] for each in (events.all()[0], events.all()[-1])] == ["5", str(MOST + 4)]


@pytest.fixture
def file() -> Iterator[int]:
    """Make a file without a name."""
    fd = os.memfd_create("events")
    yield fd
    os.close(fd)


def told(events: Events) -> list[str]:
    """Return what was said."""
    return [each["msg"] for each in events.all()]


def test_the_next_process_goes_on_with_what_the_one_before_it_knew(file: int) -> None:
    """Killed or not, each event is in the file as soon as it has happened; its own first lines come after those."""
    first, second, third = Events(), Events(), Events()
    say(first, logging.INFO, "before it was kept")
    first.keep_in(file)
    say(first, logging.WARNING, "m2 is down \N{EURO SIGN}\n")
    say(second, logging.INFO, "starts")
    second.keep_in(file)
    assert told(second) == ["before it was kept", "m2 is down \N{EURO SIGN}\n", "starts"]
    assert second.all()[:2] == first.all()
    say(second, logging.INFO, "serves")
    third.keep_in(file)
    assert told(third) == told(second)


def test_who_has_left_the_file_writes_there_no_more(file: int) -> None:
    """The old process of an upgrade has a last word, and the file is the new one's."""
    old, new, next_one = Events(), Events(), Events()
    old.keep_in(file)
    say(old, logging.INFO, "works")
    new.keep_in(file)
    old.leave()
    say(old, logging.INFO, "stopped")
    next_one.keep_in(file)
    assert (told(old), told(next_one)) == (["works", "stopped"], ["works"])


def test_the_file_is_bounded_and_holds_the_newest(file: int) -> None:
    """By its bytes, however long the lines are; of one that is too long the beginning is kept."""
    events, next_one = Events(), Events()
    events.keep_in(file)
    for number in range(MOST):
        say(events, logging.INFO, f"{number} {'x' * 1000}")
        assert os.fstat(file).st_size <= ROOM
    say(events, logging.INFO, "x" * ROOM)
    say(events, logging.INFO, "the last")
    assert os.fstat(file).st_size <= ROOM
    next_one.keep_in(file)
    assert told(next_one)[-2:] == ["x" * 4096, "the last"]
    assert len(told(next_one)) > 50
    assert len(told(events)) == MOST


def test_as_many_are_kept_as_are_remembered(file: int) -> None:
    """The file has room for more short ones."""
    events, next_one = Events(), Events()
    events.keep_in(file)
    for number in range(MOST + 5):
        say(events, logging.INFO, str(number))
    next_one.keep_in(file)
    assert told(next_one) == told(events)


def test_what_was_not_written_whole_is_passed_over(file: int) -> None:
    """A process may be killed anywhere."""
    events = Events()
    line = b'{"ts": "t", "level": "info", "logger": "x", "msg": "whole"}\n'
    os.write(file, b'x"}\n[1]\n{"ts": "t"}\n' + line + b"\xff\n" + line[:30])
    events.keep_in(file)
    assert told(events) == ["whole"]


def test_a_file_that_takes_no_more_stops_nobody(file: int) -> None:
    """It is remembered all the same."""
    events = Events()
    events.keep_in(file)
    events.file = os.open("/dev/full", os.O_WRONLY)
    say(events, logging.INFO, "said")
    os.close(events.file)
    assert told(events) == ["said"]
