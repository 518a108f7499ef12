"""YAML to `Config`: a walk over the classes of `model`, so that a key of theirs is a key of the file.

Every problem of a file is found in one go: what cannot be read is left at its default meanwhile, so that
the rest can still be judged.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import MISSING, fields
from typing import cast, get_args, get_origin

from lbproxy.config import rules
from lbproxy.config.model import DEFAULT_CONTROL, Address, Config, Record, ServerConfig
from lbproxy.config.nodes import MOST_BYTES, Block, Items, Node, Refused, Scalar, parse, peek
from lbproxy.config.report import EnoughError, Report, item, quoted, under
from lbproxy.config.scalars import expects, members, read, required
from lbproxy.errors import ConfigError
from lbproxy.record import dataclass

_INHERITED = re.compile(r"/dev/(stdin|fd/[0-9]+)")
"""Descriptors that a process was started with."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What one look at a file has found: its bytes, None where there is nothing to read, and what they say."""

    content: bytes | None
    config: Config | ConfigError


def load(path: str) -> Config:
    """Read the file at `path`, and see that the files it names can be read.

    Raises ConfigError with every problem, in file order.
    """
    reading = read_file(path)
    if isinstance(reading.config, ConfigError):
        raise reading.config
    return reading.config


def read_file(
    path: str, see: Callable[[Config], Iterable[tuple[str, str]]] | None = None, *, piped: bool = False
) -> Reading:
    """Read the file at `path` as `load` does, once: what is then said of it is said of these bytes.

    `see` looks at what is outside of it, and returns the places of what is wrong there, and why; the default is to see
    that the files can be read. `piped` is as in `regular_file`.
    """
    report = Report(path)
    content = config = None
    try:
        content = regular_file(path, piped=piped)
        config = _config(content.decode(), report)
        for place, why in (see or unreadable)(config) if config is not None else ():
            report.add(place, why)
    except OSError as error:
        report.add("", f"cannot be read: {error.strerror}")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        report.add("", f"is not UTF-8 text (byte 0x{error.object[error.start]:02x})", line)
    except EnoughError:
        pass
    return Reading(content, _judged(config, report))


def unreadable(config: Config) -> Iterator[tuple[str, str]]:
    """Yield the places that name files which cannot be read, and why."""
    for place, name in rules.files(config):
        try:
            regular_file(name)
        except OSError as error:
            yield place, f"cannot be read: {error.strerror}: {quoted(name)}"


def loads(text: str, file: str) -> Config:
    """Read `text`; `file` is what errors call it. The files that it names are not looked at.

    Raises ConfigError with every problem, in file order.
    """
    report = Report(file)
    config = None
    try:
        config = _config(text, report)
    except EnoughError:
        pass
    found = _judged(config, report)
    if isinstance(found, ConfigError):
        raise found
    return found


def servers(text: str, file: str) -> tuple[ServerConfig, ...]:
    """Read `text` as a list of servers, which may be empty; `file` is what errors call it. Raises ConfigError."""
    report = Report(file)
    found: object = ()
    try:
        root = parse(text, report) if text.strip() else None
        if root is not None:
            found = _Walk(report).value(tuple[ServerConfig, ...], root, "")
    except EnoughError:
        pass
    if not report.clean:
        raise report.error()
    return cast("tuple[ServerConfig, ...]", found)


def control_of(path: str) -> str | None:
    """Return `control` of the file at `path`, which may be broken after it, or anything else be wrong with it.

    None where the file is broken before it. Raises OSError.
    """
    control = peek(regular_file(path).decode(errors="replace"), "control")
    return DEFAULT_CONTROL if control == "" else control


def _judged(config: Config | None, report: Report) -> Config | ConfigError:
    """Return `config`, or what is wrong with the file; it is None only if something is."""
    if config is None or not report.clean:
        return report.error()
    return config


def regular_file(path: str, *, piped: bool = False) -> bytes:
    """Return what is in a regular file of at most `MOST_BYTES`. Raises OSError; never waits, not even for a FIFO.

    With `piped` it may also be a pipe that the caller's shell has made (/dev/stdin, /dev/fd/N), which is waited for.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        mode = os.fstat(fd).st_mode
        if piped and stat.S_ISFIFO(mode) and _INHERITED.fullmatch(path):
            os.set_blocking(fd, True)
        elif not stat.S_ISREG(mode):
            raise OSError(0, "a directory" if stat.S_ISDIR(mode) else "not a regular file")
        with os.fdopen(fd, "rb", closefd=False) as file:
            data = file.read(MOST_BYTES + 1)
    finally:
        os.close(fd)
    if len(data) > MOST_BYTES:
        raise OSError(0, f"larger than {MOST_BYTES >> 10} KiB")
    return data


def _config(text: str, report: Report) -> Config | None:
    root = parse(text, report)
    config = None if root is None else _Walk(report).value(Config, root, "")
    if not isinstance(config, Config):
        return None
    rules.check(config, report)
    return config


class _Bad:
    """Stands for a value whose problem has been reported."""


_BAD = _Bad()


class _Walk:
    """From nodes to values. A bad entry of a list becomes None, so that the others keep their numbers."""

    def __init__(self, report: Report) -> None:
        self._report = report

    def value(self, hint: object, node: Node, path: str) -> object:
        """Return what `node` holds where `hint` is expected."""
        hint = required(hint)
        if isinstance(node, Refused):
            return _BAD
        if isinstance(node, Scalar) and node.empty:
            return self._bad(node, path, "is empty: give it a value or leave it out")
        if get_origin(hint) is tuple:
            return self._list(get_args(hint)[0], node, path)
        if get_origin(hint) is Mapping:
            return self._mapping(get_args(hint)[0], get_args(hint)[1], node, path)
        if hint is ServerConfig and isinstance(node, Scalar):
            address = self._scalar(Address, node, path)
            return ServerConfig(address=address) if isinstance(address, Address) else _BAD
        if isinstance(hint, type) and issubclass(hint, Record):
            return self._record(hint, node, path)
        return self._scalar(hint, node, path)

    def _record(self, cls: type, node: Node, path: str) -> object:
        if not isinstance(node, Block):
            return self._bad(node, path, "must be a mapping of keys", got=True)
        hints = members(cls)
        values = {}
        for key, each in node.entries:
            place = under(path, key.text)
            self._report.seen(place, key.line)
            if key.text not in hints:
                self._report.add(place, f"unknown key{self._hint(key.text, hints)}")
            elif (value := self.value(hints[key.text], each, place)) is not _BAD:
                values[key.text] = value
        given = {key.text for key, _ in node.entries}
        for name in (f.name for f in fields(cls) if f.default is MISSING and f.default_factory is MISSING):
            if name not in given:
                self._report.add(under(path, name), "is missing", self._report.line(path))
            if name not in values:
                if get_origin(hints[name]) not in (tuple, Mapping):
                    return _BAD
                values[name] = () if get_origin(hints[name]) is tuple else {}
        return cls(**values)

    def _hint(self, key: str, keys: Iterable[str]) -> str:
        from difflib import get_close_matches  # what is right takes no start longer

        near = get_close_matches(key, keys, 1) if len(key) < 40 else []
        return f", did you mean {near[0]!r}?" if near else ""

    def _list(self, hint: object, node: Node, path: str) -> object:
        if isinstance(node, Scalar) and hint is not ServerConfig:
            node = Items(node.line, (node,))  # a single address needs no list
        if not isinstance(node, Items):
            return self._bad(node, path, "must be a list", got=True)
        if not node.items and hint is not ServerConfig:  # of which the rules know whether there must be one
            return self._bad(node, path, "must have at least one entry")
        values = []
        for index, each in enumerate(node.items):
            self._report.seen(item(path, index), each.line)
            value = self.value(hint, each, item(path, index))
            values.append(None if value is _BAD else value)
        return tuple(values)

    def _mapping(self, name_hint: object, hint: object, node: Node, path: str) -> object:
        if not isinstance(node, Block):
            return self._bad(node, path, "must be a mapping of names", got=True)
        if not node.entries:
            return self._bad(node, path, "must have at least one entry")
        values = {}
        for key, each in node.entries:
            place = under(path, key.text)
            self._report.seen(place, key.line)
            name = self._scalar(name_hint, key, place)
            value = self.value(hint, each, place)
            if name is not _BAD and value is not _BAD:
                values[name] = value
        return values

    def _scalar(self, hint: object, node: Node, path: str) -> object:
        if not isinstance(node, Scalar):
            return self._bad(node, path, f"must be {expects(hint)}", got=True)
        try:
            return read(hint, node.text)
        except ValueError as error:
            return self._bad(node, path, str(error))

    def _bad(self, node: Node, path: str, why: str, *, got: bool = False) -> _Bad:
        if got:
            what = {Items: "a list", Block: "a mapping"}.get(type(node)) or quoted(getattr(node, "text", ""))
            why = f"{why}, got {what}"
        self._report.add(path, why, node.line)
        return _BAD
