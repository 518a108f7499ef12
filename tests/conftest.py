"""What holds for every test: nothing is left behind, and timeouts grow with LBPROXY_TEST_TIMEOUT_FACTOR."""

from __future__ import annotations

import contextlib
import gc
import threading
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from lbproxy.net.syscalls import COMPILED
from tests.support import certs as certificates
from tests.support import child, need
from tests.support.certs import Certs
from tests.support.wait import FACTOR, until

HERE = Path("/proc/thread-self/ns/net")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Scale each test's own timeout, or the general one; leave out what is not for the compiled form."""
    if COMPILED:
        config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("plain")])
        items[:] = [item for item in items if not item.get_closest_marker("plain")]
    for item in items:
        mark = item.get_closest_marker("timeout")
        seconds = float(mark.args[0] if mark else config.getini("timeout"))
        item.add_marker(pytest.mark.timeout(seconds * FACTOR), append=False)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say which packages would have run the tests that were skipped."""
    if need.missing:
        packages = " ".join(sorted(need.missing))
        terminalreporter.write_line(f"to run the skipped tests on Debian or Ubuntu: apt-get install {packages}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what those have logged that a fixture has started, and does not stop before the test is reported on."""
    report = yield
    if report.failed:
        report.sections += [(f"log of {each.command[0]}", each.log) for each in child.running]
    return report


def _children() -> set[str]:
    """Return the pid and name of every child, dead and not waited for included."""
    found = set()
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):  # a thread or a child that has ended meanwhile
            for pid in (task / "children").read_text().split():
                found.add(f"{pid} {Path(f'/proc/{pid}/comm').read_text().strip()}")
    return found


def _fds() -> set[str]:
    """Return the number and the target of every open file descriptor."""
    found = set()
    for fd in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # the one that lists the directory
            found.add(f"{fd.name} {fd.readlink()}")
    return found


def _left(before: tuple[set[str], set[threading.Thread], set[str]]) -> list[str]:
    children, threads, fds = before
    return [
        *(f"child {child}" for child in _children() - children),
        *(f"thread {thread.name}" for thread in set(threading.enumerate()) - threads),
        *(f"fd {fd}" for fd in _fds() - fds),
    ]


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """After a test there is no child, thread or file descriptor that was not there before, and no change of namespace.

    A network namespace that a test makes is held by a file descriptor, so the last of them stand for it.
    """
    before = _children(), set(threading.enumerate()), _fds()
    network = HERE.readlink()
    yield
    assert HERE.readlink() == network, "the test left its thread in another network namespace"
    if _left(before):
        gc.collect()
        try:
            until(lambda: not _left(before), timeout=3)
        except AssertionError:
            pytest.fail(f"left behind: {', '.join(_left(before))}")


@pytest.fixture(scope="session")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Certs:
    """Make a CA and its certificates, the same for the whole run."""
    return certificates.make(tmp_path_factory.mktemp("certs"))
