"""The part of requirements.lock that a purpose needs: the file holds what tests and compiling take, too.

`uv` writes below each pin who wants it (`# via anyio`); the parts are found along these lines, so that nothing need be
installed first to be asked.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
COMPILER: Final = ("mypy", "setuptools", "wheel")
"""What compiling and packing a wheel take, of what the lock may have."""


def runtime() -> str:
    """Return the pins, with their hashes, of what lbproxy imports, for `lbproxy import` too."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = (*project["dependencies"], *project["optional-dependencies"]["import"])
    return subset(map(_name, wanted))


def subset(wanted: Iterable[str]) -> str:
    """Return the pins of `wanted` and of all that they need, in the form of the file."""
    blocks = _blocks((ROOT / "requirements.lock").read_text())
    names, size = set(wanted), -1
    while size != len(names):
        size = len(names)
        names |= {name for name, block in blocks.items() if names & _via(block)}
    return "".join(block for name, block in blocks.items() if name in names)


def _blocks(text: str) -> dict[str, str]:
    """Return the text of each pin by name."""
    blocks = re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE)[1:]
    return {_name(block): block for block in blocks}


def _via(block: str) -> set[str]:
    """Return who wants it; one whom only the project wants has nobody here."""
    comment = block.partition("# via")[2]
    return set(re.findall(r"^[ #]*([a-z0-9-]+)\n", comment, re.MULTILINE))


def _name(requirement: str) -> str:
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert found, requirement
    return re.sub(r"[._-]+", "-", found[0]).lower()
