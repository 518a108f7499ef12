"""The man pages, from the command line's own parser and from the model of the configuration.

    PYTHON -I packaging/manpages.py TREE lbproxy.1|lbproxy.yaml.5

TREE holds lbproxy and what it imports. Prints the page.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from typing import Any

_FILES = """\
.TP
.I /etc/lbproxy/lbproxy.yaml
the configuration, see
.BR lbproxy.yaml (5)
.TP
.I /run/lbproxy/control.sock
where the daemon is asked; $LBPROXY_CONTROL and --control name another
.TP
.I /run/lbproxy\\-status/control.sock
where the members of the group lbproxy\\-status ask for status, conns and events
.TP
.I /usr/share/doc/lbproxy
README.md, CHANGELOG.md, examples/
"""
_ENVIRONMENT = """\
.TP
.B LBPROXY_CONTROL
the control socket of the daemon, as with \\-\\-control
.TP
.B NO_COLOR
if it is not empty, nothing is coloured
.TP
.B COLUMNS
how wide what is shown may be, in place of the terminal's width
"""
_EXAMPLES = """\
.TP
.B lbproxy status \\-\\-wait 30s \\-\\-servers 2
waits until two servers of each proxy are checked and up
.TP
.B lbproxy drain master1 && lbproxy conns \\-\\-watch
takes a server out of rotation, and shows its connections go
.TP
.B lbproxy completion bash > /etc/bash_completion.d/lbproxy
has bash complete commands and servers, where no package has seen to that
"""


def commands() -> Iterator[str]:
    """Yield the lines of lbproxy(1)."""
    from lbproxy import __version__, cli

    parser = cli._parser()
    yield _head("LBPROXY", 1, __version__)
    yield from _section("NAME", rf"lbproxy \- {_escape(_sentence(parser.description))}")
    yield from _section("SYNOPSIS", ".B lbproxy\n[OPTION]... COMMAND [ARGUMENT]...")
    yield from _section("OPTIONS", *_actions(parser))
    yield ".SH COMMANDS"
    for subparsers in (action for action in parser._actions if isinstance(action, argparse._SubParsersAction)):
        known = {action.dest for action in parser._actions}
        for name, each in subparsers.choices.items():
            yield f".SS lbproxy {name}{_positionals(each)}"
            yield _escape(_capital(each.description or "") + ".")
            yield from _actions(each, known)
    yield from _section("ENVIRONMENT", _ENVIRONMENT)
    yield from _section("FILES", _FILES)
    yield from _section("EXIT STATUS", _escape(str(parser.epilog).partition(": ")[2]))
    yield from _section("EXAMPLES", _EXAMPLES)
    yield from _section("SEE ALSO", ".BR lbproxy.yaml (5),\n.BR systemctl (1)")


def configuration() -> Iterator[str]:
    """Yield the lines of lbproxy.yaml(5)."""
    from lbproxy import __version__
    from lbproxy.config.schema import schema

    yield _head("LBPROXY.YAML", 5, __version__)
    yield from _section("NAME", r"lbproxy.yaml \- configuration of lbproxy")
    yield from _section(
        "DESCRIPTION",
        "A file in YAML. Durations are written as 250ms, 1s, 10m, 1h or as a number of seconds; addresses of IPv6 "
        "stand in brackets. A key that is not listed here is an error.\n.PP\n.B lbproxy check\nreports every error "
        "with its line. A file with every key and its reasons is\n.IR /usr/share/doc/lbproxy/examples/lbproxy.yaml .",
    )
    yield ".SH KEYS"
    yield from _keys(schema(), "")
    yield from _section("SEE ALSO", ".BR lbproxy (1)")


def _keys(record: dict[str, Any], prefix: str) -> Iterator[str]:
    """Yield the keys of a mapping, each with its full name, and then those below it."""
    for name, value in record["properties"].items():
        full = f"{prefix}{name}"
        yield f".TP\n.B {_escape(full)}"
        told = str(value.get("description", ""))
        limits = "; ".join(filter(None, (_kind(value), _default(value, name in record.get("required", [])))))
        yield _escape("\n.br\n".join(filter(None, (told, f"{limits}." if limits else ""))))
        for below, nested in _below(value):
            yield from _keys(nested, f"{full}{below}.")


def _below(value: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the mappings that stand under a key, each with what stands between its name and theirs."""
    if "properties" in value:
        yield "", value
    if isinstance(each := value.get("additionalProperties"), dict):
        for between, nested in _below(each):
            yield f".NAME{between}", nested
    if "items" in value:
        for between, nested in _below(value["items"]):
            yield f"[]{between}", nested
    for option in value.get("anyOf", []):
        yield from _below(option)


def _kind(value: dict[str, Any]) -> str:
    """Return in words what may stand there."""
    if "anyOf" in value:
        return " or ".join(dict.fromkeys(filter(None, map(_kind, value["anyOf"]))))
    if "enum" in value:
        return " or ".join(map(str, value["enum"]))
    if "const" in value:
        return str(value["const"])
    match value.get("type"):
        case "integer":
            return f"a whole number from {value['minimum']} to {value['maximum']}"
        case "number":
            return f"a duration from {value['minimum']:.15g} to {value['maximum']:.15g} seconds"
        case "boolean":
            return "true or false"
        case "array":
            return f"a list, each {_kind(value['items'])}"
        case "object":
            return ""
        case _:
            return _pattern(value.get("pattern", ""))


def _pattern(pattern: str) -> str:
    """Return in words what one of the schema's patterns matches; nothing if words elsewhere say it."""
    if "ms" in pattern:
        return ""
    if "{1,3}" in pattern:
        return "HOST:PORT" if "A-Za-z" in pattern else "ADDRESS:PORT"
    return ""


def _default(value: dict[str, Any], required: bool) -> str:
    if required:
        return "must be given"
    default = value.get("default")
    words = default if isinstance(default, str) else json.dumps(default)
    return "" if default is None else f"default {words}"


def _actions(parser: argparse.ArgumentParser, known: set[str] | None = None) -> Iterator[str]:
    """Yield the options of a parser but for those in `known`, and its arguments if they are described."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction) or action.dest in (known or ()) or not action.help:
            continue
        name = ", ".join(action.option_strings) or str(action.metavar)
        value = f" {action.metavar}" if action.option_strings and action.metavar else ""
        which = f": {', '.join(map(str, action.choices))}" if action.choices and action.option_strings else ""
        yield f".TP\n.B {_escape(name)}{value}\n{_escape(action.help)}{_escape(which)}"


def _positionals(parser: argparse.ArgumentParser) -> str:
    places = [action for action in parser._actions if not action.option_strings]
    return "".join(f" [{action.metavar}]" if action.nargs == "?" else f" {action.metavar}" for action in places)


def _head(name: str, section: int, version: str) -> str:
    return f'.TH {name} {section} "" "lbproxy {version}"'


def _section(title: str, *lines: str) -> Iterator[str]:
    yield f".SH {title}"
    yield from lines


def _sentence(text: str | None) -> str:
    return (text or "").rstrip(".")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _escape(text: str) -> str:
    return text.replace("\\", r"\e").replace("-", r"\-")


def main(tree: str, page: str) -> None:
    """Print one page."""
    sys.path.insert(0, tree)
    lines = {"lbproxy.1": commands, "lbproxy.yaml.5": configuration}[page]()
    print("\n".join(line.rstrip("\n") for line in lines))


if __name__ == "__main__":
    main(*sys.argv[1:])
