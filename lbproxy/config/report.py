"""What is wrong with one file as it is being read, and on which line each of its keys stands.

A place in the file is a dotted path such as `proxies.kube-apiserver.servers[1].weight`.
"""

from __future__ import annotations

import re

from lbproxy.errors import ConfigError, Problem

MOST = 100
"""Problems shown; a file with more of them is not a configuration with a mistake in it, and is not read any further."""

_PLAIN = re.compile(r"[A-Za-z0-9_.:\[\]-]{1,253}")


def under(path: str, key: str) -> str:
    """Return the place of `key` in the mapping at `path`; a key that would garble a message is quoted."""
    shown = key if _PLAIN.fullmatch(key) else quoted(key)
    return f"{path}.{shown}" if path else shown


def item(path: str, index: int) -> str:
    """Return the place of an entry of the list at `path`."""
    return f"{path}[{index}]"


def quoted(text: str) -> str:
    """Return `text` in quotes on one line, cut where nobody would read on."""
    return repr(text if len(text) <= 80 else text[:77] + "...")


def printable(text: str) -> str:
    """Return `text` on one line, with nothing in it that a terminal would act on."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)


class EnoughError(Exception):
    """A way out of a file with more problems than will be shown."""


class Report:
    """Collects the problems of `file`, and the line of every key that was read."""

    def __init__(self, file: str) -> None:
        self.file = file
        self._problems: list[Problem] = []
        self._lines: dict[str, int] = {}
        self._faulty: set[str] = set()
        self._more = False

    def seen(self, path: str, line: int) -> None:
        """Note that `path` stands on `line`."""
        self._lines.setdefault(path, line)

    def add(self, path: str, why: str, line: int | None = None) -> None:
        """Note a problem; without `line` it is where `path` stands, or else what it is in. Raises EnoughError."""
        if len(self._problems) == MOST:
            self._more = True
            raise EnoughError
        self._faulty.add(path)
        self._problems.append(Problem(self.file, self.line(path) if line is None else line, path, printable(why)))

    def given(self, path: str) -> bool:
        """Tell whether the file has a key at `path`."""
        return path in self._lines

    def faulty(self, path: str) -> bool:
        """Tell whether a problem at `path` is known, so that what was put in its place proves nothing."""
        return path in self._faulty

    def line(self, path: str) -> int:
        """Return the line of `path`, or of the nearest thing around it."""
        while path:
            if path in self._lines:
                return self._lines[path]
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        return 0

    @property
    def clean(self) -> bool:
        """Tell whether no problem is known."""
        return not self._problems

    def error(self) -> ConfigError:
        """Return all problems in file order as one error."""
        ordered = sorted(self._problems, key=lambda p: p.line)
        if self._more:
            ordered.append(Problem(self.file, 0, "", "has more problems, which were not looked for"))
        return ConfigError(ordered)
