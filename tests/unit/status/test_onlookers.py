"""Where those ask who may only look."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lbproxy.status.onlookers import beside, for_looking, offered


def test_the_place_is_beside_that_of_the_control_socket() -> None:
    """Two daemons with control sockets of their own do not meet there."""
    assert beside("/run/lbproxy/control.sock") == "/run/lbproxy-status/control.sock"
    assert beside("/run/lbproxy/second.sock") == "/run/lbproxy-status/second.sock"
    assert beside("control.sock") == f"{Path.cwd()}-status/control.sock"


@pytest.mark.parametrize(("mode", "there"), [(0o2750, True), (0o2755, True), (0o750, False), (0o2777, False)])
def test_a_directory_counts_only_as_systemd_tmpfiles_makes_it(tmp_path: Path, mode: int, there: bool) -> None:
    """One without the group's bit gives the socket to the wrong group; in one that all can write in, to anybody."""
    directory = tmp_path / "run-status"
    directory.mkdir()
    directory.chmod(mode)
    assert offered(f"{tmp_path}/run/c.sock") == (f"{directory}/c.sock" if there else None)


def test_without_a_directory_there_is_no_such_socket(tmp_path: Path) -> None:
    """Where nobody has made the group all is as ever."""
    assert offered(f"{tmp_path}/run/c.sock") is None
    assert for_looking(f"{tmp_path}/run/c.sock") == f"{tmp_path}/run/c.sock"


def test_a_directory_of_another_user_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who makes it beside a control socket in /tmp would be told everything."""
    directory = tmp_path / "run-status"
    directory.mkdir()
    directory.chmod(0o2750)
    made_by = directory.stat()
    found = os.stat_result((*made_by[:4], 4711, *made_by[5:10]))
    monkeypatch.setattr(os, "stat", lambda _: found)
    assert offered(f"{tmp_path}/run/c.sock") is None


def test_the_control_socket_comes_first(tmp_path: Path) -> None:
    """Whoever may use it has no need of the other one, which may be that of a daemon that has gone."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run-status").mkdir()
    control, other = tmp_path / "run/c.sock", tmp_path / "run-status/c.sock"
    other.touch()
    assert for_looking(str(control)) == str(other)
    control.touch()
    assert for_looking(str(control)) == str(control)
