"""The compiled form of lbproxy, for LBPROXY_COMPILE=1 (see ARCHITECTURE.md); without it there is nothing to build.

make compile    in this tree, where `make uncompile` takes it away again
make wheel      as a wheel, in dist/
"""

import os
from pathlib import Path

from setuptools import Extension, setup

PACKAGE = Path("lbproxy")
COMPILED = ("balance", "net", "relay", "proxy")
"""Folders whose modules mypyc compiles, all of them: who inherits from a compiled class must be compiled too."""
PLAIN = (PACKAGE / "net" / "plain.py",)
"""But for these: its place is taken by the C in net/csrc."""
CSRC = PACKAGE / "net" / "csrc"
FLAGS = ("-O2", "-Wextra", "-Wno-unused-parameter", "-fvisibility=hidden")


def extensions() -> list[Extension]:
    """Return what takes a compiler."""
    if os.environ.get("LBPROXY_COMPILE") != "1":
        return []
    try:
        from mypyc.build import mypycify
    except ImportError:
        raise SystemExit("to compile takes mypy, and pip --no-build-isolation to see it: make wheel") from None
    files = [file for folder in COMPILED for file in sorted((PACKAGE / folder).glob("*.py")) if file not in PLAIN]
    modules = mypycify(
        [str(file) for file in files if file.stem != "__init__"],
        group_name="lbproxy.hot",  # the library they share stands in the package by that name
    )
    for module in modules:
        # What one module calls of another needs no detour through the linker's table.
        module.extra_compile_args.append("-fvisibility=hidden")
    syscalls = Extension(
        "lbproxy.net._syscalls",
        sorted(map(str, CSRC.glob("*.c"))),
        depends=sorted(map(str, CSRC.glob("*.h"))),
        extra_compile_args=list(FLAGS),
    )
    return [*modules, syscalls]


setup(ext_modules=extensions())
