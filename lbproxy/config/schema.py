"""The JSON Schema of the file, made from the model, for editors; `load` remains the judge.

`python -m lbproxy.config.schema` prints what config/lbproxy.schema.json holds.
"""

from __future__ import annotations

import ast
import inspect
import json
from collections.abc import Mapping
from dataclasses import MISSING, fields
from functools import cache
from itertools import pairwise
from typing import get_args, get_origin

from lbproxy.config import model
from lbproxy.config.model import (
    Address,
    Config,
    Duration,
    Literally,
    ProxyConfig,
    Record,
    ServerConfig,
    ServersFrom,
    Text,
    Whole,
)
from lbproxy.config.scalars import DURATION, constraint, members, required, write

Schema = dict[str, object]

_PORT = "[1-9][0-9]{0,4}"
_IP = r"([0-9]{1,3}(\.[0-9]{1,3}){3}|\[[0-9A-Fa-f:.]+\])"
_HOST = r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?\.?"


def schema() -> Schema:
    """Return the schema (draft 2020-12) of a whole file, as YAML 1.2 reads it."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "lbproxy.yaml",
        **_record(Config),
    }


def render() -> str:
    """Return the schema as the text of a file."""
    return json.dumps(schema(), indent=2) + "\n"


@cache
def descriptions() -> Mapping[tuple[str, str], str]:
    """Return what the model says of each key, by class and name: the text below it, which only its source has."""
    return {
        (cls.name, key.id): text
        for cls in ast.parse(inspect.getsource(model)).body
        if isinstance(cls, ast.ClassDef)
        for field, below in pairwise(cls.body)
        if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr)
        if isinstance(key := field.target, ast.Name) and isinstance(below.value, ast.Constant)
        if isinstance(text := below.value.value, str)
    }


def _record(cls: type) -> Schema:
    hints = members(cls)
    keys: dict[str, Schema] = {}
    needed = []
    for each in fields(cls):
        description = {"description": descriptions()[cls.__name__, each.name]}
        keys[each.name] = description | _value(hints[each.name]) | description  # first, and instead of the value's own
        if each.default is not MISSING and each.default not in (None, "", ()):
            keys[each.name]["default"] = _plain(each.default)
        elif each.default is MISSING and each.default_factory is MISSING:
            needed.append(each.name)
    found: Schema = {"description": cls.__doc__, "type": "object", "properties": keys, "additionalProperties": False}
    if cls is ProxyConfig:
        some: Schema = {"properties": {"servers": {"minItems": 1}}, "required": ["servers"]}
        found["anyOf"] = [some, {"required": ["servers_from"]}]
    if cls is ServersFrom:
        found["minProperties"] = 1
    return {**found, "required": needed} if needed else found


def _value(hint: object) -> Schema:
    hint = required(hint)
    if get_origin(hint) is tuple:
        one = _value(get_args(hint)[0])
        many: Schema = {"type": "array", "items": one}
        if get_args(hint)[0] is ServerConfig:
            return many
        return {"anyOf": [one, {**many, "minItems": 1, "uniqueItems": True}]}
    if get_origin(hint) is Mapping:
        name, each = get_args(hint)
        return {
            "type": "object",
            "propertyNames": _value(name),
            "additionalProperties": _value(each),
            "minProperties": 1,
        }
    if hint is ServerConfig:
        return {"anyOf": [_value(Address), _record(ServerConfig)]}
    if isinstance(hint, type) and issubclass(hint, Record):
        return _record(hint)
    return _scalar(hint)


def _scalar(hint: object) -> Schema:
    match constraint(hint):
        case Address():
            return _matching(rf"({_IP}|{_HOST}):{_PORT}")
        case Literally():
            return _matching(rf"{_IP}:{_PORT}")
        case Whole(low, high):
            return {"type": "integer", "minimum": low, "maximum": high}
        case Duration(low, high, zero):
            number: Schema = {"type": "number", "minimum": low, "maximum": high}
            either = [number, _matching(DURATION)]
            return {"anyOf": [{"const": 0}, *either] if zero else either}
        case Text(what, pattern):
            return {"description": what, **_matching(pattern)}
        case bool():
            return {"type": "boolean"}
        case tuple() as words:
            return {"enum": list(words)}
        case list() as options:
            return {"anyOf": [_scalar(option) for option in options]}
        case kind:
            raise TypeError(f"the model holds something that no schema stands for: {kind}")


def _matching(pattern: str) -> Schema:
    return {"type": "string", "pattern": f"^({pattern})$"}


def _plain(value: object) -> object:
    """Return a default as it would stand in the file."""
    if isinstance(value, float):
        return write(value) if value else 0
    return value


if __name__ == "__main__":
    print(render(), end="")
