"""lbproxy.service as shipped, under a real systemd in namespaces of its own; servers and clients stand outside."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from tests.support.builds import build
from tests.support.need import need
from tests.support.wait import FACTOR, until

SCRIPT = Path(__file__).with_name("box.sh")
UNITS = Path(__file__).parents[2] / "systemd"
UNIT = "lbproxy.service"

_COMMAND = """#!/opt/venv/bin/python3 -P
import sys
sys.path.insert(0, "/opt/builds/current")
from lbproxy.cli import main
sys.exit(main())
"""


class Box:
    """A booted systemd; a context manager.

    `layer` is a directory of newer packages, `root` another distribution's root; `binds` goes in as it is.
    """

    def __init__(self, layer: str = "", binds: Mapping[Path, str] | None = None, root: str = "") -> None:
        self.layer = layer or os.environ.get("LBPROXY_TEST_LAYER", "")
        self.root = root
        self.binds = dict(binds or {})

    def __enter__(self) -> Self:
        need("systemd-analyze", "box")
        self._state = tempfile.mkdtemp(prefix=f"lbproxy-box-{os.getpid()}-")
        options = [f"--bind={source}:{target}" for source, target in self.binds.items()]
        if self.layer:
            options.append(f"--layer={self.layer}")
        if self.root:
            options.append(f"--root={self.root}")
        try:
            self._script("up", *options)
        except BaseException:
            self._script("down")
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._script("down")

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command inside; fails with what it printed unless `check` is off."""
        done = subprocess.run(["bash", SCRIPT, "exec", self._state, *command], capture_output=True, text=True,
                              timeout=120 * FACTOR)  # fmt: skip
        assert not check or done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    def outside(self, path: str) -> Path:
        """Return a path inside as it is reached from outside."""
        return Path(f"/proc/{Path(self._state, 'pid').read_text().strip()}/root{path}")

    def processes(self, below: str) -> list[int]:
        """Return the processes of a cgroup inside and those below it, as numbered outside."""
        group = Path(Path(self._state, "cgroup").read_text().strip(), below)
        return [int(pid) for procs in group.rglob("cgroup.procs") for pid in procs.read_text().split()]

    def write(self, path: str, text: str) -> None:
        """Write a file inside."""
        subprocess.run(["bash", SCRIPT, "exec", self._state, "tee", path], input=text, text=True, check=True,
                       stdout=subprocess.DEVNULL)  # fmt: skip

    def _script(self, command: str, *options: str) -> None:
        done = subprocess.run(["bash", SCRIPT, command, self._state, *options], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


class Unit(Box):
    """A box with lbproxy.service in it."""

    def start(self) -> None:
        """Start it, and wait until it is ready."""
        self.systemctl("start")

    def systemctl(self, verb: str, *options: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run `systemctl VERB lbproxy`."""
        return self.run("systemctl", verb, *options, UNIT, check=check)

    def show(self, name: str) -> str:
        """Return a property of the unit."""
        return self.run("systemctl", "show", "--value", "-p", name, UNIT).stdout.strip()

    def lbproxy(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run the command line inside."""
        return self.run("/usr/bin/lbproxy", *arguments, check=check)

    def status(self) -> dict[str, Any]:
        """Return the status JSON."""
        found: dict[str, Any] = json.loads(self.lbproxy("status", "--json").stdout)
        return found

    def conns(self) -> list[dict[str, Any]]:
        """Return the open connections."""
        found: list[dict[str, Any]] = json.loads(self.lbproxy("conns", "--json").stdout)
        return found

    def pid(self) -> int:
        """Return the main process, as numbered inside."""
        return int(self.show("MainPID"))

    def kill(self, number: str) -> None:
        """Send a signal (its name without SIG) to the main process, and wait until another one is ready."""
        old = self.pid()
        self.run("kill", f"-{number}", str(old))
        until(lambda: self.pid() not in (0, old) and self.show("ActiveState") == "active", "a new process is ready", 60)

    def memory(self) -> int:
        """Return the PSS of the main process in KiB."""
        text = self.run("cat", f"/proc/{self.pid()}/smaps_rollup").stdout
        found = re.search(r"^Pss: +(\d+) kB", text, re.MULTILINE)
        assert found, text
        return int(found[1])

    def log(self) -> str:
        """Return what the journal has of the unit."""
        self.run("journalctl", "--sync", check=False)
        return self.run("journalctl", "-u", UNIT, "-o", "short-precise", "--no-pager", check=False).stdout


class Service(Unit):
    """The unit as shipped, installed and started with `config` (a dict as in the file).

    The interpreter and the dependencies of the running tests are bound into /opt, because the unit sees nobody's home.
    `drop_in` are lines for its [Service] section.
    """

    def __init__(self, config: Mapping[str, Any], drop_in: str = "", layer: str = "") -> None:
        super().__init__(layer)
        self._first = config
        self._drop_in = drop_in

    def __enter__(self) -> Self:
        self._files = tempfile.TemporaryDirectory(prefix=f"lbproxy-service-{os.getpid()}-")
        self.dir = Path(self._files.name)
        self.dir.chmod(0o755)
        try:
            self._prepare()
            super().__enter__()
        except BaseException:
            self._files.cleanup()
            raise
        try:
            self.run("systemd-sysusers", "/etc/lbproxy.sysusers")
            self.run("systemd-tmpfiles", "--create", "/etc/lbproxy.tmpfiles")
            self.run("systemctl", "daemon-reload")
            self.start()
        except BaseException:
            print(self.log())
            self.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is not None:
            print(self.log())
        super().__exit__(kind, error, at)
        self._files.cleanup()

    def _prepare(self) -> None:
        (self.dir / "etc").mkdir()
        self.rewrite(self._first)
        (self.dir / "builds").mkdir()
        self.build("first")
        self.install("first")
        command = self.dir / "lbproxy"
        command.write_text(_COMMAND)
        command.chmod(0o755)
        venv = self.dir / "venv"
        (venv / "bin").mkdir(parents=True)
        (venv / "bin" / "python3").symlink_to(f"/opt/python/bin/{Path(os.path.realpath(sys.executable)).name}")
        (venv / "pyvenv.cfg").write_text("home = /opt/python/bin\ninclude-system-site-packages = false\n")
        packages = sysconfig.get_path("purelib")
        (self.dir / "drop-in.conf").write_text(
            f"[Service]\nEnvironment=LD_LIBRARY_PATH=/opt/python/lib\n{self._drop_in}\n"
        )
        self.binds |= {
            Path(sys.base_prefix): "/opt/python",
            venv: "/opt/venv",
            Path(packages): f"/opt/venv/lib/python{sysconfig.get_python_version()}/site-packages",
            self.dir / "builds": "/opt/builds",
            self.dir / "etc": "/etc/lbproxy",
            command: "/usr/bin/lbproxy",
            UNITS / UNIT: f"/etc/systemd/system/{UNIT}",
            UNITS / "lbproxy.slice": "/etc/systemd/system/lbproxy.slice",
            UNITS / "lbproxy.sysusers": "/etc/lbproxy.sysusers",
            UNITS / "lbproxy.tmpfiles": "/etc/lbproxy.tmpfiles",
            self.dir / "drop-in.conf": f"/etc/systemd/system/{UNIT}.d/test.conf",
        }

    # -- builds ------------------------------------------------------------------------------------------------------

    def build(self, name: str, version: str = "", changes: dict[str, tuple[str, str]] | None = None) -> None:
        """Make a build of that name; see `builds.build`."""
        build(self.dir / "builds" / name, version, changes)

    def install(self, name: str) -> None:
        """Have /usr/bin/lbproxy be that build from now on."""
        new = self.dir / "builds" / "new"
        new.symlink_to(name)
        new.rename(self.dir / "builds" / "current")

    def rewrite(self, config: Mapping[str, Any] | str) -> None:
        """Replace the configuration file, atomically; in a dict, a change of the file is not watched for."""
        text = config if isinstance(config, str) else yaml.safe_dump({"watch": False, **config}, sort_keys=False)
        new = self.dir / "etc" / "new"
        new.write_text(text)
        new.chmod(0o644)
        new.rename(self.dir / "etc" / "lbproxy.yaml")
