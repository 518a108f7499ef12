"""Servers from files."""

from __future__ import annotations

from pathlib import Path

import pytest

from lbproxy.errors import LbproxyError
from lbproxy.sources.files import read


def test_the_files_that_match_count_in_the_order_of_their_names(tmp_path: Path) -> None:
    """Each is a list as in a configuration; an empty one is a list, too."""
    (tmp_path / "b.yaml").write_text("- 10.0.0.1:1\n")
    (tmp_path / "a.yaml").write_text("[{address: 10.0.0.2:1, name: m, backup: true}]")
    (tmp_path / "c.yaml").write_text("")
    (tmp_path / "d.yaml").write_text("[]")
    (tmp_path / "e.txt").write_text("nonsense")
    found = read(f"{tmp_path}/*.yaml")
    assert [(server.name, server.backup) for server in found] == [("m", True), ("10.0.0.1:1", False)]
    assert read(f"{tmp_path}/*.yml") == ()


@pytest.mark.parametrize("text", ["nonsense", "a: b", "- 10.0.0.1", "[10.0.0.1:0]", "[[10.0.0.1:1]]", "- {", "\0"])
def test_one_broken_file_makes_the_answer_void(tmp_path: Path, text: str) -> None:
    """It says which and where."""
    (tmp_path / "a.yaml").write_text("- 10.0.0.1:1\n")
    (tmp_path / "b.yaml").write_text(text)
    with pytest.raises(LbproxyError, match=r"b\.yaml"):
        read(f"{tmp_path}/*.yaml")


def test_what_is_no_file_or_no_text_is_told(tmp_path: Path) -> None:
    """A folder of that name, bytes, and many files."""
    (tmp_path / "a.yaml").mkdir()
    with pytest.raises(OSError, match="cannot be read: a directory"):
        read(f"{tmp_path}/*.yaml")
    (tmp_path / "a.yaml").rmdir()
    (tmp_path / "a.yaml").write_bytes(b"\xff")
    with pytest.raises(ValueError, match="utf-8"):
        read(f"{tmp_path}/*.yaml")
    for number in range(257):
        (tmp_path / f"{number}.json").touch()
    with pytest.raises(ValueError, match="256"):
        read(f"{tmp_path}/*.json")
