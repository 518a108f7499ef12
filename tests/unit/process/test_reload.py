"""Which files are taken, which are refused, and which changes of a file are seen."""

import asyncio
import errno
import os
import shutil
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest
import uvloop

from lbproxy.config.load import Reading, load, loads, read_file, regular_file
from lbproxy.config.model import Config
from lbproxy.errors import BindError
from lbproxy.process.reload import Reloader, ReloadResult
from tests.support.wait import FACTOR

uvloop.new_event_loop().close()  # libuv's signal pipe, one for the whole process, is made here and not in a test


def text(weight: int = 1, more: str = "") -> str:
    """Return a good configuration; `weight` tells one from another."""
    server = f"{{address: 127.0.0.1:2, weight: {weight}}}"
    return f"{more}\nproxies: {{p: {{listen: ['127.0.0.1:1'], servers: [{server}]}}}}\n"


def weight(config: Config) -> int:
    """Return what tells this configuration from another."""
    return config.proxies["p"].servers[0].weight


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return a good file in a directory of its own."""
    (tmp_path / "etc").mkdir()
    path = tmp_path / "etc" / "lbproxy.yaml"
    path.write_text(text())
    return path


class Applied:
    """Takes configurations; the last one is `weight`."""

    def __init__(self) -> None:
        self.weights: list[int] = []

    async def __call__(self, config: Config, content: bytes) -> list[str]:
        assert loads(content.decode(), "f") == config
        self.weights.append(weight(config))
        return [f"weight {weight(config)}"]


def reloader(file: Path, apply: Callable[[Config, bytes], Awaitable[list[str]]]) -> Reloader:
    """Return a reloader that has just started with `file`."""
    return Reloader(str(file), load(str(file)), apply, file.read_bytes())


def test_a_good_file_is_applied_and_counted(file: Path) -> None:
    """The verdict says what changed, the view that all is well."""
    applied = Applied()
    subject = reloader(file, applied)
    started = subject.view
    file.write_text(text(2))
    assert asyncio.run(subject.reload()) == ReloadResult(applied=True, lines=("weight 2",))
    assert weight(subject.config) == 2
    assert subject.view.last_reload_successful
    assert subject.view.reloads == {"success": 1, "failure": 0}
    assert subject.view.last_success_timestamp >= started.last_success_timestamp > 0


@pytest.mark.parametrize("broken", ["proxies: {p: {}}\n", "proxies: [\n", "", None], ids=repr)
def test_a_file_that_is_no_good_changes_nothing_and_is_said(
    file: Path, broken: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    """Every problem is in the verdict, in the log as an error, and in the view; None stands for no file."""
    applied = Applied()
    subject = reloader(file, applied)
    before = subject.config
    file.write_text(broken) if broken is not None else file.unlink()
    verdict = asyncio.run(subject.reload())
    assert not verdict.applied
    assert all(line.startswith(str(file)) for line in verdict.lines)
    assert [record.levelname for record in caplog.records] == ["ERROR"] * len(verdict.lines)
    assert subject.config is before
    assert applied.weights == []
    assert not subject.view.last_reload_successful
    assert subject.view.last_reload_error == "\n".join(verdict.lines)
    assert subject.view.reloads == {"success": 0, "failure": 1}


def test_a_refusal_to_bind_keeps_the_old_configuration(file: Path) -> None:
    """What `apply` refuses is refused as a whole."""

    async def apply(config: Config, content: bytes) -> list[str]:
        raise BindError("p: cannot listen on 127.0.0.1:1: Address already in use")

    subject = reloader(file, apply)
    before = subject.config
    file.write_text(text(2))
    verdict = asyncio.run(subject.reload())
    assert verdict == ReloadResult(applied=False, lines=("p: cannot listen on 127.0.0.1:1: Address already in use",))
    assert subject.config is before


def test_a_bug_in_applying_is_a_refusal_and_not_the_end(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The traceback is logged, the caller has a verdict, and the next reload works."""
    fail = True

    async def apply(config: Config, content: bytes) -> list[str]:
        if fail:
            raise RuntimeError("odd")
        return []

    async def twice() -> tuple[ReloadResult, ReloadResult]:
        nonlocal fail
        first = await subject.reload()
        fail = False
        return first, await subject.reload()

    subject = reloader(file, apply)
    first, second = asyncio.run(twice())
    assert first == ReloadResult(applied=False, lines=("internal error: RuntimeError('odd')",))
    assert caplog.records[0].exc_info
    assert second.applied
    assert subject.view.last_reload_error is None


def test_a_file_system_that_hangs_holds_up_nobody(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reload is refused after a while, and so is every other one until the file system answers."""
    answers = threading.Event()

    def hang(path: str) -> Reading:
        answers.wait()
        return read_file(path)

    async def steps() -> None:
        file.write_text(text(2))
        for why in ("no answer within 0.1 s", "the last try still waits for it"):
            result = await subject.reload()
            assert result.lines == (f"{file}: cannot be read: {why}",)
        answers.set()
        async with asyncio.timeout(20 * FACTOR):
            while not (await subject.reload()).applied:
                await asyncio.sleep(0.01)

    subject = reloader(file, Applied())
    monkeypatch.setattr("lbproxy.process.reload.read_file", hang)
    monkeypatch.setattr("lbproxy.process.reload._PATIENCE", 0.1)
    asyncio.run(steps())
    assert weight(subject.config) == 2


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the waits that are for slow writers and rare cases; what is waited for stays the same."""
    monkeypatch.setattr("lbproxy.process.watch._QUIET_MS", 100)
    monkeypatch.setattr("lbproxy.process.watch._LOOK_AGAIN", 0.3)


def watched(file: Path, steps: Callable[["Watch"], Awaitable[None]]) -> None:
    """Watch `file` while `steps` change it, on the loop that the daemon uses."""

    async def run() -> None:
        watch = Watch(file)
        watching = asyncio.get_running_loop().create_task(watch.subject.watch(watch.subject.reload))
        try:
            await steps(watch)
        finally:
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching

    uvloop.run(run())


class Watch:
    """A watching reloader and what it has applied."""

    def __init__(self, file: Path) -> None:
        self.applied = Applied()
        self.subject = reloader(file, self.applied)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until `condition` holds."""
        async with asyncio.timeout(20 * FACTOR):
            while not condition():
                await asyncio.sleep(0.02)

    async def until_applied(self, *weights: int) -> None:
        """Wait until exactly these have been applied since the start."""
        await self.until(lambda: len(self.applied.weights) >= len(weights))
        assert self.applied.weights == list(weights)

    async def until_failed(self, times: int) -> None:
        """Wait until this many reloads have been refused."""
        await self.until(lambda: self.subject.view.reloads["failure"] >= times)


def rename_over(file: Path, content: str) -> None:
    """Replace `file` as careful programs and most editors do."""
    new = file.with_name(f".{file.name}.new")
    new.write_text(content)
    new.rename(file)


@pytest.mark.usefixtures("quick")
def test_a_write_in_place_is_seen(file: Path) -> None:
    """The same inode with another content."""

    async def steps(watch: Watch) -> None:
        file.write_text(text(2))
        await watch.until_applied(2)
        file.write_text(text(3))
        await watch.until_applied(2, 3)

    watched(file, steps)


@pytest.mark.usefixtures("quick")
def test_a_rename_over_the_file_is_seen_each_time(file: Path) -> None:
    """Every replacement is a new inode, the watch outlives it."""

    async def steps(watch: Watch) -> None:
        for number in (2, 3, 4):
            rename_over(file, text(number))
            await watch.until(lambda number=number: watch.applied.weights[-1:] == [number])  # type: ignore[misc]
        assert watch.applied.weights == [2, 3, 4]

    watched(file, steps)


def test_an_editor_that_moves_the_old_file_away_is_seen_as_one_save(file: Path) -> None:
    """Vim with backups: rename to file~, write anew, delete file~; the moment without a file is no failure."""

    async def steps(watch: Watch) -> None:
        backup = file.with_name(file.name + "~")
        file.rename(backup)
        await asyncio.sleep(0.05)
        file.write_text(text(2))
        backup.unlink()
        await watch.until_applied(2)
        assert watch.subject.view.reloads == {"success": 1, "failure": 0}

    watched(file, steps)


@pytest.mark.usefixtures("quick")
def test_a_config_map_swap_is_seen_each_time(tmp_path: Path) -> None:
    """The file leads to ..data/file, ..data to a dated directory; a swap renames ..data_tmp over ..data."""
    mount = tmp_path / "mount"
    mount.mkdir()

    def swap(number: int) -> None:
        dated = mount / f"..2026_{number}"
        dated.mkdir()
        (dated / "lbproxy.yaml").write_text(text(number))
        (mount / "..data_tmp").symlink_to(dated.name)
        old = os.path.realpath(mount / "..data")
        (mount / "..data_tmp").rename(mount / "..data")
        if number > 1:
            shutil.rmtree(old)

    swap(1)
    file = mount / "lbproxy.yaml"
    file.symlink_to("..data/lbproxy.yaml")

    async def steps(watch: Watch) -> None:
        for number in (2, 3, 4):
            swap(number)
            await watch.until_applied(*range(2, number + 1))

    watched(file, steps)


@pytest.mark.usefixtures("quick")
def test_a_change_behind_a_symbolic_link_is_seen(file: Path, tmp_path: Path) -> None:
    """The link stays, the file that it leads to in another directory is replaced."""
    link = tmp_path / "link.yaml"
    link.symlink_to(file)

    async def steps(watch: Watch) -> None:
        rename_over(file, text(2))
        await watch.until_applied(2)

    watched(link, steps)


@pytest.mark.usefixtures("quick")
def test_a_link_to_the_directory_that_is_turned_is_seen(file: Path, tmp_path: Path) -> None:
    """No event tells of it where the directories are; they are compared now and then."""
    (tmp_path / "v2").mkdir()
    (tmp_path / "v2" / file.name).write_text(text(2))
    current = tmp_path / "current"
    current.symlink_to(file.parent)

    async def steps(watch: Watch) -> None:
        (tmp_path / "next").symlink_to("v2")
        (tmp_path / "next").rename(current)
        await watch.until_applied(2)
        rename_over(tmp_path / "v2" / file.name, text(3))
        await watch.until_applied(2, 3)

    watched(current / file.name, steps)


@pytest.mark.usefixtures("quick")
def test_a_file_that_is_gone_for_a_while_is_taken_up_again(file: Path) -> None:
    """Its absence is a refused reload, so that somebody hears of it; the same content again is a good one."""

    async def steps(watch: Watch) -> None:
        file.unlink()
        await watch.until_failed(1)
        file.write_text(text())
        await watch.until_applied(1)
        assert watch.subject.view.last_reload_successful

    watched(file, steps)


@pytest.mark.usefixtures("quick")
def test_a_directory_that_is_made_anew_is_watched_again(file: Path) -> None:
    """Configuration management may remove it with all that is in it."""

    async def steps(watch: Watch) -> None:
        shutil.rmtree(file.parent)
        await watch.until_failed(1)
        file.parent.mkdir()
        file.write_text(text(2))
        await watch.until_applied(2)
        file.write_text(text(3))
        await watch.until_applied(2, 3)

    watched(file, steps)


@pytest.mark.usefixtures("quick")
def test_the_same_content_again_is_not_a_change(file: Path) -> None:
    """touch, chmod and a rewrite of the same bytes lead to nothing; the next real change is the only one."""

    async def steps(watch: Watch) -> None:
        file.touch()
        file.chmod(0o600)
        rename_over(file, text())
        (file.parent / "other").write_text("x")
        await asyncio.sleep(0.6)
        file.write_text(text(2))
        await watch.until_applied(2)

    watched(file, steps)


@pytest.mark.usefixtures("quick")
def test_our_own_shortage_says_nothing_of_the_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With no descriptor left it cannot be read, and has not changed for that."""
    shortage = True

    def regular(path: str) -> bytes:
        if shortage:
            raise OSError(errno.EMFILE, "Too many open files")
        return regular_file(path)

    monkeypatch.setattr("lbproxy.process.reload.regular_file", regular)

    async def steps(watch: Watch) -> None:
        nonlocal shortage
        await asyncio.sleep(1)
        shortage = False
        file.write_text(text(2))
        await watch.until_applied(2)
        assert watch.subject.view.reloads == {"success": 1, "failure": 0}

    watched(file, steps)


@pytest.mark.usefixtures("quick")
def test_a_broken_file_is_refused_once_and_the_repaired_one_applied(file: Path) -> None:
    """The error is not repeated while the file stays as it is."""

    async def steps(watch: Watch) -> None:
        file.write_text("proxies: [")
        await watch.until_failed(1)
        (file.parent / "other").write_text("x")
        await asyncio.sleep(0.6)
        file.write_text(text(2))
        await watch.until_applied(2)
        assert watch.subject.view.reloads == {"success": 1, "failure": 1}

    watched(file, steps)


@pytest.mark.usefixtures("quick")
def test_watch_false_ends_the_watching_and_watch_true_begins_it(file: Path) -> None:
    """Both by a reload: the last is one that somebody asked for, since nobody watches."""

    async def steps(watch: Watch) -> None:
        file.write_text(text(2, "watch: false"))
        await watch.until_applied(2)
        file.write_text(text(3, "watch: false"))
        await asyncio.sleep(0.6)
        assert watch.applied.weights == [2]
        file.write_text(text(4))
        await watch.subject.reload()
        file.write_text(text(5))
        await watch.until_applied(2, 4, 5)

    watched(file, steps)
