"""The model against the contract's file: every key is shown in config/lbproxy.yaml, with its default."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import MISSING, FrozenInstanceError, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest

from lbproxy.config import model
from lbproxy.config.load import load, loads
from lbproxy.config.model import (
    Address,
    Config,
    Duration,
    HealthConfig,
    Literally,
    ProxyConfig,
    Rebalance,
    ServerConfig,
    Text,
    Whole,
)
from lbproxy.config.scalars import constraint, expects, members, read, required, write
from lbproxy.config.schema import descriptions

ROOT = Path(__file__).parents[3]
FILE = ROOT / "config" / "lbproxy.yaml"
PACKAGE = ROOT / "lbproxy"


RECORDS = get_args(model.Record)
KEYS = [(cls, field) for cls in RECORDS for field in fields(cls)]


def named(value: Any) -> str:
    """Return what a class or a field is called, for the name of a test."""
    return str(getattr(value, "__name__", None) or value.name)


@pytest.mark.parametrize(("record", "field"), KEYS, ids=named)
def test_the_commented_file_shows_every_key(record: type, field: Any) -> None:
    """In force, or commented out where the default is to have none."""
    optional = field.default is None or record is model.KubernetesSource
    key = rf"^ *(- |- {{)?{'(# )?' if optional else ''}{field.name}:( |$)"
    assert re.search(key, FILE.read_text(), re.MULTILINE), f"{record.__name__}.{field.name} is not shown"


def test_every_key_is_read_by_somebody() -> None:
    """One that nobody reads promises what does not happen; `balance` says what is done in any case."""
    files = [file for file in PACKAGE.rglob("*.py") if file.parent.name != "config"]
    nodes = [node for file in files for node in ast.walk(ast.parse(file.read_text()))]
    read = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    assert {field.name for _, field in KEYS} - read == {"balance"}


def test_every_mapping_of_the_file_is_a_record() -> None:
    """One that is forgotten would be read as a scalar."""
    classes = {value for value in vars(model).values() if isinstance(value, type) and is_dataclass(value)}
    assert classes - set(RECORDS) == {Address, Duration, Literally, Text, Whole}


def may_be_zero(kind: object) -> bool:
    """Tell whether 0 is a value beside those of a range, or at its lower end."""
    return (isinstance(kind, Duration) and kind.zero) or (isinstance(kind, Whole) and kind.low == 0)


@pytest.mark.parametrize(("record", "field"), KEYS, ids=named)
def test_every_key_has_its_line_and_says_what_0_means(record: type, field: Any) -> None:
    """It is what an editor shows, and all that a reader of the model has."""
    text = descriptions()[record.__name__, field.name]
    assert re.fullmatch(r"[A-Z][^\n]*\.", text)
    assert ("0 = " in text) == may_be_zero(constraint(required(members(record)[field.name])))


def test_the_commented_file_gives_every_default() -> None:
    """Without the examples (proxies' addresses, names, admin, health) it is the empty configuration."""
    config = load(str(FILE))
    proxy = config.proxies["kube-apiserver"]
    plain = ProxyConfig(
        listen=proxy.listen, servers=tuple(ServerConfig(address=s.address, name=s.name) for s in proxy.servers)
    )
    assert replace(proxy, health=None) == plain
    assert proxy.health == HealthConfig()
    assert replace(config, admin=None) == Config(proxies=config.proxies)
    assert list(map(str, config.admin.listen if config.admin else ())) == ["127.0.0.1:8081"]


def test_the_contracts_own_example_is_valid() -> None:
    """As the documentation shows it, `off`, `0` and all."""
    proxy = loads(CONTRACT, "f").proxies["kube-apiserver"]
    assert proxy == ProxyConfig(
        listen=(Address("127.0.0.1", 6443), Address("::1", 6443)),
        servers=(
            ServerConfig(address=Address("10.4.6.11", 6443)),
            ServerConfig(address=Address("10.4.6.12", 6443)),
            ServerConfig(address=Address("master3.example", 6443), name="m3"),
        ),
        rebalance=Rebalance(per_minute=0, quiet=10.0),
        health=HealthConfig(),
    )


DEFAULTS = [(cls, field) for cls, field in KEYS if field.default not in (MISSING, None, "", ())]


@pytest.mark.parametrize(("record", "field"), DEFAULTS, ids=named)
def test_every_default_is_a_value_that_a_file_may_give(record: type, field: Any) -> None:
    """Its limits admit it, and it has the type that reading gives: a duration is a float."""
    found = read(members(record)[field.name], write(field.default))
    assert (found, type(found)) == (field.default, type(field.default))


def values(hint: object) -> list[object]:
    """Return the hints of what is a scalar in the file, of all that `hint` holds."""
    hint = required(hint)
    if get_origin(hint) in (tuple, Mapping):
        return [each for part in get_args(hint) if part is not Ellipsis for each in values(part)]
    return [] if hint in RECORDS else [hint]


@pytest.mark.parametrize(("record", "field"), KEYS, ids=named)
def test_what_a_value_must_be_can_be_said_in_words(record: type, field: Any) -> None:
    """A mapping where an address belongs was an internal error, and at a start a traceback."""
    for hint in values(members(record)[field.name]):
        assert expects(hint)


def test_only_what_nobody_can_guess_must_be_given() -> None:
    """Everything else has a default."""
    needed = [
        f"{cls.__name__}.{field.name}"
        for cls, field in KEYS
        if field.default is MISSING and field.default_factory is MISSING
    ]
    assert needed == [
        "ServerConfig.address",
        "KubernetesSource.kubeconfig",
        "ProxyConfig.listen",
        "Admin.listen",
        "Config.proxies",
    ]


def test_limits_are_in_order() -> None:
    """A lower one below an upper one."""
    kinds = [constraint(hint) for cls in RECORDS for hint in members(cls).values()]
    bounded = [kind for kind in kinds if isinstance(kind, (Whole, Duration))]
    assert len(bounded) > 20
    assert all(kind.low < kind.high for kind in bounded)


def test_a_server_without_a_name_is_called_by_its_address() -> None:
    """IPv6 addresses keep their brackets."""
    assert ServerConfig(address=Address("::1", 1)).name == "[::1]:1"
    assert ServerConfig(address=Address("a", 1), name="m1").name == "m1"


def test_a_configuration_cannot_be_changed() -> None:
    """It is shared by everything that runs."""
    server = ServerConfig(address=Address("a", 1))
    with pytest.raises(FrozenInstanceError):
        server.weight = 2  # type: ignore[misc]


CONTRACT = """
workers: 1
control: /run/lbproxy/control.sock
shutdown_timeout: 10s
watch: true
admin:
  listen: 127.0.0.1:8081
node_id: auto
log:
  level: info
  format: text
  access: false
proxies:
  kube-apiserver:
    listen: [127.0.0.1:6443, "[::1]:6443"]
    servers:
      - 10.4.6.11:6443
      - {address: 10.4.6.12:6443, weight: 1, max_conns: 0, backup: false, down: false}
      - {name: m3, address: master3.example:6443}
    balance: least_conn
    connect_timeout: 1s
    connect_deadline: 3s
    idle_timeout: 10m
    max_fails: 1
    fail_timeout: 10s
    tcp_user_timeout: 10s
    keepalive: {idle: 5s, interval: 2s, count: 3}
    max_connections: 0
    proxy_protocol: off
    first_byte_timeout: 3s
    slow_start: 10s
    rebalance: {per_minute: 0, quiet: 10s}
    drain_timeout: 30s
    on_down: close
    health:
      type: https
      path: /readyz
      interval: 5s
      timeout: 2s
      rise: 2
      fall: 2
"""
