"""What was found, on disk and back."""

from __future__ import annotations

from pathlib import Path

import pytest

from lbproxy.config.model import Address, ServerConfig
from lbproxy.errors import LbproxyError
from lbproxy.sources.found import Origin, accepted
from lbproxy.sources.kept import Kept, read, write

ORIGIN = Origin("p", "kubernetes", "/k")
SERVERS = (
    ServerConfig(address=Address("10.0.0.1", 6443), weight=3, backup=True),
    ServerConfig(address=Address("fd00::1", 6443), name="m"),
)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    """With its age, and which were good."""
    file = str(tmp_path / "found.json")
    kept = {ORIGIN: Kept(12345.0, accepted(SERVERS, "kubernetes", {SERVERS[1].address}))}
    write(file, kept)
    assert read(file) == kept
    assert [path.name for path in tmp_path.iterdir()] == ["found.json"]


def test_no_file_is_nothing(tmp_path: Path) -> None:
    """As at the first start."""
    assert read(str(tmp_path / "found.json")) == {}


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[", "null", "5", '"x"', "[5]", "[null]", "[{}]", '{"a": 1}', "[" * 100_000, "\xff",
        '[{"proxy": "p", "kind": "file", "where": "w", "at": "x", "servers": [], "good": []}]',
        '[{"proxy": "p", "kind": "file", "where": "w", "at": 1, "servers": ["x"], "good": []}]',
        '[{"proxy": "p", "kind": "file", "where": "w", "at": 1, "servers": {"a": 1}, "good": []}]',
        '[{"proxy": "p", "kind": "file", "where": "w", "at": 1, "servers": [], "good": 5}]',
        '[{"proxy": "p", "kind": "file", "where": "w", "at": NaN, "servers": [], "good": []}]',
        f'[{{"proxy": "p", "kind": "file", "where": "w", "at": 1{"0" * 400}, "servers": [], "good": []}}]',
    ],
    ids=range(18),
)  # fmt: skip
def test_a_file_that_is_something_else_is_told(tmp_path: Path, text: str) -> None:
    """And is no bug: a disk may have been full."""
    file = tmp_path / "found.json"
    file.write_text(text, encoding="latin-1")
    with pytest.raises(LbproxyError, match="is not what was written"):
        read(str(file))


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    """And nothing else."""
    (tmp_path / "found.json").mkdir()
    with pytest.raises(OSError, match="irectory"):
        write(str(tmp_path / "found.json"), {})
    assert [path.name for path in tmp_path.iterdir()] == ["found.json"]
