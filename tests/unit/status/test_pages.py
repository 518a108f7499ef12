"""What is shown, and how often it is made."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from itertools import count

import pytest

from lbproxy.status.pages import PAGES, Pages
from lbproxy.status.shapes import Event
from lbproxy.status.snapshot import ConnectionView, ReloadView, Snapshot
from tests.unit import hasty


class Source:
    """Where snapshots come from; `fail` is for one that cannot be had."""

    def __init__(self) -> None:
        self.asked = 0
        self.fail = False
        self.pages = Pages(self)

    async def connections(self) -> list[ConnectionView]:
        """Return none, which counts as asking."""
        await self.snapshot()
        return []

    def events(self) -> list[Event]:
        """Return none, which counts as asking."""
        self.asked += 1
        return []

    async def snapshot(self) -> Snapshot:
        """Return one."""
        self.asked += 1
        await asyncio.sleep(0)
        if self.fail:
            raise RuntimeError("a bug")
        return Snapshot(version=f"{self.asked}", form="plain", python="3.11.2", pid=1, uptime_seconds=1.0, generation=1,
                        config=ReloadView(file="f"), loop_lag_seconds=0.0, proxies=())  # fmt: skip


def run(test: Callable[[Source], Awaitable[None]]) -> None:
    """Run `test` in a loop whose seconds take no time, while the making of a page does."""

    async def main() -> None:
        await test(Source())

    hasty.run(main())


@pytest.mark.parametrize("path", [path for path, draft in PAGES.items() if draft is not None])
def test_a_page_is_made_once_for_all_who_ask_at_the_same_time(path: str) -> None:
    """Those who come in the next moment have the same; making it may not fill the loop, however many ask."""

    async def test(source: Source) -> None:
        first, *others = await asyncio.gather(*(source.pages.get(path) for _ in range(50)))
        assert all(each is first for each in others)
        assert await source.pages.get(path) is first
        assert source.asked == 1

    run(test)


def test_a_page_is_made_anew_when_that_costs_little_of_the_time_that_has_passed() -> None:
    """It took less than a tenth of a second, so two seconds later it is worth it."""

    async def test(source: Source) -> None:
        old = await source.pages.get("/metrics")
        await asyncio.sleep(3600)
        new = await source.pages.get("/metrics")
        assert (b'version="1"' in old.body, b'version="2"' in new.body) == (True, True)

    run(test)


def test_the_first_page_is_soon_made_anew_though_it_took_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has imported what makes it, and what it shows may be what somebody waits to see change."""
    clock = count(0.0, 10.0)
    monkeypatch.setattr("lbproxy.status.pages.perf_counter", lambda: next(clock))

    async def test(source: Source) -> None:
        first = await source.pages.get("/status")
        await asyncio.sleep(1.1)
        second = await source.pages.get("/status")
        await asyncio.sleep(150)
        assert first is not second
        assert second is await source.pages.get("/status")

    run(test)


def test_a_failure_is_not_kept() -> None:
    """Who asks next may have better luck."""

    async def test(source: Source) -> None:
        source.fail = True
        with pytest.raises(RuntimeError):
            await source.pages.get("/metrics")
        source.fail = False
        assert (await source.pages.get("/metrics")).status == 200

    run(test)


def test_that_the_loop_turns_needs_no_snapshot() -> None:
    """An answer at all is the answer."""

    async def test(source: Source) -> None:
        assert (await source.pages.get("/livez")).body == b"ok\n"
        assert source.asked == 0

    run(test)
