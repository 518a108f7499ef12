"""Builds lbproxy, and its hot modules compiled where there are a C compiler and Python's headers (see ARCHITECTURE.md).

LBPROXY_COMPILE=1 fails where it cannot compile, LBPROXY_COMPILE=0 does not try. Where nothing could be compiled the
package says why in `lbproxy --version` and at the start of its log: pip shows nothing of a build that comes off.
"""

import shutil
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

sys.path[:0] = [".", "packaging/pep517"]
from compiler import WANTED, advice, obstacle  # noqa: E402

from lbproxy import form  # noqa: E402

PACKAGE = Path("lbproxy")
CSRC = PACKAGE / "net" / "csrc"
FLAGS = ("-O2", "-Wextra", "-Wno-unused-parameter", "-fvisibility=hidden")
BUILDS = {"bdist_wheel", "build", "build_ext", "install"} | ({"editable_wheel"} if WANTED == "1" else set())
"""The commands that need compiled modules. The others, which pip calls first, need not wait for mypyc."""


def extensions() -> tuple[list[Extension], str]:
    """Return what takes a compiler, and why it is nothing."""
    if WANTED == "0" or not BUILDS & set(sys.argv):
        return [], ""
    if why := obstacle():
        return [], why
    try:
        return [*hot_modules(), system_calls()], ""
    except ImportError:
        return [], "mypy is not installed"
    except SystemExit:  # mypyc's way to say that it has found errors, which it has printed
        return [], "mypyc failed"


def hot_modules() -> list[Extension]:
    """Return the modules that mypyc compiles."""
    from mypyc.build import mypycify

    files = [file for folder in form.FOLDERS for file in sorted((PACKAGE / folder).glob("*.py"))]
    modules: list[Extension] = mypycify(
        [str(file) for file in files if file.stem not in form.NOT_COMPILED],
        group_name="lbproxy.hot",  # the library they share stands in the package by that name
    )
    for module in modules:
        # What one module calls of another needs no detour through the linker's table.
        module.extra_compile_args.append("-fvisibility=hidden")
    return modules


def system_calls() -> Extension:
    """Return the module in C."""
    return Extension(
        "lbproxy.net._syscalls",
        sorted(map(str, CSRC.glob("*.c"))),
        depends=sorted(map(str, CSRC.glob("*.h"))),
        extra_compile_args=list(FLAGS),
    )


class BuildPython(build_py):
    """Leaves word of why nothing was compiled, and nothing of earlier builds."""

    def run(self) -> None:
        """Copy the modules."""
        if not self.editable_mode:
            shutil.rmtree(Path(self.build_lib, "lbproxy"), ignore_errors=True)
        super().run()
        if reason and not self.editable_mode:
            leave_word(self.build_lib, reason)


class BuildExtensions(build_ext):
    """Builds all of the extensions or none: half of them would not be importable."""

    def run(self) -> None:
        """Compile; what fails is an error only if the compiled form was asked for."""
        try:
            super().run()
        except Exception:
            if WANTED == "1" or self.inplace:
                raise
            self.extensions = []
            for built in Path(self.build_lib, "lbproxy").rglob("*.so"):
                built.unlink()
            leave_word(self.build_lib, "compiling failed")


def leave_word(build_lib: str, why: str) -> None:
    """Say why nothing was compiled, here and in the package."""
    print(advice(why), file=sys.stderr)
    Path(build_lib, "lbproxy", form.REASON).write_text(advice(why) + "\n")


modules, reason = extensions()
if reason and WANTED == "1":
    raise SystemExit(f"cannot compile: {reason}")
setup(ext_modules=modules, cmdclass={"build_py": BuildPython, "build_ext": BuildExtensions})
