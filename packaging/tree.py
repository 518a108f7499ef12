"""The files of a package, under a directory that stands for /: the tree /usr/lib/lbproxy and what the system looks for.

In the tree are lbproxy, compiled, and its dependencies as requirements.lock pins them; nothing of the machine's own
site-packages is used (-S: nor is what stands in its .pth files run), and nothing of the tree is seen by other programs.
"""

from __future__ import annotations

import gzip
import re
import shutil
from pathlib import Path
from typing import Final

import lock
from wheel import BUILD, pip, run, tag, venv

TREE: Final = "usr/lib/lbproxy"
DOC: Final = "usr/share/doc/lbproxy"
_COMMAND: Final = """\
#!{interpreter} -IS
import sys

sys.path.insert(0, "/{tree}")
from lbproxy.cli import main

sys.exit(main())
"""
_UNITS: Final = ("lbproxy.service", "lbproxy.socket", "lbproxy.slice")
_COMPLETIONS: Final = {
    "bash": ("bash-completion/completions/lbproxy",),
    "zsh": ("zsh/vendor-completions/_lbproxy", "zsh/site-functions/_lbproxy"),
    "fish": ("fish/vendor_completions.d/lbproxy.fish",),
}
_PRESET: Final = "enable lbproxy.service\ndisable lbproxy.socket\n"


def make(python: Path, wheel: Path) -> Path:
    """Put everything in its place: `wheel`, built for `python`, which will run it. Returns the directory."""
    name = tag(python)
    root = BUILD / f"{name}-root"
    shutil.rmtree(root, ignore_errors=True)
    packages = root / TREE
    report = _install(python, wheel, packages)
    run(python, "-I", lock.ROOT / "packaging/inventory.py", packages, root / DOC, report)
    _slim(packages)
    _compile(python, packages)
    _write(root / "usr/bin/lbproxy", _COMMAND.format(interpreter=python, tree=TREE), 0o755)
    _system(root)
    _documents(python, root, packages)
    _completions(python, root, packages)
    return root


def version(root: Path) -> str:
    """Return the version of the lbproxy in `root`."""
    found = re.search(r'^__version__ = "(.+)"', (root / TREE / "lbproxy/__init__.py").read_text(), re.MULTILINE)
    assert found
    return found[1]


def interpreter(root: Path) -> str:
    """Return the path of the interpreter that runs what is in `root`."""
    return (root / "usr/bin/lbproxy").read_text().split()[0].removeprefix("#!")


def glibc(root: Path) -> str:
    """Return the oldest C library that has all the symbols which the compiled modules ask for."""
    asked = {found for so in root.rglob("*.so") for found in re.findall(rb"GLIBC_2\.(\d+)", so.read_bytes())}
    return f"2.{max(map(int, asked))}"


def _install(python: Path, wheel: Path, target: Path) -> Path:
    """Install the wheel and its dependencies there; returns pip's report of what came from where."""
    pins = BUILD / "runtime.txt"
    pins.write_text(lock.runtime())
    report = BUILD / "report.json"
    interpreter = venv("installer", python, "") / "python"
    options = ("install", "--no-deps", "--no-compile", "--target", target)
    pip(interpreter, *options, "--require-hashes", "--only-binary", ":all:", "--report", report, "-r", pins)
    pip(interpreter, *options, "--upgrade", wheel)  # for the directory of commands, which is there by now
    return report


def _slim(packages: Path) -> None:
    """Take away what only pip and a debugger want."""
    shutil.rmtree(packages / "bin", ignore_errors=True)
    for name in ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json"):
        for file in packages.glob(f"*.dist-info/{name}"):
            file.unlink()
    for file in (*packages.rglob("*.c"), *packages.rglob("*.pyx"), *packages.rglob("*.pxd"), *packages.rglob("*.pyi")):
        file.unlink()
    run("strip", "--strip-unneeded", *packages.rglob("*.so"))


def _compile(python: Path, packages: Path) -> None:
    """Write the .pyc, which the service may not. They hold without a look at the source's time: packing changes it."""
    options = ("-q", "-f", "--invalidation-mode", "unchecked-hash", "-s", packages, "-p", f"/{TREE}")
    run(python, "-m", "compileall", *options, packages)


def _system(root: Path) -> None:
    """Put the units, the account, its groups and the directory of the configuration in their places."""
    for unit in _UNITS:
        _copy(lock.ROOT / "systemd" / unit, root / "usr/lib/systemd/system" / unit)
    _write(root / "usr/lib/systemd/system-preset/50-lbproxy.preset", _PRESET)
    _copy(lock.ROOT / "systemd/lbproxy.sysusers", root / "usr/lib/sysusers.d/lbproxy.conf")
    _copy(lock.ROOT / "systemd/lbproxy.tmpfiles", root / "usr/lib/tmpfiles.d/lbproxy.conf")
    for script in ("hand-over", "switch"):
        _copy(lock.ROOT / "packaging" / script, root / TREE / script, 0o755)
    (root / "etc/lbproxy").mkdir(parents=True)


def _documents(python: Path, root: Path, packages: Path) -> None:
    """Put the documents where the units say they are, and the man pages."""
    for document in ("README.md", "ARCHITECTURE.md", "CHANGELOG.md"):
        _copy(lock.ROOT / document, root / DOC / document)
    docs, config = lock.ROOT / "docs", lock.ROOT / "config"
    for document in (*docs.rglob("*.md"), *docs.rglob("*.svg")):
        _copy(document, root / DOC / document.relative_to(lock.ROOT))
    for example in (*config.glob("*.*"), *config.glob("kubernetes/*.yaml")):
        _copy(example, root / DOC / "examples" / example.name)
    for page in ("lbproxy.1", "lbproxy.yaml.5"):
        text = run(python, "-I", lock.ROOT / "packaging/manpages.py", packages, page)
        target = root / "usr/share/man" / f"man{page[-1]}" / f"{page}.gz"
        target.parent.mkdir(parents=True)
        target.write_bytes(gzip.compress(text.encode(), mtime=0))


def _completions(python: Path, root: Path, packages: Path) -> None:
    """Put the shells' scripts where each of them looks: Debian's zsh, and EL's, in places of their own."""
    code = "import sys; sys.path.insert(0, sys.argv.pop(1)); from lbproxy.cli import main; main()"
    for shell, places in _COMPLETIONS.items():
        script = run(python, "-I", "-c", code, packages, "completion", shell)
        for place in places:
            _write(root / "usr/share" / place, script)


def _copy(source: Path, target: Path, mode: int = 0o644) -> None:
    _write(target, source.read_text(), mode)


def _write(target: Path, text: str, mode: int = 0o644) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)
    target.chmod(mode)
