"""Log lines as a terminal, the journal and a collector of JSON want them."""

import json
import logging
import os
import re
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pytest

from lbproxy.config.model import Log
from lbproxy.process import log as logs


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """Put the process-wide logging back: every test here sets it up anew."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger(logs.ACCESS).setLevel(logging.NOTSET)
    logging.getLogger("watchfiles").setLevel(logging.NOTSET)


def lines(log: Log) -> tuple[logging.Logger, StringIO]:
    """Set logging up as `log` asks; return a logger of lbproxy's and what is written."""
    out = StringIO()
    logs.setup(log, out)
    return logging.getLogger("lbproxy.process.reload"), out


def test_a_text_line_has_time_level_module_and_message() -> None:
    """The time is local with milliseconds, the module is named without the package."""
    logger, out = lines(Log())
    logger.info("server %s added", "m3")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} INFO  reload: server m3 added\n", out.getvalue())


def test_a_text_line_carries_its_traceback_below() -> None:
    """A bug is logged with its traceback."""
    logger, out = lines(Log())
    try:
        raise RuntimeError("odd")
    except RuntimeError:
        logger.exception("failed")
    first, second, *_, last = out.getvalue().splitlines()
    assert first.endswith("ERROR reload: failed")
    assert (second, last) == ("Traceback (most recent call last):", "RuntimeError: odd")


def test_a_json_line_is_one_object_whatever_the_message_holds() -> None:
    """Line breaks, quotes and foreign letters stay inside one line; ts is UTC."""
    logger, out = lines(Log(format="json"))
    logger.warning('two\nlines, a " and an %s', "ü")
    assert out.getvalue().count("\n") == 1
    line = json.loads(out.getvalue())
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("ts"))
    assert line == {"level": "warning", "logger": "reload", "msg": 'two\nlines, a " and an ü'}


def test_a_json_line_holds_its_traceback() -> None:
    """The traceback is a field, not more lines."""
    logger, out = lines(Log(format="json"))
    try:
        raise RuntimeError("odd")
    except RuntimeError:
        logger.exception("failed")
    line = json.loads(out.getvalue())
    assert line["msg"] == "failed"
    assert line["exc"].endswith("RuntimeError: odd")


@pytest.mark.parametrize(
    ("level", "shown"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("warning", ["warning", "error"]),
        ("error", ["error"]),
    ],
)
def test_the_level_hides_what_is_below_it(level: str, shown: list[str]) -> None:
    """`log.level` names the least that is shown."""
    logger, out = lines(Log(level=level))  # type: ignore[arg-type]  # one of the four
    for name in ("debug", "info", "warning", "error"):
        getattr(logger, name)(name)
    assert [line.split()[-1] for line in out.getvalue().splitlines()] == shown


@pytest.mark.parametrize(("access", "level", "shown"), [(True, "error", 1), (False, "debug", 0)])
def test_the_access_log_follows_its_own_switch(access: bool, level: str, shown: int) -> None:
    """`log.access` decides alone, whatever the level is."""
    _, out = lines(Log(access=access, level=level))  # type: ignore[arg-type]  # one of the four
    logging.getLogger(logs.ACCESS).info("127.0.0.1:1 m1 5s")
    assert out.getvalue().count("\n") == shown


def test_a_second_setup_replaces_the_first() -> None:
    """After a reload a line appears once, in the new form."""
    _, old = lines(Log())
    logger, new = lines(Log(format="json"))
    logger.info("once")
    assert old.getvalue() == ""
    assert json.loads(new.getvalue())["msg"] == "once"


def test_in_the_journal_a_line_has_its_priority_and_no_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """systemd.exec(5): stderr is the journal when $JOURNAL_STREAM is its device and inode."""
    with (tmp_path / "journal").open("w+") as journal:
        stat = os.fstat(journal.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{stat.st_dev}:{stat.st_ino}")
        logs.setup(Log(level="debug"), journal)
        logger = logging.getLogger("lbproxy.process.app")
        logger.error("a\nb")
        logger.warning("c")
        logger.info("d")
        logger.debug("e")
        journal.seek(0)
        assert journal.read().splitlines() == ["<3>app: a", "<3>b", "<4>app: c", "<6>app: d", "<7>app: e"]


def test_json_in_the_journal_keeps_its_priority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The prefix is the journal's, which takes it off again."""
    with (tmp_path / "journal").open("w+") as journal:
        stat = os.fstat(journal.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{stat.st_dev}:{stat.st_ino}")
        logs.setup(Log(format="json"), journal)
        logging.getLogger("lbproxy.process.app").warning("c")
        journal.seek(0)
        line = journal.read()
    assert line.startswith("<4>{")
    assert json.loads(line[3:])["msg"] == "c"


def test_a_file_is_not_the_journal_because_the_parent_has_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """$JOURNAL_STREAM is inherited by children whose stderr was redirected."""
    monkeypatch.setenv("JOURNAL_STREAM", "1:1")
    with (tmp_path / "file").open("w+") as file:
        assert not logs.in_journal(file, os.environ)


def test_what_the_level_keeps_out_of_the_log_is_remembered_nevertheless() -> None:
    """`lbproxy events` tells the same whatever `log.level` is; single connections are in neither."""
    logger, out = lines(Log(level="error"))
    logger.info("this is remembered")
    logger.debug("this is not")
    assert out.getvalue() == ""
    assert logs.events()[-1]["msg"] == "this is remembered"
