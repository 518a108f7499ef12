"""Other builds of lbproxy: copies of the package with a change, to upgrade to."""

from __future__ import annotations

import compileall
import shutil
from pathlib import Path

import lbproxy

FAILS_AT_START = {"process.start": ("    _raise_fd_limit()\n", '    sys.exit("this build is broken")\n')}
KNOWS_ANOTHER_HANDOVER = {"handover.parcel": ("VERSION: Final = 1", "VERSION: Final = 2")}
NEVER_GETS_READY = {"process.start": ("    _raise_fd_limit()\n", "    import time; time.sleep(1000)\n")}
DIES_WITH_THE_CONNECTIONS = {"handover.upgrade": ('        self._send({"have": True})\n', "        os._exit(9)\n")}
DIES_WHEN_IT_MAY_GO = {"process.app": ("        inherited, self._inherited = self._inherited, Inherited()\n",
                              "        os._exit(9)\n")}  # fmt: skip


def build(target: Path, version: str = "", changes: dict[str, tuple[str, str]] | None = None) -> None:
    """Copy the package to `target`/lbproxy; `version` is what it calls itself, `changes` replaces text in modules."""
    package = target / "lbproxy"
    shutil.copytree(Path(lbproxy.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    changes = dict(changes or {})
    if version:
        changes["__init__"] = (f'"{lbproxy.__version__}"', f'"{version}"')
    for module, (old, new) in changes.items():
        file = package.joinpath(*module.split(".")).with_suffix(".py")
        text = file.read_text()
        assert text.count(old) == 1, f"{old!r} is not in {module} once"
        file.write_text(text.replace(old, new))
    compileall.compile_dir(package, quiet=2)
