"""One directive of a file that is imported, and the place where it stands."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from lbproxy.config.report import printable

_MOST = 60
"""Characters of a directive that are shown: it can be found by its line."""


@dataclass(frozen=True, slots=True, eq=False)
class Directive:
    """A name, what follows it, and for a block or a section what is in it; each is only equal to itself."""

    file: str
    line: int
    name: str
    args: tuple[str, ...] = ()
    block: tuple[Directive, ...] = ()
    expands: bool = False
    """Whether something outside of the file is to be put in (HAProxy's environment variables)."""

    @property
    def where(self) -> str:
        """`FILE:LINE`, fit to be printed."""
        return f"{printable(self.file)}:{self.line}"

    @property
    def words(self) -> str:
        """The name and the arguments."""
        return " ".join((self.name, *self.args))

    @property
    def arg(self) -> str:
        """The first argument, empty if there is none."""
        return self.args[0] if self.args else ""


def every(directives: Iterable[Directive]) -> Iterator[Directive]:
    """Yield each of them and all that they hold, in file order."""
    for each in directives:
        yield each
        yield from every(each.block)


def brief(text: str) -> str:
    """Return `text` on one line, cut, and with nothing in it that a terminal or YAML would act on."""
    shown = printable(text)
    return shown if len(shown) <= _MOST else f"{shown[: _MOST - 3]}..."
