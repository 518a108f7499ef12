"""A file of nginx's or HAProxy's to one of lbproxy's own, or to what is wrong with it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from lbproxy.errors import ConfigError, Problem
from lbproxy.importer.draft import Draft
from lbproxy.importer.haproxy.file import SECTIONS, read_haproxy
from lbproxy.importer.haproxy.main import import_haproxy
from lbproxy.importer.nginx.file import read_nginx
from lbproxy.importer.nginx.main import import_nginx
from lbproxy.importer.source import problem, read_text, refuse
from lbproxy.importer.write import text_of

PROGRAMS: Final = ("nginx", "haproxy")
_SECTION: Final = re.compile(rf"^[ \t]*(?:{'|'.join(SECTIONS)})(?:[ \t][^;{{}}\n]*)?\r?$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Imported:
    """The text of a configuration that lbproxy takes, and what of the file is not in it, in file order."""

    text: str
    left: list[Problem]


def convert(file: str, program: str | None) -> Imported:
    """Return what `file` is to lbproxy; `program`, of PROGRAMS, says whose it is where that cannot be told.

    Raises ConfigError with all that is wrong with it, and LbproxyError where crossplane is not installed.
    """
    try:
        text = read_text(file)
    except OSError as error:
        refuse(file, 0, f"cannot be read: {error.strerror}")
    program = program or told(text)
    draft = Draft()
    if program == "nginx":
        import_nginx(read_nginx(file, text), draft)
    elif program == "haproxy":
        import_haproxy(read_haproxy(file, text), draft)
    else:
        refuse(file, 0, "cannot be told whether it is nginx's or HAProxy's: say --from nginx or --from haproxy")
    draft.finish()
    left = draft.problems
    if not draft.proxies:
        raise ConfigError([*left, problem(file, 0, "", f"has nothing that could be a proxy here, read as {program}'s")])
    try:
        return Imported(text_of(draft, file, program), left)
    except ConfigError as error:
        raise ConfigError([*left, *error.problems]) from None


def told(text: str) -> str | None:
    """Return whose file it is by what is in it: HAProxy's has sections, nginx's has blocks."""
    has_sections, has_blocks = bool(_SECTION.search(text)), any(map(_is_block, text.split("\n")))
    if has_sections == has_blocks:
        return None
    return "haproxy" if has_sections else "nginx"


def _is_block(line: str) -> bool:
    """Whether a line ends as nginx's do: with a semicolon or a brace that opens, or with a whole block."""
    code, comment, _ = line.partition("#")
    code = (code if comment else code.removesuffix("\r")).rstrip(" \t")
    before, brace, within = code.partition("{")
    if brace and _is_bare(before) and within.endswith("}") and ";" in within:
        return True
    opened = code.removesuffix("}").rstrip(" \t")
    return (code.endswith(";") and _is_bare(code)) or (opened.endswith("{") and _is_bare(opened))


def _is_bare(text: str) -> bool:
    """Whether there are no quotes in it."""
    return "'" not in text and '"' not in text
