"""What may come next on a command line; tests/process/test_completion.py has the shells ask."""

from __future__ import annotations

import argparse

import pytest

from lbproxy.cli import _parser
from lbproxy.completion import following


def words(line: str) -> list[str]:
    """Return what may stand at the end of `line`; there are two servers, and another daemon has a third."""

    def servers(given: argparse.Namespace) -> list[str]:
        return ["other"] if getattr(given, "control", "") == "/x" else ["m1:6443", "m2:6443"]

    return [word for word, _ in following(_parser(), line, servers)]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("lbproxy re", ["reload", "ready", "rebalance"]),
        ("lbproxy -c file re", ["reload", "ready", "rebalance"]),
        ("lbproxy --config=file --control x reb", ["rebalance"]),
        ("lbproxy zzz", []),
        ("lbproxy drain ", ["m1:6443", "m2:6443"]),
        ("lbproxy drain m2", ["m2:6443"]),
        ("lbproxy drain --force ", ["m1:6443", "m2:6443"]),
        ("lbproxy drain m1:6443 ", []),
        ("lbproxy --control /x drain ", ["other"]),
        ("lbproxy drain --control=/x ", ["other"]),
        ("lbproxy conns --s", ["--sort"]),
        ("lbproxy conns --sort ", ["age", "idle", "in", "out", "client", "server", "process"]),
        ("lbproxy conns --sort i", ["idle", "in"]),
        ("lbproxy conns --sort idle --", ["--help", "--config", "--control", "--json", "--watch"]),
        ("lbproxy import --from ", ["nginx", "haproxy"]),
        ("lbproxy completion ", ["bash", "zsh", "fish"]),
        ("lbproxy help dr", ["drain"]),
        ("lbproxy check ", []),
        ("lbproxy check -c ", []),
        ("lbproxy status --wait ", []),
        ("lbproxy events ", []),
        ("lbproxy nothing such ", []),
    ],
)
def test_what_may_come_next(line: str, expected: list[str]) -> None:
    """Commands, options that are not there yet, values that are known; nothing where a file may stand."""
    assert words(line) == expected


def test_every_command_and_every_option_of_it_is_offered() -> None:
    """Also one that is added tomorrow."""
    (commands,) = (each for each in _parser()._actions if isinstance(each, argparse._SubParsersAction))
    assert words("lbproxy ") == list(commands.choices)
    for name, command in commands.choices.items():
        options = {action.option_strings[-1] for action in command._actions if action.option_strings}
        assert set(words(f"lbproxy {name} -")) == options
