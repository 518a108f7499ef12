"""Real shells complete lbproxy's command line with what `lbproxy completion` prints."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemon import Daemon, one_proxy
from tests.support.need import need
from tests.support.wait import FACTOR

SHELLS = {
    "bash": ("bash", "--norc", "--noprofile", "-i"),
    "zsh": ("zsh", "-f", "-i"),
}
SETUP = {
    "bash": "source ./script; bind 'set bell-style none'; bind 'set enable-bracketed-paste off'",
    "zsh": "autoload -U compinit; compinit -D; zstyle ':completion:*' completer _complete; source ./script",
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Return the environment of a shell that has an lbproxy, the scripts of this one, and a daemon with two servers."""
    directory = tmp_path_factory.mktemp("completion")
    (directory / "bin").mkdir()
    command = directory / "bin" / "lbproxy"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m lbproxy "$@"\n')
    command.chmod(0o755)
    (directory / "a-file.yaml").write_text("")
    with Daemon(one_proxy(["127.0.0.1:7001", "127.0.0.2:7002"])) as daemon:
        yield {
            "PATH": f"{directory}/bin:{os.environ['PATH']}", "HOME": str(directory), "TERM": "xterm", "PS1": "% ",
            "LBPROXY_CONTROL": str(daemon.control), "INPUTRC": "/dev/null", "LC_ALL": "C.UTF-8",
        }  # fmt: skip


def completed(shell: str, line: str, place: dict[str, str]) -> str:
    """Return the words that `line` has become, typed in a terminal, after the completion key."""
    need(shell)
    home = place["HOME"]
    script = subprocess.run(
        ["lbproxy", "completion", shell], env=place, capture_output=True, text=True, check=True, timeout=60 * FACTOR
    ).stdout
    Path(home, "script").write_text(script)
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        SHELLS[shell], env=place, cwd=home, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    ) as process:
        os.close(theirs)
        os.write(ours, f"{SETUP[shell]}; echo read''y\n".encode())
        said = _until(ours, "", r"ready\r?\n")
        # Ctrl-A goes to the beginning of the line, of which printf then shows the words.
        os.write(ours, f"{line}\t\x01printf '<%s>' \n".encode())
        found = _until(ours, said, r"\n\r?(?:\x1b\S*)?((?:<[^<>%]*>)+)")
        process.kill()
    os.close(ours)
    return found


def _until(terminal: int, said: str, pattern: str) -> str:
    """Read until `pattern` is there; returns what its group, or all of it, holds."""
    while not (found := re.search(pattern, said)):
        assert select.select([terminal], [], [], 30 * FACTOR)[0], said
        said += os.read(terminal, 65536).decode()
    return found[found.lastindex or 0]


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("lbproxy rebal", "<lbproxy><rebalance>"),
        ("lbproxy conns --so", "<lbproxy><conns><--sort>"),
        ("lbproxy drain 127.0.0.2", "<lbproxy><drain><127.0.0.2:7002>"),
        ("lbproxy drain 127.0.0.1:7", "<lbproxy><drain><127.0.0.1:7001>"),
        ("lbproxy check a-fi", "<lbproxy><check><a-file.yaml>"),
    ],
    ids=["command", "option", "server", "behind a colon", "file"],
)
def test_a_shell_completes(shell: str, line: str, expected: str, place: dict[str, str]) -> None:
    """Commands, options, the servers that the daemon has, and files where a file may stand."""
    assert completed(shell, line, place) == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("lbproxy rebal", ["rebalance\tclose quiet connections of servers that have too many, once"]),
        ("lbproxy drain ", ["127.0.0.1:7001", "127.0.0.2:7002"]),
        ("lbproxy check a-fi", ["a-file.yaml"]),
    ],
)
def test_fish_completes(line: str, expected: list[str], place: dict[str, str]) -> None:
    """It can be asked without a terminal."""
    need("fish")
    done = subprocess.run(
        ["fish", "--no-config", "-c", f"lbproxy completion fish | source; complete -C '{line}'"],
        env=place, cwd=place["HOME"], capture_output=True, text=True, timeout=60 * FACTOR,
    )  # fmt: skip
    assert done.stdout.splitlines() == expected, done.stderr
