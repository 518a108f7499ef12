"""YAML text to nodes that know their line.

Read from the parser's events, so nothing is ever constructed: a scalar is its text, and `off` is not False.
What only serves to surprise in a configuration (tags, anchors and aliases, merge keys, several documents,
the same key twice) is refused here, each with its line.
"""

from __future__ import annotations

from collections.abc import Iterator

import yaml
from yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)
from yaml.reader import Reader

from lbproxy.config.report import EnoughError, Report, item, under
from lbproxy.record import dataclass

MOST_BYTES = 256 << 10
"""A configuration of 4,000 servers with settings of their own; reading it takes a second of a processor."""
MOST_DEPTH = 16
"""The deepest key of the model is five levels down."""

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the same events, ten times as fast


@dataclass(frozen=True, slots=True)
class Scalar:
    """A single value as it was written; `plain` means without quotes."""

    line: int
    text: str
    plain: bool

    @property
    def empty(self) -> bool:
        """Tell whether there is no value: nothing at all, or a YAML null."""
        return self.plain and self.text in ("", "~", "null", "Null", "NULL")


@dataclass(frozen=True, slots=True)
class Items:
    """A list."""

    line: int
    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Block:
    """A mapping in file order; a key occurs once."""

    line: int
    entries: tuple[tuple[Scalar, Node], ...]


@dataclass(frozen=True, slots=True)
class Refused:
    """Something that has been reported already."""

    line: int


Node = Scalar | Items | Block | Refused


class _TooDeep(Exception):  # noqa: N818 - not an error to anyone, a way out of the recursion
    pass


def parse(text: str, report: Report) -> Node | None:
    """Return the one document in `text`, None if it cannot be read at all; what is wrong goes to `report`."""
    if len(text) > MOST_BYTES:
        report.add("", f"is larger than {MOST_BYTES >> 10} KiB")
        return None
    text = text.removeprefix("\ufeff")
    if odd := Reader.NON_PRINTABLE.search(text):
        line = text.count("\n", 0, odd.start()) + 1
        report.add("", f"character U+{ord(odd[0]):04X} is not allowed in a text file", line)
        return None
    try:
        return _document(yaml.parse(text, Loader=_LOADER), report)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        why = " ".join(f"{error.context or ''} {error.problem or ''}".split())
        report.add("", f"is not valid YAML: {why}", mark.line + 1 if mark else 0)
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # the latter from escapes such as "\UFFFFFFFF"
        report.add("", f"is not valid YAML: {' '.join(str(error).split())}")
    except _TooDeep:
        pass
    return None


def peek(text: str, key: str) -> str | None:
    """Return the scalar at `key` on the top level of a document, of which all that follows may be broken.

    Empty where there is none; None where the document is broken before that can be told.
    """
    try:
        events = yaml.parse(text, Loader=_LOADER)
        if isinstance(next(event for event in events if isinstance(event, NodeEvent)), MappingStartEvent):
            for name, value in _Builder(events, Report("")).entries("", 0):
                if name.text == key:
                    return value.text if isinstance(value, Scalar) else ""
    except (yaml.YAMLError, ValueError, OverflowError, StopIteration, EnoughError, _TooDeep):
        return None
    return ""


def _document(events: Iterator[Event], report: Report) -> Node | None:
    root: Node | None = None
    for event in events:
        if not isinstance(event, DocumentStartEvent):
            continue
        if root is not None:
            report.add("", "only one YAML document is allowed", _line(event))
            return None
        root = _Builder(events, report).node(next(events), "", 0)
    if root is None or (isinstance(root, Scalar) and root.empty):
        report.add("", "is empty")
        return None
    return root


@dataclass(frozen=True, slots=True)
class _Builder:
    """From events to nodes."""

    events: Iterator[Event]
    report: Report

    def node(self, event: Event, path: str, depth: int) -> Node:
        """Take the events of one node, of which `event` is the first."""
        line = _line(event)
        if depth > MOST_DEPTH:
            self.report.add("", f"is nested more than {MOST_DEPTH} levels deep", line)
            raise _TooDeep
        refused = self._refused(event, path)
        node: Node
        if isinstance(event, MappingStartEvent):
            node = Block(line, tuple(self.entries(path, depth)))
        elif isinstance(event, SequenceStartEvent):
            node = Items(line, tuple(self._items(path, depth)))
        elif isinstance(event, ScalarEvent):
            node = Scalar(line, event.value, plain=not event.style)
        else:
            node = Refused(line)
        return Refused(line) if refused else node

    def _refused(self, event: Event, path: str) -> bool:
        """Report what is not allowed on any node."""
        why = []
        if isinstance(event, AliasEvent):
            why.append(f"a YAML alias (*{event.anchor}) is not allowed")
        elif isinstance(event, (ScalarEvent, SequenceStartEvent, MappingStartEvent)):
            if event.anchor is not None:
                why.append(f"a YAML anchor (&{event.anchor}) is not allowed")
            if event.tag is not None:
                why.append(f"a YAML tag ({event.tag}) is not allowed")
        if isinstance(event, ScalarEvent) and (odd := Reader.NON_PRINTABLE.search(event.value)):
            why.append(f"character U+{ord(odd[0]):04X} is not allowed")
        for each in why:
            self.report.add(path, each, _line(event))
        return bool(why)

    def _items(self, path: str, depth: int) -> Iterator[Node]:
        index = 0
        while not isinstance(event := next(self.events), SequenceEndEvent):
            yield self.node(event, item(path, index), depth + 1)
            index += 1

    def entries(self, path: str, depth: int) -> Iterator[tuple[Scalar, Node]]:
        """Take the events of a mapping that has begun, to its end; yields each entry as soon as it is whole."""
        first: dict[str, int] = {}
        while not isinstance(event := next(self.events), MappingEndEvent):
            key = self.node(event, path, depth + 1)
            place = under(path, key.text) if isinstance(key, Scalar) else path
            value = self.node(next(self.events), place, depth + 1)
            if isinstance(key, (Items, Block)):
                self.report.add(path, "a key must be a string", key.line)
            elif not isinstance(key, Scalar):
                continue
            elif key.plain and key.text == "<<":
                self.report.add(path, "a YAML merge key (<<) is not allowed", key.line)
            elif key.text in first:
                self.report.add(place, f"duplicate key, first given on line {first[key.text]}", key.line)
            else:
                first[key.text] = key.line
                yield key, value


def _line(event: Event) -> int:
    mark = event.start_mark
    return mark.line + 1 if mark else 0
