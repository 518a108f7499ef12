"""What the man pages and docs/reference/ are made of: keys, commands and metrics, as lbproxy itself has them.

lbproxy is imported by whoever asks: from the tree that is packed, or from the sources.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple


class Key(NamedTuple):
    """A key of the configuration: its full name, what it is for, and what it may be."""

    name: str
    told: str
    limits: str


class Argument(NamedTuple):
    """An option, or an argument that is described, as it is written and what it is for."""

    name: str
    value: str
    told: str


class Command(NamedTuple):
    """A command with what must follow it, what it does, and what it takes beside what stands before any command."""

    name: str
    places: str
    told: str
    arguments: list[Argument]


class Metric(NamedTuple):
    """A family of series; of a label that tells one series of a server or a proxy from the next, also the values."""

    name: str
    kind: str
    labels: dict[str, list[str]]
    told: str


def settings(record: dict[str, Any] | None = None, prefix: str = "") -> Iterator[Key]:
    """Yield the keys of a mapping of the schema (of the whole), each followed by those below it."""
    if record is None:
        from lbproxy.config.schema import schema

        record = schema()
    for name, value in record["properties"].items():
        full = f"{prefix}{name}"
        limits = "; ".join(filter(None, (_kind(value), _default(value, name in record.get("required", [])))))
        yield Key(full, str(value.get("description", "")), limits)
        for below, nested in _below(value):
            yield from settings(nested, f"{full}{below}.")


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


def commands(parser: argparse.ArgumentParser) -> Iterator[Command]:
    """Yield the commands of lbproxy's parser."""
    known = {action.dest for action in parser._actions}
    for subparsers in (action for action in parser._actions if isinstance(action, argparse._SubParsersAction)):
        for name, each in subparsers.choices.items():
            told = each.description or ""
            yield Command(name, _places(each), f"{told[:1].upper()}{told[1:]}.", list(arguments(each, known)))


def arguments(parser: argparse.ArgumentParser, known: set[str] | None = None) -> Iterator[Argument]:
    """Yield the options of a parser but for those in `known`, and its arguments if they are described."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction) or action.dest in (known or ()) or not action.help:
            continue
        name = ", ".join(action.option_strings) or str(action.metavar)
        value = str(action.metavar) if action.option_strings and action.metavar else ""
        which = f": {', '.join(map(str, action.choices))}" if action.choices and action.option_strings else ""
        yield Argument(name, value, f"{action.help}{which}")


def _places(parser: argparse.ArgumentParser) -> str:
    places = [action for action in parser._actions if not action.option_strings]
    return "".join(f" [{action.metavar}]" if action.nargs == "?" else f" {action.metavar}" for action in places)


def statuses(parser: argparse.ArgumentParser) -> str:
    """Return what lbproxy's exit statuses mean, in a sentence."""
    return str(parser.epilog).partition(": ")[2]


def metrics(page: str) -> Iterator[Metric]:
    """Yield the families of a page of metrics on which each has a series."""
    told = dict(re.findall(r"^# HELP (\S+) (.*)$", page, re.MULTILINE))
    for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", page, re.MULTILINE):
        suffix = "_count" if kind == "histogram" else ""
        series = re.findall(rf"^{name}{suffix}(?:\{{(.*)\}})? ", page, re.MULTILINE)
        pairs = dict.fromkeys(pair for each in series for pair in re.findall(r'(\w+)="([^"]*)"', each))
        labels: dict[str, list[str]] = {label: [] for label, _ in pairs}
        for label, value in pairs:
            if len(series) > 1 and label not in ("proxy", "server"):
                labels[label].append(value)
        yield Metric(name, kind, labels, told[name])
