"""A draft as the text of lbproxy.yaml, in which a comment says of each thing where it comes from."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from lbproxy import __version__
from lbproxy.config.load import loads
from lbproxy.config.report import printable
from lbproxy.errors import ConfigError, Problem
from lbproxy.importer.draft import Addresses, Draft, Keys, Origin, ProxyDraft
from lbproxy.importer.source import problem

_PLAIN: Final = re.compile(r"[A-Za-z0-9_/][A-Za-z0-9_./-]*(:[0-9]+)?")
_NULLS: Final = ("null", "Null", "NULL")
_WIDE: Final = 100
"""Columns up to which an origin stands behind its value."""


@dataclass(frozen=True, slots=True)
class _Line:
    text: str
    origin: Origin | None = None


def text_of(draft: Draft, file: str, program: str) -> str:
    """Return the text; raises ConfigError if lbproxy would not take it, with where that comes from in `file`."""
    lines = list(_document(draft, file, program))
    text = "\n".join(line.text for line in lines) + "\n"
    text = text.encode("ascii", "backslashreplace").decode()  # only comments have more, and a terminal may have less
    try:
        loads(text, file)
    except ConfigError as error:
        raise ConfigError([_at_its_origin(each, lines, file) for each in error.problems]) from None
    return text


def _at_its_origin(found: Problem, lines: list[_Line], file: str) -> Problem:
    for line in reversed(lines[: found.line]):
        if line.origin is not None:
            directive = line.origin.directive
            why = re.sub(r" on line \d+", "", found.why)  # which is of a text that nobody sees
            return problem(directive.file, directive.line, found.path, why)
    return problem(file, 0, found.path, f"as lbproxy.yaml it {found.why}")


def _document(draft: Draft, file: str, program: str) -> Iterator[_Line]:
    name = {"nginx": "nginx", "haproxy": "HAProxy"}[program]
    yield _Line(f"# Made of {printable(file)}, which is {name}'s, by `lbproxy import` of lbproxy {__version__}.")
    yield _Line("# What is not said here has lbproxy's default.")
    yield _Line("")
    yield from _keys(draft.top, "")
    if draft.admin.values:
        yield _Line("admin:")
        yield from _listen(draft.admin, "  ")
    yield from _mapping("log", draft.log, "")
    yield _Line("proxies:")
    for called, proxy in draft.proxies.items():
        yield from _proxy(called, proxy)
    yield _Line("")
    yield _Line("# What needs no key, and why:")
    yield from (_Line(f"# {comment}") for comment in draft.comments)


def _proxy(name: str, proxy: ProxyDraft) -> Iterator[_Line]:
    yield from _told(f"  {_scalar(name)}:", [proxy.origin])
    yield from _listen(proxy.listen, "    ")
    yield _Line("    servers:")
    for server in proxy.servers:
        yield from _item(server)
    yield from _keys(proxy.keys, "    ")
    yield from _mapping("keepalive", proxy.keepalive, "    ")
    yield from _mapping("health", proxy.health, "    ")


def _listen(addresses: Addresses, indent: str) -> Iterator[_Line]:
    yield _Line(f"{indent}listen:")
    for address in addresses.values:
        yield from _told(f"{indent}  - {_scalar(address.text)}", address.origins)


def _item(server: Keys) -> Iterator[_Line]:
    """Yield a server; its first key, of which it always has one, stands behind the dash."""
    dash = "      - "
    for key, value in server.values.items():
        yield from _told(f"{dash}{key}: {_scalar(value.text)}", value.origins)
        dash = "        "


def _mapping(key: str, keys: Keys, indent: str) -> Iterator[_Line]:
    if keys.values:
        yield _Line(f"{indent}{key}:")
        yield from _keys(keys, f"{indent}  ")


def _keys(keys: Keys, indent: str) -> Iterator[_Line]:
    for key, value in keys.values.items():
        yield from _told(f"{indent}{key}: {_scalar(value.text)}", value.origins)


def _told(text: str, origins: list[Origin]) -> Iterator[_Line]:
    """Yield a line with its origin behind it, or above it where there are several, or it would be too long."""
    said = list(dict.fromkeys(map(str, origins)))
    if len(said) == 1 and len(f"{text}  # {said[0]}") <= _WIDE:
        yield _Line(f"{text}  # {said[0]}", origins[0])
        return
    indent = " " * (len(text) - len(text.lstrip()))
    yield from (_Line(f"{indent}# {each}") for each in said)
    yield _Line(text, origins[0])


def _scalar(text: str) -> str:
    """Return `text` as YAML; it has no characters that would have to be escaped."""
    if _PLAIN.fullmatch(text) and text not in _NULLS:
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
