"""The system calls in C, built so that they end the process at the first wrong step in memory or in arithmetic.

AddressSanitizer and UndefinedBehaviorSanitizer, as gcc has them. What the kernel writes they do not see, since the
calls go past libc; they see what is done with it. Leaks are not looked for: CPython leaves what it has made to the end
of the process, and what the sanitizer says of that is some hundred lines whatever lbproxy does.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sysconfig
from contextlib import suppress
from pathlib import Path

from tests.support.need import need
from tests.support.wait import FACTOR

ROOT = Path(__file__).parents[2]
_FLAGS = ("-shared", "-fPIC", "-g", "-O1", "-Wextra", "-Wno-unused-parameter", "-fno-omit-frame-pointer",
          "-fsanitize=address,undefined", "-fno-sanitize-recover=all")  # fmt: skip
_PATIENCE = 120.0
Changes = dict[str, tuple[str, str]]
"""By file of csrc/: a text that is in it once, and what it is replaced with."""


def build(target: Path, changes: Changes | None = None) -> Path:
    """Copy lbproxy and its tests to `target`, with the system calls so built; returns it."""
    need("gcc")
    for each in ("lbproxy", "tests"):
        shutil.copytree(ROOT / each, target / each, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    shutil.copy(ROOT / "pyproject.toml", target)
    sources = target / "lbproxy" / "net" / "csrc"
    for name, (old, new) in (changes or {}).items():
        text = (sources / name).read_text()
        assert text.count(old) == 1, f"{old!r} is not in {name} once"
        (sources / name).write_text(text.replace(old, new))
    made = target / "lbproxy" / "net" / f"_syscalls{sysconfig.get_config_var('EXT_SUFFIX')}"
    include = sysconfig.get_path("include")
    subprocess.run(["gcc", *_FLAGS, f"-I{include}", *sorted(sources.glob("*.c")), "-o", made], check=True)
    return target


def run(target: Path, *command: str) -> tuple[int, str, str]:
    """Run a command in what was built; returns its status, what it said, and what the sanitizers said."""
    told = target / "told"
    told.mkdir(exist_ok=True)
    options = f"detect_leaks=0:log_path={told}/by:exitcode=99"
    with subprocess.Popen(
        command, cwd=target, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        env={**os.environ, "LD_PRELOAD": f"{_library('libasan.so')} {_library('libubsan.so')}",
             "PYTHONMALLOC": "malloc", "ASAN_OPTIONS": options, "UBSAN_OPTIONS": f"print_stacktrace=1:{options}",
             "PYTHONPATH": str(target)},
    ) as child:  # fmt: skip
        try:
            said, _ = child.communicate(timeout=_PATIENCE * FACTOR)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)  # and whatever it has started
    return child.returncode, said, "".join(path.read_text() for path in sorted(told.iterdir()))


def _library(name: str) -> str:
    asked = ["gcc", f"-print-file-name={name}"]
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
