"""In which form lbproxy runs, compiled or plain, and the words in which it is told."""

from __future__ import annotations

import os
import sys
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from typing import Final

from lbproxy import __version__

FOLDERS: Final = ("balance", "net", "relay", "proxy")
"""Whose modules are compiled, all of them: who inherits from a compiled class must be compiled too."""
NOT_COMPILED: Final = ("__init__", "plain")
"""But for these: of `net.plain` the C in net/csrc takes the place, as `net._syscalls`."""
REASON: Final = "not_compiled.txt"
"""Where the build leaves word, in the package, of why it did not compile."""
PYTHON: Final = sys.version.split()[0]
_PACKAGE: Final = os.path.dirname(__file__)


def form_of(package: str) -> str:
    """Return `compiled`, `plain`, or `partly compiled`, which is what a build that has broken off leaves behind."""
    folders = [os.path.join(package, folder) for folder in FOLDERS]
    there = [_is_there(folder, stem) for folder in folders for stem in _stems(folder)]
    there.append(_is_there(os.path.join(package, "net"), "_syscalls"))
    if all(there):
        return "compiled"
    return "partly compiled" if any(there) else "plain"


def told(version: str, form: str, python: str) -> str:
    """Return what runs, in the words that are the same everywhere."""
    return f"lbproxy {version} ({form}, Python {python})"


@cache
def form() -> str:
    """Return the form of what runs; found out when somebody asks, for it is a look at a hundred files."""
    return form_of(_PACKAGE)


def this() -> str:
    """Return in words what runs."""
    return told(__version__, form(), PYTHON)


def why_plain(package: str = _PACKAGE) -> str:
    """Return what stood in the way of the compiled form and what to do about it, if the build has left word of it."""
    try:
        with open(os.path.join(package, REASON)) as file:
            return file.read().strip()
    except OSError:
        return ""


def _stems(folder: str) -> list[str]:
    sources = [name.removesuffix(".py") for name in os.listdir(folder) if name.endswith(".py")]
    return [stem for stem in sources if stem not in NOT_COMPILED]


def _is_there(folder: str, stem: str) -> bool:
    return any(os.path.exists(os.path.join(folder, stem + suffix)) for suffix in EXTENSION_SUFFIXES)
