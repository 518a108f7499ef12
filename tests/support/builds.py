"""Other builds of lbproxy: copies of the package with a change, to upgrade to."""

from __future__ import annotations

import compileall
import shutil
from pathlib import Path

import lbproxy
from lbproxy.handover.steps import Side, Step

Changes = dict[str, tuple[str, str]]

_EVERY_STEP = '    log.debug("handover: %s process: %s", step.side.value, step.does)\n'


def at(step: Step, does: str) -> Changes:
    """Return the changes that have a process do something else at the beginning of a step of the handover."""
    return {"handover.steps": (_EVERY_STEP, f"{_EVERY_STEP}    if step is Step.{step.name}:\n        {does}\n")}


def fails_at_what_stands_in(file: Path | str) -> Changes:
    """Return the changes that have a process fail, or die, at the step that `file` names: `GO fail`, `TAKE die`."""
    return {"handover.steps": (_EVERY_STEP, f"""{_EVERY_STEP}\
    fault = open("{file}").read()
    if fault == step.name + " die":
        import os; os._exit(9)
    if fault == step.name + " fail":
        raise OSError(5, "injected")
""")}  # fmt: skip


FAULTS = (
    *(f"{step.name} fail" for step in Step if step not in (Step.SERVE, Step.LEAVE)),
    *(f"{step.name} die" for step in Step if step.side is Side.NEW and step is not Step.SERVE),
    "LEAVE die",
)
"""What costs nothing: whatever fails before the word to go, the new process's death until then, the old one's after."""


FAILS_AT_START = {"process.start": ("    _raise_fd_limit()\n", '    sys.exit("this build is broken")\n')}
KNOWS_ANOTHER_HANDOVER = {"handover.parcel": ("VERSION: Final = 1", "VERSION: Final = 2")}
NEVER_GETS_READY = {"process.start": ("    _raise_fd_limit()\n", "    import time; time.sleep(1000)\n")}
DIES_WITH_THE_CONNECTIONS = at(Step.HAVE, "import os; os._exit(9)")
DIES_WHEN_IT_MAY_GO = at(Step.SERVE, "import os; os._exit(9)")


def build(target: Path, version: str = "", changes: Changes | None = None) -> None:
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
