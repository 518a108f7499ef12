"""Every command in the documents, held against what takes it: the parser, units, playbooks, the Makefile.

That they do what is said of them is for tests/process/test_documents.py, which runs those that a node can run.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from lbproxy.cli import _parser
from tests.support.documents import PAGES, ROOT, Block, blocks, name, parts, spans

LANGUAGES = {"sh", "console", "text", "yaml", "python"}
PLACEHOLDERS = {"DURATION": "1s", "TIME": "1s", "N": "1", "SHELL": "bash", "KEY": "age"}
OTHERS = {
    "apt-get", "bench/out/load", "cat", "cp", "curl", "dnf", "echo", "exit", "getent", "grep", "install", "kubeadm",
    "kubectl", "ln", "mkdir", "mv", "/opt/lbproxy/bin/pip", "perf", "printf", "py-spy", "python3", "sleep", "ss",
    "strace", "systemd-analyze", "systemd-sysusers", "systemd-tmpfiles", "tar",
}  # fmt: skip
"""Programs that are not ours: that they are spelled right is all that is known here."""


def _lbproxy(words: list[str]) -> bool:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            _parser().parse_args([PLACEHOLDERS.get(word, word) for word in words])
        except SystemExit as end:  # 0: --version and help
            return end.code == 0
    return True


def _bare(span: str) -> bool:
    """Whether it names a command of lbproxy, without what that must be given."""
    commands = next(action for action in _parser()._actions if isinstance(action, argparse._SubParsersAction))
    return span.removeprefix("lbproxy ") in commands.choices


def _systemctl(words: list[str]) -> bool:
    units = [word for word in words if word.startswith("lbproxy")]
    return all((ROOT / "systemd" / (unit if "." in unit else f"{unit}.service")).exists() for unit in units)


def _journalctl(words: list[str]) -> bool:
    return "-u" not in words or _systemctl([words[words.index("-u") + 1]])


def _make(words: list[str]) -> bool:
    targets = set(
        " ".join(re.findall(r"^([a-z][a-z -]*):(?!=)", (ROOT / "Makefile").read_text(), re.MULTILINE)).split()
    )
    return all("=" in word or word in targets for word in words)


def _playbook(words: list[str]) -> bool:
    files = [word for word in words if re.fullmatch(r"[\w-]+\.yml", word)]
    variables = (ROOT / "config/ansible/README.md").read_text()
    known = all(variable in variables for variable in re.findall(r"lbproxy_\w+", " ".join(words)))
    return bool(files) and known and all((ROOT / "config/ansible" / file).exists() for file in files)


def _switch(words: list[str]) -> bool:
    text = (ROOT / "packaging/switch").read_text()
    return all(f"{word})" in text for word in words if re.match("--|back|to-", word))


def _python(words: list[str]) -> bool:
    if words[0] == "-m":
        place = ROOT / words[1].replace(".", "/")
        return place.with_suffix(".py").exists() or (place / "__main__.py").exists()
    return words[0] == "-X" or (ROOT / words[0]).exists()


OURS: dict[str, Callable[[list[str]], bool]] = {
    "lbproxy": _lbproxy,
    "systemctl": _systemctl,
    "journalctl": _journalctl,
    "make": _make,
    "ansible-playbook": _playbook,
    "/usr/lib/lbproxy/switch": _switch,
    "python": _python,
}


def wrong(line: str) -> list[str]:
    """Return those commands of a line that nothing here takes."""
    found = []
    for program, *words in parts(line):
        if program in OURS:
            right = OURS[program](words)
        else:
            right = program in OTHERS or (program[0] == "." and (ROOT / program).exists())
        if not right:
            found.append(" ".join((program, *words)))
    return found


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_command_is_one_that_there_is(page: Path) -> None:
    """An option that is renamed, a playbook that is gone: whoever types it must not be the first to see."""
    found = [f"{block.place}: {each}" for block in blocks(page) for line in block.commands for each in wrong(line)]
    found += [f"{name(page)}: `{each}`" for span in spans(page) if not _bare(span) for each in wrong(span)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_block_says_what_it_is(page: Path) -> None:
    """A command in a block without a language, or in one that is only indented, would be passed over."""
    assert {block.language for block in blocks(page)} <= LANGUAGES
    text = page.read_text()
    for block in blocks(page):
        text = text.replace(block.text, "")
    assert not re.search(r"\n\n    (\$ |lbproxy |systemctl |make |ansible|python)", text)


@pytest.mark.parametrize(
    "line",
    [
        "lbproxy drian cp1",
        "lbproxy status --wait",
        "lbproxy check | lbproxy conns --sort size",
        "systemctl restart lbproxyd",
        "make dep",
        "ansible-playbook -i INVENTORY rollou.yml",
        "until lbproxy evens; do sleep 1; done",
        "/usr/lib/lbproxy/switch backwards",
        "rm -rf /etc/lbproxy",
    ],
)
def test_what_is_wrong_is_found(line: str) -> None:
    """A look that finds nothing wrong must be able to."""
    assert wrong(line)


def test_a_block_is_read_as_a_shell_does() -> None:
    """Comments, lines that go on, prompts and what is printed."""
    script = Block(ROOT / "README.md", 1, "sh", "# first\nlbproxy status \\\n    --json   # all of it\n\nmake deb\n")
    assert script.commands == ["lbproxy status     --json   # all of it", "make deb"]
    assert list(parts(script.commands[0])) == [["lbproxy", "status", "--json"]]
    assert Block(ROOT / "README.md", 1, "console", "$ make\nmade\n").commands == ["make"]
    assert list(parts("until a | b >c; do d; done && e")) == [["a"], ["b"], ["d"], ["e"]]
