"""Rows of words and numbers as lines of text, fitted to the width of a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Sequence
from typing import Final

LEFT: Final = {"SERVER", "STATE", "REASON", "PROXY", "CLIENT", "PROCESS"}
"""Columns of words; the others hold numbers and are aligned to the right."""

Paint = Callable[[str, str], str]
"""Takes the head of a column and a padded cell of it, returns the cell as it is shown."""

_INDENT: Final = "    "


def as_it_is(_head: str, cell: str) -> str:
    """Return `cell`."""
    return cell


def table(
    rows: list[list[str]], width: int = 0, below: str = "", spare: Sequence[str] = (), paint: Paint = as_it_is
) -> list[str]:
    """Return `rows` as aligned lines; the first row names the columns.

    Where that is wider than `width` (0 is no limit), the columns `spare` are left out, one after another, and if that
    is not enough the column `below` goes under each row.
    """
    rows = [[printable(cell) for cell in row] for row in rows]
    for shown in _ever_fewer(rows, spare):
        if _fits(shown, width):
            return _lines(shown, paint)
    rows, under = _without(rows, below)
    fitting = [shown for shown in _ever_fewer(rows, spare) if _fits(shown, width)]
    heads, *lines = _lines(fitting[0], paint) if fitting else _wrapped(rows, width)
    found = [heads]
    for line, text in zip(lines, under[1:], strict=True):
        found.append(line)
        found += textwrap.wrap(text, width, initial_indent=_INDENT, subsequent_indent=_INDENT)
    return found


def _ever_fewer(rows: list[list[str]], spare: Sequence[str]) -> Iterator[list[list[str]]]:
    """Yield the rows, then without the first column of `spare`, then without its first two, and so on."""
    yield rows
    for head in spare:
        rows, _ = _without(rows, head)
        yield rows


def paragraph(text: str, width: int = 0) -> list[str]:
    """Return `text` in lines of at most `width` (0 is no limit); all but the first are indented."""
    text = printable(text)
    return textwrap.wrap(text, width, subsequent_indent="  ") if 0 < width < len(text) else [text]


def printable(line: str) -> str:
    """Blank out control characters: a reason may quote what a server sent, and a terminal obeys escapes."""
    return "".join(c if c.isprintable() else "?" for c in line)


def duration(seconds: float) -> str:
    """Return a duration with its two leading units: `0.3s`, `42s`, `4m 10s`, `3h 12m`, `5d 2h`."""
    if seconds < 10:
        return f"{seconds:.1f}s"
    whole = int(seconds)
    for unit, size, next_unit, next_size in (("d", 86400, "h", 3600), ("h", 3600, "m", 60), ("m", 60, "s", 1)):
        if whole >= size:
            return f"{whole // size}{unit} {whole % size // next_size}{next_unit}"
    return f"{whole}s"


def size(count: int) -> str:
    """Return a byte count with a binary unit: `999 B`, `1.5 KiB`, `20.0 GiB`."""
    if count < 1024:
        return f"{count} B"
    number, units = count / 1024, iter(("KiB", "MiB", "GiB", "TiB", "PiB"))
    unit = next(units)
    # 1023.95 and above would print as 1024.0 of the smaller unit
    while number >= 1023.95 and (larger := next(units, None)):
        number, unit = number / 1024, larger
    return f"{number:.1f} {unit}"


def _widths(rows: list[list[str]]) -> list[int]:
    return [max(map(len, column)) for column in zip(*rows, strict=True)]


def _fits(rows: list[list[str]], width: int) -> bool:
    return not width or sum(_widths(rows)) + 2 * (len(rows[0]) - 1) <= width


def _without(rows: list[list[str]], head: str) -> tuple[list[list[str]], list[str]]:
    """Return the rows without the column `head`, and the cells of that column; empty ones if there is none."""
    if head not in rows[0]:
        return rows, [""] * len(rows)
    place = rows[0].index(head)
    return [row[:place] + row[place + 1 :] for row in rows], [row[place] for row in rows]


def _lines(rows: list[list[str]], paint: Paint) -> list[str]:
    widths = _widths(rows)
    heads = rows[0]
    justify = [str.ljust if head in LEFT else str.rjust for head in heads]

    def line(row: Sequence[str]) -> str:
        cells = [j(cell, w) for j, cell, w in zip(justify, row, widths, strict=True)]
        cells[-1] = cells[-1].rstrip()
        return "  ".join(map(paint, heads, cells)) if row is not heads else "  ".join(cells)

    return [line(row) for row in rows]


def _wrapped(rows: list[list[str]], width: int) -> list[str]:
    """Return the rows out of line: where there is no room for columns nothing may be hidden either."""
    return ["\n".join(textwrap.wrap("  ".join(row), width, subsequent_indent=_INDENT)) for row in rows]
