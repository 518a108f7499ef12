"""nginx.conf to directives, by crossplane; what is included stands where it is included."""

from __future__ import annotations

import glob
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final, TypedDict

from lbproxy.errors import LbproxyError
from lbproxy.importer.directive import Directive
from lbproxy.importer.source import read_text, refuse

MOST_DEPTH: Final = 32
MOST_FILES: Final = 100
_END: Final = "lbproxy_end_of_file"
"""Put behind a file: crossplane says nothing of a quote or a directive that is not closed, but then misses this."""
_PLACE: Final = re.compile(r" in \S+?(:\d+)?$")


class _Statement(TypedDict, total=False):
    """What crossplane makes of a directive."""

    directive: str
    line: int
    args: list[str]
    block: list[_Statement]


def read_nginx(file: str, text: str) -> tuple[Directive, ...]:
    """Return what `file` says, whose text is `text`. Raises ConfigError, LbproxyError without crossplane."""
    return tuple(_Reader(os.path.dirname(file)).directives(file, text, ()))  # noqa: PTH120 - "" stays ""


class _Reader:
    """Reads a file and those that it includes, whose names are relative to `directory`."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._files = 0

    def directives(self, file: str, text: str, around: tuple[str, ...]) -> Iterator[Directive]:
        """Yield what a file says, which is included by those `around` it, the outermost first."""
        self._files += 1
        yield from self._taken(file, _statements(file, text), (*around, os.path.realpath(file)))

    def _taken(self, file: str, statements: list[_Statement], around: tuple[str, ...]) -> Iterator[Directive]:
        for each in statements:
            block = tuple(self._taken(file, each.get("block", []), around))
            made = Directive(file, each["line"], each["directive"], tuple(each["args"]), block)
            yield made
            if made.name == "include":
                yield from self._included(made, around)

    def _included(self, include: Directive, around: tuple[str, ...]) -> Iterator[Directive]:
        pattern = os.path.join(self._directory, include.arg)  # noqa: PTH118 - a pattern
        for name in sorted(glob.glob(pattern)) if glob.has_magic(pattern) else [pattern]:  # noqa: PTH207
            if os.path.realpath(name) in around:
                refuse(include.file, include.line, f"include: {name} includes itself")
            if self._files >= MOST_FILES:
                refuse(include.file, include.line, f"include: more than {MOST_FILES} files")
            try:
                text = read_text(name)
            except OSError as error:
                refuse(include.file, include.line, f"include: {name}: cannot be read: {error.strerror}")
            yield from self.directives(name, text, around)


def _statements(file: str, text: str) -> list[_Statement]:
    """Return what crossplane makes of `text`; it reads only from a file, so it gets one with just that in it."""
    try:
        import crossplane
    except ImportError:
        raise LbproxyError("to read nginx.conf takes crossplane: pip install 'lbproxy[import]'") from None
    lines = text.count("\n") + (not text.endswith("\n"))
    with tempfile.TemporaryDirectory(prefix="lbproxy-import-") as directory:
        copy = Path(directory, "nginx.conf")
        copy.write_text(f"{text}\n{_END};\n", encoding="utf-8")
        try:
            _look_into(file, crossplane.lex(str(copy)))
        except crossplane.errors.NgxParserBaseException as error:
            refuse(file, min(error.lineno or 0, lines), error.strerror)
        read = crossplane.parse(str(copy), single=True, check_ctx=False)
    for each in read["errors"]:
        refuse(file, min(each["line"] or 0, lines), _PLACE.sub("", each["error"]) or "ends within a directive")
    statements: list[_Statement] = read["config"][0]["parsed"]
    last = statements.pop()
    if last["directive"] != _END:
        refuse(file, last["line"], f'{last["directive"]}: directive is not ended by ";"')
    return statements


def _look_into(file: str, tokens: Iterator[tuple[str, int, bool]]) -> None:
    """Refuse what is nested so deeply that nobody would follow, nor crossplane; and a quote that hides the end."""
    depth = line = 0
    ended = False
    for word, line, quoted in tokens:
        depth += 0 if quoted else {"{": 1, "}": -1}.get(word, 0)
        ended = word == ";"
        if depth > MOST_DEPTH:
            refuse(file, line, f"is nested more than {MOST_DEPTH} levels deep")
    if not ended:
        refuse(file, line or 1, "a quote is not closed, on this line or below")
