"""The man pages, as packaging makes them and man shows them."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lbproxy.cli import _parser
from lbproxy.config.schema import schema
from tests.support.need import need

ROOT = Path(__file__).parents[2]
PAGES = ("lbproxy.1", "lbproxy.yaml.5")


def shown(page: str, directory: Path) -> str:
    """Return a page as man shows it on a wide screen; what it has to complain of is a failure."""
    need("man")
    command = (sys.executable, ROOT / "packaging/manpages.py", ROOT, page)
    file = directory / page
    file.write_text(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    done = subprocess.run(
        ["man", "--warnings", "--encoding=ascii", "--local-file", file],
        env={"MANWIDTH": "1000", "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "MANROFFOPT": "-c"},
        capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return re.sub(r" +", " ", re.sub(r".\x08", "", done.stdout))


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_clean_and_says_whose_it_is(page: str, tmp_path: Path) -> None:
    """What cannot be set is a warning."""
    text = shown(page, tmp_path)
    assert text.startswith(page.rpartition(".")[0].upper())
    for title in ("NAME", "SEE ALSO"):
        assert f"\n{title}\n" in text


def test_every_command_and_option_is_in_lbproxy_1(tmp_path: Path) -> None:
    """With what it is for, and what it may be."""
    text = shown("lbproxy.1", tmp_path)
    (commands,) = (each for each in _parser()._actions if isinstance(each, argparse._SubParsersAction))
    for name, command in commands.choices.items():
        place = re.search(rf"^ lbproxy {name}\b.*\n(?:(?! lbproxy).*\n)*", text, re.MULTILINE)
        assert place, name
        for action in command._actions:
            if action.dest in ("help", "config", "control"):
                continue
            assert action.help, (name, action.dest)
            assert " ".join(action.help.split()) in place[0], (name, action.dest)
            assert all(each in place[0] for each in (*action.option_strings, *map(str, action.choices or ())))
    for variable in ("LBPROXY_CONTROL", "NO_COLOR"):
        assert variable in text


def _keys(record: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield every key of the schema with its full name and what it is for."""
    for name, value in record.get("properties", {}).items():
        yield f"{prefix}{name}", value.get("description", "")
        yield from _nested(value, f"{prefix}{name}")


def _nested(value: dict[str, Any], name: str) -> Iterator[tuple[str, str]]:
    yield from _keys(value, f"{name}.")
    if isinstance(value.get("additionalProperties"), dict):
        yield from _nested(value["additionalProperties"], f"{name}.NAME")
    if "items" in value:
        yield from _nested(value["items"], f"{name}[]")
    for option in value.get("anyOf", []):
        yield from _nested(option, name)


def test_every_key_is_in_lbproxy_yaml_5(tmp_path: Path) -> None:
    """With what it is for."""
    text = shown("lbproxy.yaml.5", tmp_path)
    lines = {line.strip() for line in text.splitlines()}
    keys = list(_keys(schema()))
    assert len(keys) > 50
    for name, told in keys:
        assert any(line == name or line.startswith(f"{name} ") for line in lines), name
        assert " ".join(told.split()) in text, name
