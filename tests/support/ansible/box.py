"""Ansible's connection into a box (tests/support/box.sh): the variable `box` is the directory of its state."""

import subprocess
from pathlib import Path

from ansible.errors import AnsibleError
from ansible.plugins.connection import ConnectionBase

DOCUMENTATION = """
name: box
short_description: Run in a box
description: Enters the namespaces of a booted systemd.
options:
  state:
    description: The directory of its state.
    vars: [{name: box}]
"""

SCRIPT = Path(__file__).parents[1] / "box.sh"


class Connection(ConnectionBase):
    """Every command is a child of this process that has entered the box."""

    transport = "box"
    has_pipelining = True

    def _connect(self):
        self._connected = True
        return self

    def _run(self, *command, **options):
        return subprocess.run(
            ["bash", SCRIPT, "exec", self.get_option("state"), *command], capture_output=True, **options
        )

    def exec_command(self, cmd, in_data=None, sudoable=True):
        super().exec_command(cmd, in_data=in_data, sudoable=sudoable)
        done = self._run("/bin/sh", "-c", cmd, **({"input": in_data} if in_data else {"stdin": subprocess.DEVNULL}))
        return done.returncode, done.stdout, done.stderr

    def put_file(self, in_path, out_path):
        super().put_file(in_path, out_path)
        done = self._run("dd", "status=none", f"of={out_path}", input=Path(in_path).read_bytes())
        if done.returncode:
            raise AnsibleError(f"{out_path}: {done.stderr.decode()}")

    def fetch_file(self, in_path, out_path):
        super().fetch_file(in_path, out_path)
        Path(out_path).write_bytes(self._run("cat", in_path).stdout)

    def close(self):
        self._connected = False
