"""A file that is imported, as text."""

from __future__ import annotations

import re
from typing import Final, NoReturn

from lbproxy.config.load import regular_file
from lbproxy.config.report import printable
from lbproxy.errors import ConfigError, Problem

_CONTROL: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


def read_text(file: str) -> str:
    """Return what is in `file`, which may be a pipe that the caller has given; raises ConfigError and OSError."""
    data = regular_file(file, piped=True)
    try:
        text = data.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        refuse(file, line, f"is not UTF-8 text (byte 0x{data[error.start]:02x})")
    if odd := _CONTROL.search(text):
        line = text.count("\n", 0, odd.start()) + 1
        refuse(file, line, f"character U+{ord(odd[0]):04X} is not allowed in a text file")
    return text


def refuse(file: str, line: int, why: str) -> NoReturn:
    """Say why a file cannot be imported at all; `line` is 0 where the whole of it is meant."""
    raise ConfigError([problem(file, line, "", why)])


def problem(file: str, line: int, what: str, why: str) -> Problem:
    """Return something to be told, fit to be printed."""
    return Problem(printable(file), line, printable(what), printable(why))
