"""What holds for a section of haproxy.cfg: its own lines, and those of its defaults that it does not say anew."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from lbproxy.importer.directive import Directive
from lbproxy.importer.draft import Draft

_OFTEN: Final = frozenset(
    ("acl", "bind", "default-server", "http-check", "log", "server", "server-template", "tcp-check", "tcp-request",
     "tcp-response", "use_backend")
)  # fmt: skip
"""What may be said more than once in a section."""
_TWO_WORDS: Final = frozenset(("no", "option", "stats", "timeout"))


@dataclass(frozen=True, slots=True)
class Scope:
    """All that holds for a section, in the order in which it counts."""

    section: Directive
    lines: tuple[Directive, ...]

    @property
    def name(self) -> str:
        """Its name."""
        return self.section.arg

    def all(self, key: str) -> list[Directive]:
        """Return the lines of that key: a word, or two for `option httpchk` and the like."""
        return [each for each in self.lines if key_of(each) == key]

    def last(self, key: str) -> Directive | None:
        """Return the line of that key that counts."""
        found = self.all(key)
        return found[-1] if found else None

    @property
    def mode(self) -> str:
        """`tcp` or `http`; HAProxy's default is tcp."""
        mode = self.last("mode")
        return mode.arg if mode else "tcp"


def key_of(line: Directive) -> str:
    """Return what a line sets, so that a later one of the same takes its place."""
    if line.name == "no":
        return " ".join(line.args[:2] if line.arg in _TWO_WORDS else line.args[:1])
    return f"{line.name} {line.arg}" if line.name in _TWO_WORDS else line.name


def scopes(tree: Iterable[Directive], draft: Draft) -> Iterator[Scope]:
    """Yield the proxies with what they have of the defaults: of those named after `from`, else of the last ones."""
    latest: tuple[Directive, ...] = ()
    named: dict[str, tuple[Directive, ...]] = {}
    for section in tree:
        chosen = section.args[section.args.index("from") + 1 :][:1] if "from" in section.args else ()
        if chosen and chosen[0] not in named:
            draft.left(section, f"there are no defaults {chosen[0]} before it")
        before = named.get(chosen[0], ()) if chosen else () if section.name == "defaults" else latest
        own = {key_of(line) for line in section.block} - {"default-server"}
        lines = (*(line for line in before if key_of(line) not in own), *_counting(section.block))
        if section.name == "defaults":
            latest = lines
            if section.arg not in ("", "from"):
                named[section.arg] = lines
        elif section.name in ("frontend", "backend", "listen"):
            yield Scope(section, tuple(line for line in lines if line.name != "no"))


def _counting(lines: tuple[Directive, ...]) -> Iterator[Directive]:
    last = {key_of(line): line for line in lines}
    return (line for line in lines if key_of(line) in _OFTEN or last[key_of(line)] is line)
