"""The commands that stand in the documents: in blocks of the languages sh and console, and between words."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "ARCHITECTURE.md", "bench/README.md")),
    ROOT / "config/ansible/README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_SPOKEN = re.compile(r"(lbproxy|systemctl|journalctl|make|ansible-playbook|/usr/lib/lbproxy/\S+) ")
_RESERVED = {"until", "while", "if", "do", "then", "else", "done", "fi", "!", "sudo"}


class Block(NamedTuple):
    """A fenced block."""

    page: Path
    line: int
    language: str
    text: str

    @property
    def place(self) -> str:
        """Where it stands."""
        return f"{name(self.page)}:{self.line}"

    @property
    def commands(self) -> list[str]:
        """What is to be typed, a command line each."""
        if self.language == "console":
            return re.findall(r"^\$ (.*)$", self.text, re.MULTILINE)
        if self.language != "sh":
            return []
        lines = self.text.replace("\\\n", "").splitlines()
        return [line for line in lines if line.strip() and not line.startswith("#")]


def name(page: Path) -> str:
    """Return a page's path in the repository."""
    return str(page.relative_to(ROOT))


def blocks(page: Path) -> Iterator[Block]:
    """Yield the blocks of a page."""
    text = page.read_text()
    for found in _FENCE.finditer(text):
        inside = re.sub(rf"^{found[1]}", "", found[3], flags=re.MULTILINE)
        yield Block(page, text[: found.start()].count("\n") + 1, found[2], inside)


def spans(page: Path) -> Iterator[str]:
    """Yield the commands that stand between words, without the brackets around what may be left out."""
    for found in re.findall(r"`([^`]+)`", _FENCE.sub("", page.read_text())):
        if _SPOKEN.match(found) and "..." not in found and "…" not in found:
            yield found.replace("[", "").replace("]", "").replace("\\|", "|")


def parts(line: str) -> Iterator[list[str]]:
    """Yield the commands that a command line consists of, as words."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|<>")
    lexer.whitespace_split = True
    words: list[str] = []
    skip = False
    for word in [*lexer, ";"]:
        if skip:  # the file behind < or >
            skip = False
        elif word in ("<", ">", ">>"):
            skip = True
        elif set(word) <= set(";&|"):
            if words:
                yield words
            words = []
        elif words or (word not in _RESERVED and "=" not in word):
            words.append(word)
