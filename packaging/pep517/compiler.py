"""Whether the compiled form is wanted, and what stands in its way."""

from __future__ import annotations

import os
import shlex
import subprocess
import sysconfig
import tempfile
from pathlib import Path
from typing import Final

WANTED: Final = os.environ.get("LBPROXY_COMPILE", "")
"""1: build it or fail; 0: do not; otherwise: build it if that can be done."""
_PROGRAM: Final = "#include <Python.h>\nint main(void) { return Py_IsInitialized(); }\n"


def obstacle() -> str:
    """Return why nothing can be compiled, or an empty string if it can: tried with a program that needs Python.h."""
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    include = sysconfig.get_path("include")
    with tempfile.TemporaryDirectory() as directory:
        source = Path(directory, "try.c")
        source.write_text(_PROGRAM)
        command = [*compiler, "-c", "-I", include, str(source), "-o", str(source.with_suffix(".o"))]
        try:
            done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        except OSError:
            return f"there is no C compiler ({compiler[0]})"
    if done.returncode == 0:
        return ""
    if not Path(include, "Python.h").exists():
        return f"Python's headers are missing ({include}/Python.h)"
    return f"the C compiler does not compile ({shlex.join(compiler)})"


def advice(why: str) -> str:
    """Return a line that says why the plain form was built and what to install for the other one."""
    return (
        f"plain because {why}: it takes up to twice the CPU of the compiled form. "
        "For that one install gcc and Python's headers (Debian: gcc python3-dev, EL: gcc python3-devel) and build again"
    )
