"""haproxy.cfg to directives: sections, each with its lines; see "Quoting and escaping" in HAProxy's manual.

No library that is kept up reads it, and there is little to read: words, quotes, escapes and comments.
"""

from __future__ import annotations

import re
from typing import Final

from lbproxy.importer.directive import Directive
from lbproxy.importer.source import refuse

SECTIONS: Final = frozenset(
    ("acme", "backend", "cache", "crt-store", "defaults", "fcgi-app", "frontend", "global", "http-errors", "listen",
     "log-forward", "log-profile", "mailers", "peers", "program", "resolvers", "ring", "traces", "userlist")
)  # fmt: skip
_TOKEN: Final = re.compile(
    r"""
    (?P<blank>[ \t\r]+) | (?P<comment>\#.*) | \\x(?P<hex>[0-9A-Fa-f]{2}) | \\(?P<escaped>.) |
    '(?P<strong>[^']*)' | "(?P<weak>(?:[^"\\]|\\.)*)" | (?P<plain>[^ \t\r\#\\'"]+)
    """,
    re.VERBOSE,
)
_ESCAPED: Final = {"n": "\n", "r": "\r", "t": "\t"}


def read_haproxy(file: str, text: str) -> tuple[Directive, ...]:
    """Return the sections of `file`, whose text is `text`, with what they hold. Raises ConfigError."""
    heads: list[Directive] = []
    bodies: list[list[Directive]] = []
    for number, line in enumerate(text.split("\n"), 1):
        words, expands = _words(file, number, line)
        if not words:
            continue
        if words[0].startswith("."):
            refuse(file, number, f"{words[0]}: conditions are not evaluated: leave in the file only what holds")
        made = Directive(file, number, words[0], tuple(words[1:]), (), expands)
        if made.name in SECTIONS:
            heads.append(made)
            bodies.append([])
        elif not heads:
            refuse(file, number, f"{made.name}: stands before the first section")
        else:
            bodies[-1].append(made)
    return tuple(
        Directive(head.file, head.line, head.name, head.args, tuple(body), head.expands)
        for head, body in zip(heads, bodies, strict=True)
    )


def _words(file: str, number: int, line: str) -> tuple[list[str], bool]:
    """Return the words of a line, and whether environment variables are to be put into them, which HAProxy would do."""
    words: list[str] = []
    within = expands = False
    place = 0
    while place < len(line):
        found = _TOKEN.match(line, place)
        if found is None:
            refuse(file, number, "a quote is not closed" if line[place] in "'\"" else "ends in a backslash")
        place = found.end()
        if found["comment"] is not None:
            break
        if found["blank"] is not None:
            within = False
            continue
        text = _text(found)
        expands |= found["weak"] is not None and "$" in re.sub(r"\\.", "", found["weak"])
        if within:
            words[-1] += text
        else:
            words.append(text)
        within = True
    return words, expands


def _text(found: re.Match[str]) -> str:
    if found["hex"] is not None:
        return chr(int(found["hex"], 16))
    if found["escaped"] is not None:
        return _ESCAPED.get(found["escaped"], found["escaped"])
    if found["weak"] is not None:
        return re.sub(r"\\([\\\"$])", r"\1", found["weak"])
    return str(found["strong"] if found["strong"] is not None else found["plain"])
