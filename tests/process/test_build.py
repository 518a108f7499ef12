"""Building from source where nothing can be compiled; with a compiler it is what `make deb` does."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from lbproxy.form import REASON
from tests.support.wait import FACTOR

SOURCES = Path(__file__).parents[2]
PARTS = ("lbproxy", "packaging", "LICENSE", "README.md", "pyproject.toml", "requirements.lock", "setup.py")
HEADERS = Path(sysconfig.get_path("include"), "Python.h").exists()
WHY = "the C compiler does not compile (/bin/false)" if HEADERS else "Python's headers are missing"
"""What a build without a compiler says: on a bare machine the headers are not there either."""


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """Return a copy of what a build takes."""
    for part in PARTS:
        if (SOURCES / part).is_dir():
            shutil.copytree(SOURCES / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
        else:
            shutil.copy(SOURCES / part, tmp_path)
    return tmp_path


def wheel(sources: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """Build a wheel in `sources`/dist, as `pip install .` would."""
    return subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", "dist", "."],
        cwd=sources, env={**os.environ, **environ}, capture_output=True, text=True, timeout=60 * FACTOR,
    )  # fmt: skip


def test_without_a_compiler_the_plain_form_is_built_and_says_why(sources: Path) -> None:
    """What a build says pip hides, so the package itself has the line: why, and what to install."""
    done = wheel(sources, CC="/bin/false", LBPROXY_COMPILE="")
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = (sources / "dist").iterdir()
    assert built.name.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(built) as package:
        line = package.read(f"lbproxy/{REASON}").decode()
        assert not [name for name in package.namelist() if name.endswith(".so")]
    assert line.startswith(f"plain because {WHY}")
    assert "gcc python3-dev" in line


def test_asked_for_the_compiled_form_a_build_without_a_compiler_fails(sources: Path) -> None:
    """Whoever asks for it wants to know."""
    done = wheel(sources, CC="/bin/false", LBPROXY_COMPILE="1")
    assert done.returncode != 0
    assert f"cannot compile: {WHY}" in done.stdout + done.stderr


def test_told_not_to_compile_a_build_says_nothing(sources: Path) -> None:
    """It is no shortcoming then."""
    done = wheel(sources, LBPROXY_COMPILE="0")
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = (sources / "dist").iterdir()
    with zipfile.ZipFile(built) as package:
        assert f"lbproxy/{REASON}" not in package.namelist()
