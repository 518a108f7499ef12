"""What pip builds lbproxy with: setuptools, and mypy's compiler too where it will be of use."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from compiler import WANTED, obstacle
from setuptools import build_meta
from setuptools.build_meta import *  # noqa: F403  (the hooks that stay as they are)

Settings = dict[str, Any] | None


def get_requires_for_build_wheel(config_settings: Settings = None) -> list[str]:
    """Return what a wheel takes beyond setuptools: mypy, as the lock pins it, unless nothing can be compiled."""
    return [*build_meta.get_requires_for_build_wheel(config_settings), *_mypy(WANTED != "0")]


def get_requires_for_build_editable(config_settings: Settings = None) -> list[str]:
    """Return the same for an installation that leaves the sources where they are, which is compiled only if asked."""
    return [*build_meta.get_requires_for_build_editable(config_settings), *_mypy(WANTED == "1")]


def _mypy(wanted: bool) -> list[str]:
    if not wanted or obstacle():
        return []
    lock = (Path(__file__).parents[2] / "requirements.lock").read_text()
    version = re.search(r"^mypy==(\S+)", lock, re.MULTILINE)
    return [f"mypy[mypyc]=={version[1]}" if version else "mypy[mypyc]"]
