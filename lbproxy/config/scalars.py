"""One value of the model to text and back, as its type hint says: numbers, durations, words, yes and no.

`read` and `write` are inverse; `expects` says in an error what would have been right.
"""

from __future__ import annotations

import re
import types
from functools import cache
from typing import Annotated, Literal, Union, get_args, get_origin, get_type_hints

from lbproxy.config.address import notation, read_address
from lbproxy.config.model import Address, Duration, Literally, Text, Whole
from lbproxy.config.report import quoted

NUMBER = r"(?:0|[1-9][0-9]{0,11})"
DURATION = rf"({NUMBER}(?:\.[0-9]{{1,9}})?)(ms|s|m|h|)"
"""No leading zeros: YAML 1.1 would take `010` for eight."""

FLAGS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}

_NUMBER = re.compile(NUMBER)
_DURATION = re.compile(DURATION)
_UNITS = {"h": 3600, "m": 60, "s": 1, "": 1}


@cache
def members(cls: type) -> dict[str, object]:
    """Return the keys of a dataclass of the model with their type hints, constraints included."""
    return get_type_hints(cls, include_extras=True)


def required(hint: object) -> object:
    """Return `hint` without `| None`."""
    if get_origin(hint) in (Union, types.UnionType):
        rest = [each for each in get_args(hint) if each is not type(None)]
        return rest[0] if len(rest) == 1 else Union[tuple(rest)]  # noqa: UP007 - made at run time
    return hint


def constraint(hint: object) -> object:
    """Return what a scalar may hold, as something to match on.

    One of the model's constraints, a tuple of the words allowed, a list of alternative hints, or, where the type
    says it all, a value of that type.
    """
    origin = get_origin(hint)
    if origin is Annotated:
        return get_args(hint)[1]
    if origin is Literal:
        return get_args(hint)
    if origin in (Union, types.UnionType):
        return list(get_args(hint))
    if hint is Address:
        return Address("", 0)
    return False if hint is bool else hint


def read(hint: object, text: str) -> object:
    """Return what `text` means where `hint` is expected; raises ValueError with what must be instead."""
    hint = required(hint)
    match constraint(hint):
        case Address() | Literally() as kind:
            return read_address(text, bound=isinstance(kind, Literally))
        case Whole(low, high) if _NUMBER.fullmatch(text) and low <= int(text) <= high:
            return int(text)
        case Duration(low, high, zero) if (found := _DURATION.fullmatch(text)) is not None:
            number, unit = found.groups()
            seconds = float(number) / 1000 if unit == "ms" else float(number) * _UNITS[unit]
            if low <= seconds <= high or (zero and seconds == 0):
                return seconds
        case Text(_, pattern) if re.fullmatch(pattern, text):
            return text
        case bool() if text.lower() in FLAGS:
            return FLAGS[text.lower()]
        case tuple() as words if text in words:
            return text
        case list() as options:
            for option in options:
                try:
                    return read(option, text)
                except ValueError:
                    pass
    raise ValueError(f"must be {expects(hint)}, got {quoted(text)}")


def write(value: object) -> str:
    """Return the text that `read` takes for `value`, which is a duration if it is a float; `none` for None."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return duration(value)
    return str(value)


def duration(seconds: float) -> str:
    """Return a duration as nginx writes it: in the largest unit that leaves a whole number (`10m`, `250ms`)."""
    for unit in ("h", "m", "s"):
        if seconds and seconds % _UNITS[unit] == 0:
            return f"{int(seconds // _UNITS[unit])}{unit}"
    thousandths = round(seconds * 1000)
    if thousandths / 1000 == seconds:
        return f"{thousandths}ms" if thousandths else "0"
    return f"{seconds}s"


def expects(hint: object) -> str:
    """Return what a value of `hint` must be, in words."""
    match constraint(required(hint)):
        case Address() | Literally() as kind:
            return notation(bound=isinstance(kind, Literally))
        case Whole(low, high):
            return f"a whole number from {low} to {high}"
        case Duration(low, high, zero):
            return f"{'0 or ' if zero else ''}a duration from {duration(low)} to {duration(high)}"
        case Text(what, _):
            return what
        case bool():
            return "true or false"
        case tuple() as words:
            return str(words[0]) if len(words) == 1 else f"one of {', '.join(words)}"
        case list() as options:
            return " or ".join(map(expects, options))
        case kind:
            raise TypeError(f"the model holds something that no text can stand for: {kind}")
