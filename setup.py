"""The compiled form of lbproxy, for LBPROXY_COMPILE=1 (see ARCHITECTURE.md); without it there is nothing to build.

make compile    in this tree, where `make uncompile` takes it away again
make wheel      as a wheel, in dist/
"""

import os
from pathlib import Path

from setuptools import Extension, setup

# Who inherits from a compiled class must be compiled too. `syscalls.py` must not: `_syscalls.c` takes its place.
COMPILED = ("balance/*.py", "net/*.py", "relay/*.py", "proxy/*.py")
PLAIN = ("__init__", "syscalls")


def extensions() -> list[Extension]:
    """Return what takes a compiler."""
    if os.environ.get("LBPROXY_COMPILE") != "1":
        return []
    try:
        from mypyc.build import mypycify
    except ImportError:
        raise SystemExit("to compile takes mypy, and pip --no-build-isolation to see it: make wheel") from None
    files = [str(file) for name in COMPILED for file in sorted(Path("lbproxy").glob(name)) if file.stem not in PLAIN]
    modules = mypycify(files, group_name="lbproxy.hot")  # the library they share stands in the package by that name
    for module in modules:
        # What one module calls of another needs no detour through the linker's table.
        module.extra_compile_args.append("-fvisibility=hidden")
    warnings = ["-Wextra", "-Wno-unused-parameter"]
    calls = Extension("lbproxy.net._syscalls", ["lbproxy/net/_syscalls.c"], extra_compile_args=["-O2", *warnings])
    return [*modules, calls]


setup(ext_modules=extensions())
