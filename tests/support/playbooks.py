"""config/ansible, run by ansible-playbook against boxes."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.support.need import ANSIBLE, need
from tests.support.wait import FACTOR

HERE = Path(__file__).parents[2] / "config/ansible"
_RECAP = re.compile(r"^(\S+) +: ok=\d+ +changed=(\d+) +unreachable=(\d+) +failed=(\d+)", re.MULTILINE)


@dataclass(frozen=True)
class Played:
    """What a run has printed, and what it has `changed`, by host; those on which it has `failed`."""

    text: str
    changed: Mapping[str, int]
    failed: list[str]


class Playbooks:
    """The playbooks, for `hosts`: variables by name, in the groups that kubespray has."""

    def __init__(self, directory: Path, **groups: Mapping[str, Mapping[str, Any]]) -> None:
        need("ansible")
        self._directory = directory
        self._inventory = directory / "inventory.yml"
        children = {name: {"hosts": dict(hosts)} for name, hosts in groups.items()}
        self._inventory.write_text(yaml.safe_dump({"all": {"children": children}}))

    def play(self, name: str, *options: str, fails: bool = False, **variables: Any) -> Played:
        """Run a playbook with `variables`, and see whether it `fails`."""
        need("python3-apt")
        file = self._directory / "variables.yml"
        file.write_text(yaml.safe_dump(variables))
        done = self._run("ansible-playbook", "-i", str(self._inventory), "-e", f"@{file}", f"{name}.yml", *options)
        found = _RECAP.findall(done.stdout)
        assert found, done.stdout + done.stderr
        failed = [host for host, _, unreachable, failures in found if int(unreachable) or int(failures)]
        assert bool(failed) is fails is (done.returncode != 0), done.stdout + done.stderr
        return Played(done.stdout, {host: int(changed) for host, changed, _, _ in found}, failed)

    def lint(self) -> subprocess.CompletedProcess[str]:
        """Run ansible-lint."""
        return self._run("ansible-lint", "--offline", "--profile", "production", ".")

    def _run(self, *command: str) -> subprocess.CompletedProcess[str]:
        environ = {
            "ANSIBLE_CONNECTION_PLUGINS": str(Path(__file__).with_name("ansible")),
            "ANSIBLE_HOME": str(self._directory / "home"),
            "ANSIBLE_LOCAL_TEMP": str(self._directory / "temporary"),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_PIPELINING": "1",
            "PATH": f"{ANSIBLE}:{os.environ['PATH']}",
        }
        return subprocess.run(command, cwd=HERE, env={**os.environ, **environ}, capture_output=True, text=True,
                              stdin=subprocess.DEVNULL, timeout=240 * FACTOR)  # fmt: skip
