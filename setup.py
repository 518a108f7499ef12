"""The compiled form of lbproxy, for LBPROXY_COMPILE=1 (see ARCHITECTURE.md); without it there is nothing to build.

make compile    in this tree, where `make uncompile` takes it away again
make wheel      as a wheel, in dist/
"""

import os
from pathlib import Path

from setuptools import Extension, setup

# Who inherits from a compiled class must be compiled too. `calls.py` must not: `_calls.c` takes its place.
COMPILED = ("relay/*.py", "balance/*.py", "sock.py", "hello.py", "upstream.py", "dial.py", "firstbyte.py", "session.py",
            "listener.py", "evict.py", "rebalance.py", "parcels.py", "frontend.py")  # fmt: skip


def extensions() -> list[Extension]:
    """Return what takes a compiler."""
    if os.environ.get("LBPROXY_COMPILE") != "1":
        return []
    try:
        from mypyc.build import mypycify
    except ImportError:
        raise SystemExit("to compile takes mypy, and pip --no-build-isolation to see it: make wheel") from None
    files = [str(file) for name in COMPILED for file in sorted(Path("lbproxy").glob(name)) if file.stem != "__init__"]
    modules = mypycify(files, group_name="lbproxy.hot")  # the library they share stands in the package by that name
    for module in modules:
        # What one module calls of another needs no detour through the linker's table.
        module.extra_compile_args.append("-fvisibility=hidden")
    warnings = ["-Wextra", "-Wno-unused-parameter"]
    return [*modules, Extension("lbproxy._calls", ["lbproxy/_calls.c"], extra_compile_args=["-O2", *warnings])]


setup(ext_modules=extensions())
