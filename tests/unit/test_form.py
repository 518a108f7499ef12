"""The form as found from the files of a package."""

from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

from lbproxy.form import FOLDERS, REASON, form_of, told, why_plain
from lbproxy.net.syscalls import COMPILED

SUFFIX = EXTENSION_SUFFIXES[0]


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """Return a package whose modules are all compiled."""
    for folder in FOLDERS:
        (tmp_path / folder).mkdir()
        for name in ("__init__.py", "one.py", f"one{SUFFIX}"):
            (tmp_path / folder / name).touch()
    (tmp_path / "net" / "plain.py").touch()
    (tmp_path / "net" / f"_syscalls{SUFFIX}").touch()
    return tmp_path


def test_with_every_module_it_is_compiled(package: Path) -> None:
    """`__init__` and the plain system calls are never compiled, and are not missed."""
    assert form_of(package) == "compiled"


def test_without_any_it_is_plain(package: Path) -> None:
    """What is compiled for another Python does not count: this one does not import it."""
    for module in package.rglob(f"*{SUFFIX}"):
        module.rename(module.with_name(module.name.replace(SUFFIX, ".cpython-399-other.so")))
    assert form_of(package) == "plain"


@pytest.mark.parametrize("module", ["relay/one", "net/_syscalls"])
def test_with_one_missing_it_does_not_pass_for_compiled(package: Path, module: str) -> None:
    """A build that broke off, or a module that has come after it."""
    (package / f"{module}{SUFFIX}").unlink()
    assert form_of(package) == "partly compiled"


def test_these_tests_run_on_the_form_that_it_says() -> None:
    """The files say what was imported."""
    import lbproxy

    assert form_of(Path(lbproxy.__file__).parent) == ("compiled" if COMPILED else "plain")


def test_why_it_is_plain_is_what_the_build_has_left(package: Path) -> None:
    """Nothing is said where it has left no word, as in a tree that nobody has built."""
    assert why_plain(package) == ""
    (package / REASON).write_text("plain because there is no C compiler\n")
    assert why_plain(package) == "plain because there is no C compiler"


def test_the_words() -> None:
    """Programs may take them apart."""
    assert told("1.2.3", "compiled", "3.11.2") == "lbproxy 1.2.3 (compiled, Python 3.11.2)"
