"""The JSON Schema against the model, the files in config/ and what `load` says."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given, settings

from lbproxy.config.load import loads
from lbproxy.config.model import Config
from lbproxy.config.schema import render, schema
from lbproxy.errors import ConfigError
from tests.unit.config.strategies import configs, written

ROOT = Path(__file__).parents[3]
DATA = ROOT / "tests" / "data" / "config"
VALIDATOR = jsonschema.Draft202012Validator(schema())

UNREADABLE = {
    "syntax", "tab", "tag", "escape-too-large", "nul", "latin1", "utf16", "two-documents", "key-is-a-list",
}  # fmt: skip
"""Bad files that give no data to validate."""

BEYOND = {
    # gone once YAML has been read
    "duplicate-key", "duplicate-proxy", "anchor", "weight-octal",
    # nothing that a pattern can tell
    "address-port-large", "address-ipv6-wrong", "address-ipv4-wrong", "address-wildcard", "address-host-label",
    "duration-range", "duration-zero-allowed",
    # between keys, or in other files
    "listen-twice", "listen-admin", "server-twice", "loop", "loop-wildcard", "deadline", "deadline-given",
    "cert-without-key", "key-without-cert", "unreadable-files",
}  # fmt: skip
"""Bad files that a schema can have nothing against."""


class Yaml12(yaml.SafeLoader):
    """Reads as editors do, by YAML 1.2: `off` is a word, and only true and false are booleans."""


Yaml12.yaml_implicit_resolvers = {}
for kind, pattern, first in (
    ("bool", r"true|false", "tf"),
    ("int", r"-?[0-9]+", "-0123456789"),
    ("float", r"-?[0-9]+\.[0-9]+", "-0123456789"),
    ("null", r"~|null|", ["~", "n", ""]),
):
    Yaml12.add_implicit_resolver(f"tag:yaml.org,2002:{kind}", re.compile(f"(?:{pattern})$"), list(first))


def data(path: Path) -> Any:
    """Return the plain data in a YAML file."""
    return yaml.load(path.read_text(), Yaml12)  # noqa: S506 - a SafeLoader


def test_the_file_is_what_the_model_gives() -> None:
    """To renew it: python -m lbproxy.config.schema > config/lbproxy.schema.json."""
    assert (ROOT / "config" / "lbproxy.schema.json").read_text() == render()
    assert json.loads(render()) == schema()


def test_the_schema_is_a_schema() -> None:
    """Of the draft that it names."""
    jsonschema.Draft202012Validator.check_schema(schema())
    assert schema()["$schema"] == jsonschema.Draft202012Validator.META_SCHEMA["$id"]


@pytest.mark.parametrize("name", ["lbproxy.yaml", "minimal.yaml"])
def test_the_example_files_are_valid(name: str) -> None:
    """And point editors at the schema beside them."""
    path = ROOT / "config" / name
    VALIDATOR.validate(data(path))
    first = path.read_text().splitlines()[0]
    assert first == "# yaml-language-server: $schema=lbproxy.schema.json"


MARKED = [path for path in sorted(DATA.glob("bad-*.yaml")) if path.stem[4:] not in UNREADABLE | BEYOND]


@pytest.mark.parametrize("path", MARKED, ids=lambda path: path.stem)
def test_what_load_refuses_an_editor_marks(path: Path) -> None:
    """As far as a schema can tell."""
    assert not VALIDATOR.is_valid(data(path))


@pytest.mark.parametrize("name", sorted(BEYOND))
def test_what_an_editor_cannot_mark_is_known(name: str) -> None:
    """A file that the schema has come to refuse is no longer listed."""
    VALIDATOR.validate(data(DATA / f"bad-{name}.yaml"))


@settings(max_examples=50)
@given(configs())
def test_what_load_takes_is_valid(config: Config) -> None:
    """Whatever is in it."""
    VALIDATOR.validate(written(config, terse=False))


@pytest.mark.parametrize(
    ("key", "value", "fine"),
    [
        ("workers", 1, True), ("workers", "auto", True), ("workers", 0, False), ("workers", 1.5, False),
        ("watch", True, True), ("watch", "maybe", False),
        ("shutdown_timeout", 0, True), ("shutdown_timeout", 0.05, False), ("shutdown_timeout", "10 s", False),
        ("shutdown_timeout", "1.5s", True), ("shutdown_timeout", "-1s", False), ("shutdown_timeout", 86401, False),
        ("control", "", False), ("node_id", "a\tb", False), ("log", {"level": "warn"}, False), ("log", {}, True),
        ("admin", {"listen": "localhost:1"}, False), ("admin", {"listen": "[::1]:1"}, True),
        ("admin", {"listen": ["[::1]:1", "127.0.0.1:1"], "probes": "0.0.0.0:2"}, True),
        ("admin", {"listen": []}, False),
        ("admin", {"probes": "0.0.0.0:2"}, False), ("admin", {}, False),
        ("admin", None, False),
    ],
)  # fmt: skip
def test_load_and_schema_are_of_one_mind(key: str, value: Any, fine: bool) -> None:
    """About limits, words, and what may be left out."""
    whole = {"proxies": {"a": {"listen": "127.0.0.1:9", "servers": ["10.4.6.11:6443"]}}, key: value}
    assert VALIDATOR.is_valid(whole) is fine
    assert takes(whole) is fine


def takes(whole: dict[str, Any]) -> bool:
    """Tell whether `load` takes it."""
    try:
        return bool(loads(json.dumps(whole), "f"))
    except ConfigError:
        return False


def test_defaults_are_written_as_in_the_file() -> None:
    """An editor offers `10m` and not 600.0."""
    keys = schema()["properties"]["proxies"]["additionalProperties"]["properties"]
    assert keys["idle_timeout"]["default"] == "10m"
    assert (keys["slow_start"]["default"], keys["max_fails"]["default"], keys["on_down"]["default"]) == (
        "10s",
        1,
        "close",
    )
