"""Long answers, made a little at a time: the loop that makes them moves bytes too."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Iterator
from time import perf_counter
from typing import Final, TypeVar

T = TypeVar("T")

_SLICE: Final = 0.0005
"""Seconds at a time, about as long as a turn of a busy loop takes."""
_LONG: Final = 50
"""Entries of what is not written in one go."""


async def in_slices(pieces: Iterable[T]) -> tuple[list[T], float]:
    """Return all `pieces`, and the seconds that making them took; everybody else has a turn after every few of them."""
    made: list[T] = []
    spent = 0.0
    began = perf_counter()
    for piece in pieces:
        made.append(piece)
        now = perf_counter()
        if now - began > _SLICE:
            spent += now - began
            await asyncio.sleep(0)
            began = perf_counter()
    return made, spent + perf_counter() - began


def json_pieces(value: object, between: str = ", ") -> Iterator[str]:
    """Yield `value`, of dicts and lists, as JSON in pieces that are soon made; `between` goes between two of them."""
    if not isinstance(value, (dict, list)) or _is_short(value):
        yield json.dumps(value)
        return
    before, after = "{}" if isinstance(value, dict) else "[]"
    for key, each in value.items() if isinstance(value, dict) else (("", each) for each in value):
        yield f"{before}{json.dumps(key)}: " if isinstance(value, dict) else before
        yield from json_pieces(each, between)
        before = between
    yield after


def _is_short(value: dict[str, object] | list[object]) -> bool:
    """Tell whether this is written in one go: one server of a status, one connection of a list."""
    inner = [each for each in _entries(value) if isinstance(each, (dict, list))]
    return len(value) < _LONG and not any(isinstance(each, (dict, list)) for own in inner for each in _entries(own))


def _entries(value: dict[str, object] | list[object]) -> Iterable[object]:
    return value.values() if isinstance(value, dict) else value
