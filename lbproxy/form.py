"""In which form lbproxy runs, compiled or plain, and the words in which it is told."""

from __future__ import annotations

import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Final

from lbproxy import __version__

FOLDERS: Final = ("balance", "net", "relay", "proxy")
"""Whose modules are compiled, all of them: who inherits from a compiled class must be compiled too."""
NOT_COMPILED: Final = ("__init__", "plain")
"""But for these: of `net.plain` the C in net/csrc takes the place, as `net._syscalls`."""
REASON: Final = "not_compiled.txt"
"""Where the build leaves word, in the package, of why it did not compile."""
PYTHON: Final = sys.version.split()[0]
_PACKAGE: Final = Path(__file__).parent


def form_of(package: Path) -> str:
    """Return `compiled`, `plain`, or `partly compiled`, which is what a build that has broken off leaves behind."""
    there = [_is_there(package / folder / stem) for folder in FOLDERS for stem in _stems(package / folder)]
    there.append(_is_there(package / "net" / "_syscalls"))
    if all(there):
        return "compiled"
    return "partly compiled" if any(there) else "plain"


def told(version: str, form: str, python: str) -> str:
    """Return what runs, in the words that are the same everywhere."""
    return f"lbproxy {version} ({form}, Python {python})"


def why_plain(package: Path = _PACKAGE) -> str:
    """Return what stood in the way of the compiled form and what to do about it, if the build has left word of it."""
    try:
        return (package / REASON).read_text().strip()
    except OSError:
        return ""


def _stems(folder: Path) -> list[str]:
    return [file.stem for file in folder.glob("*.py") if file.stem not in NOT_COMPILED]


def _is_there(module: Path) -> bool:
    return any(module.with_name(module.name + suffix).exists() for suffix in EXTENSION_SUFFIXES)


FORM: Final = form_of(_PACKAGE)
THIS: Final = told(__version__, FORM, PYTHON)
