"""What an upgrade starts; its steps are in tests/process/test_upgrade.py."""

from __future__ import annotations

import sys
from pathlib import Path

from lbproxy.handover.upgrade import command


def test_the_command_that_is_installed_now_is_started(tmp_path: Path) -> None:
    """By its name, which may lead to another version in another environment by now, with another Python."""
    script = tmp_path / "lbproxy"
    script.write_text("")
    script.chmod(0o755)
    argv = [str(script), "run", "-c", "x"]
    assert command(argv, ["/old/bin/python3", "-P", *argv]) == argv


def test_what_cannot_be_started_by_its_name_is_started_as_it_was(tmp_path: Path) -> None:
    """`python -m lbproxy`, and a script that was given to Python."""
    script = tmp_path / "lbproxy"
    script.write_text("")
    script.chmod(0o644)
    for argv0 in (str(script), str(tmp_path / "__main__.py"), "-m"):
        assert command([argv0, "run"], ["python3", "-m", "lbproxy", "run"]) == [sys.executable, "-m", "lbproxy", "run"]
