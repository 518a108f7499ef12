"""A box into which the package is installed, as `make deb` and `make rpm` have staged it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self

import pytest
import yaml

from tests.support.box import Unit

ROOT = os.environ.get("LBPROXY_TEST_ROOT", "")
"""Another distribution's root, to install the package in; else that of this machine, which is not touched."""
_SOURCES = Path(__file__).parents[2]
_PYTHON = Path(ROOT or "/", "usr/bin/python3").resolve().name
_TAG = _PYTHON.replace("python", "py")
_STAGED = _SOURCES / f"build/packaging/{_TAG}-root"
_VERSION = re.compile(r'^__version__ = "(.+)"$', re.MULTILINE)
_MACHINE = ("Name: machine", "Version: 1", "Release: 1", "Summary: This machine", "License: none", "BuildArch: noarch")


def _lacks(what: str) -> NoReturn:
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI must have everything: {what}")
    pytest.skip(what)


class Packages:
    """Packages of the staged tree: of its own version, and of others."""

    def __init__(self, directory: Path) -> None:
        if not _STAGED.is_dir():
            _lacks("the package is not built: make packages")
        self.directory = directory
        self._packed: dict[tuple[str, str], str] = {}
        self.version = self._find(_STAGED)

    def bundle(self) -> Path:
        """Return the archive for an installation without a network."""
        found = list(_SOURCES.glob(f"dist/lbproxy-{self.version}-{_TAG}-*.tar.gz"))
        return found[0] if found else _lacks("the bundle is not built: make packages")

    def file(self, kind: str, version: str = "") -> Path:
        """Return the path of a package outside of the boxes; see `pack`."""
        return self.directory / Path(self.pack(kind, version)).name

    def pack(self, kind: str, version: str = "") -> str:
        """Return the path inside of a box of a package; with another version, of the same tree otherwise."""
        if (kind, version) not in self._packed:
            self._packed[kind, version] = self._pack(kind, version)
        return self._packed[kind, version]

    def _pack(self, kind: str, version: str) -> str:
        root = _STAGED
        if version:
            root = self.directory / version
            if not root.exists():
                shutil.copytree(_STAGED, root)
                self._rename(root, version)
        command = [sys.executable, "packaging/build.py", "--staged", str(root), "--target", str(self.directory), kind]
        made = subprocess.run(command, cwd=_SOURCES, capture_output=True, text=True)
        assert made.returncode == 0, made.stderr
        return f"/srv/packages/{Path(made.stdout.strip()).name}"

    def machine(self) -> str:
        """Return the path inside of a box of a package that provides what the .rpm needs, and has nothing in it.

        rpm knows nothing of what dpkg has installed.
        """
        asked = subprocess.run(["rpm", "-qpR", self.file("rpm")], capture_output=True, text=True, check=True).stdout
        provides = [f"Provides: {each}" for each in asked.splitlines() if not each.startswith("rpmlib(")]
        spec = self.directory / "machine.spec"
        spec.write_text("\n".join([*_MACHINE, *provides, "%description", "What dpkg has.", "%files", ""]))
        command = [
            "rpmbuild",
            "-bb",
            f"--define=_topdir {self.directory}/rpmbuild",
            f"--define=_rpmdir {self.directory}",
        ]
        subprocess.run([*command, spec], capture_output=True, check=True)
        return "/srv/packages/noarch/machine-1-1.noarch.rpm"

    @staticmethod
    def _find(root: Path) -> str:
        found = _VERSION.search((root / "usr/lib/lbproxy/lbproxy/__init__.py").read_text())
        assert found
        return found[1]

    @staticmethod
    def _rename(root: Path, version: str) -> None:
        file = root / "usr/lib/lbproxy/lbproxy/__init__.py"
        file.write_text(_VERSION.sub(f'__version__ = "{version}"', file.read_text()))
        for compiled in file.parent.glob("__pycache__/__init__.*"):  # it holds without a look at the source
            compiled.unlink()


class Packaged(Unit):
    """A box that sees `packages` in /srv/packages; nothing is installed at first."""

    def __init__(self, packages: Packages, bundle: bool = False) -> None:
        binds = {packages.directory: "/srv/packages"}
        if bundle:
            binds[packages.bundle()] = "/srv/bundle.tar.gz"
        super().__init__(binds=binds, root=ROOT)

    def __enter__(self) -> Self:
        super().__enter__()
        self.run("rm", "-f", "/usr/sbin/policy-rc.d")  # images of containers have it, to keep packages from starting
        return self

    def configure(self, config: Mapping[str, Any]) -> None:
        """Write the configuration file."""
        self.run("mkdir", "-p", "/etc/lbproxy")
        self.write("/etc/lbproxy/lbproxy.yaml", yaml.safe_dump(dict(config), sort_keys=False))

    def dpkg(self, *arguments: str) -> str:
        """Run dpkg; returns what it and the package's scripts have said."""
        done = self.run("dpkg", "--no-triggers", *arguments)  # man-db's goes over all pages of this machine
        return done.stdout + done.stderr

    def files(self) -> set[str]:
        """Return every file where a package may have some, but for what systemd and dpkg write all the time."""
        busy = ("/run/systemd", "/run/log", "/run/udev", "/var/lib/dpkg", "/var/log")
        skipped = [word for path in busy for word in ("-path", path, "-prune", "-o")]
        return set(self.run("find", "/etc", "/usr", "/var", "/run", *skipped, "-print").stdout.splitlines())

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is not None:
            print(self.log())
        super().__exit__(kind, error, at)
