"""What is missing is said whole, is skipped on a bare machine and fails in CI."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support import need as module
from tests.support.need import PACKAGES, RIGHTS, need

ROOT = Path(__file__).parents[2]


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Have no program, and return the packages that are asked for."""
    monkeypatch.setattr(module, "find", lambda _: None)
    monkeypatch.setattr(module, "missing", set())
    monkeypatch.delenv("CI", raising=False)
    return module.missing


def test_a_skip_names_every_package_that_is_missing(bare: set[str]) -> None:
    """Whoever installs what the last line of the run names has all that the test wants."""
    with pytest.raises(pytest.skip.Exception, match=r"^curl is not .*; nft is not .*package nftables"):
        need("curl", "nft")
    assert bare == {"curl", "nftables"}


def test_ci_fails_for_what_a_bare_machine_skips(bare: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that is skipped for ever tests nothing."""
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="CI must have everything: curl"):
        need("curl")


def test_a_right_that_is_missing_needs_no_package(bare: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said, and there is nothing to install."""
    monkeypatch.setitem(RIGHTS, "pty", (lambda: False, "there are no pseudo terminals"))
    with pytest.raises(pytest.skip.Exception, match="there are no pseudo terminals"):
        need("pty")
    assert bare == set()


def test_ci_installs_every_package_that_a_test_may_name() -> None:
    """Or CI fails on a new machine only."""
    assert set(PACKAGES.values()) <= set((ROOT / ".ci/packages").read_text().split())


def test_what_is_needed_is_known() -> None:
    """A name without a package would be an error on the bare machine only."""
    asked = {
        thing
        for file in (ROOT / "tests").rglob("*.py")
        for call in re.findall(r"\bneed\(([^)]*)\)", file.read_text())
        for thing in re.findall(r'"([^"]+)"', call)
    }
    assert asked - PACKAGES.keys() <= RIGHTS.keys()
