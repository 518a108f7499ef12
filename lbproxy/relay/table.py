"""A machine's table: which state follows by which event. What is not in it is a bug."""

from __future__ import annotations

from typing import Final

_NOWHERE: Final = -1
_KEYS: Final = 0x100
"""A state in the lower four bits, an event in the upper four."""


class Table:
    """`table[state | event]` is the next state; raises KeyError for what `rows` does not have.

    By place, in a list: a dict would be asked a dozen times in the life of a connection, at 110 instructions each.
    """

    __slots__ = ("_next", "rows")

    def __init__(self, rows: dict[int, int]) -> None:
        self.rows: Final = rows
        self._next = [rows.get(key, _NOWHERE) for key in range(_KEYS)]

    def __getitem__(self, key: int) -> int:
        state = self._next[key]
        if state == _NOWHERE:
            raise KeyError(key)
        return state
