"""When to look at a file again, with inotify and without."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

import pytest
from watchfiles._rust_notify import WatchfilesRustInternalError

from lbproxy.process.watch import Watch, directories


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the waits; what is waited for stays the same."""
    monkeypatch.setattr("lbproxy.process.watch._QUIET_MS", 100)
    monkeypatch.setattr("lbproxy.process.watch._LOOK_AGAIN", 0.2)


def watching(file: Path, steps: Callable[[Watch], Awaitable[None]]) -> None:
    """Watch `file` in a loop while `steps` are done."""

    async def run() -> None:
        with closing(Watch(str(file))) as watch:
            await steps(watch)

    asyncio.run(run())


@pytest.mark.parametrize(
    "error",
    [
        WatchfilesRustInternalError("Error creating recommended watcher: Too many open files (os error 24)"),
        OSError("OS file watch limit reached."),
        PermissionError(13, "Permission denied"),
    ],
)
def test_without_inotify_the_file_is_looked_at_now_and_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    """Others on the node have used it up. It is said once, and inotify comes back when there is some again."""
    caplog.set_level("INFO")
    file = tmp_path / "lbproxy.yaml"

    def refuse(*_: object) -> None:
        raise error

    async def steps(watch: Watch) -> None:
        with monkeypatch.context() as patch:
            patch.setattr("lbproxy.process.watch._library", lambda: refuse)
            for _ in range(3):
                await watch.wait()
        await watch.wait()
        await watch.wait()

    watching(file, steps)
    assert [record.getMessage() for record in caplog.records] == [
        f"{file} is looked at every 0.2 s, without inotify: {error}",
        f"{file} is watched by inotify again",
    ]


def test_a_directory_that_is_not_there_is_no_complaint(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The file is missed already, and said to be; both may come back."""
    caplog.set_level("INFO")

    async def steps(watch: Watch) -> None:
        await watch.wait()
        await watch.wait()

    watching(tmp_path / "gone" / "lbproxy.yaml", steps)
    assert caplog.records == []


def test_a_file_lies_in_its_own_directory_and_in_that_of_what_it_leads_to(tmp_path: Path) -> None:
    """A change in either may change what is read."""
    for name in ("mount", "..2026"):
        (tmp_path / name).mkdir()
    link = tmp_path / "mount" / "lbproxy.yaml"
    link.symlink_to(tmp_path / "..2026" / "lbproxy.yaml")
    found = directories(str(link))
    assert found == {str(each): (each.stat().st_dev, each.stat().st_ino) for each in tmp_path.iterdir()}
    (tmp_path / "..2026").rmdir()
    assert directories(str(link))[str(tmp_path / "..2026")] == (0, 0)
