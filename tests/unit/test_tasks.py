"""The owner of tasks: nothing dies unheard of, nothing is left."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

import pytest

from lbproxy.tasks import Tasks


def run(test: Callable[[Tasks], Awaitable[None]]) -> None:
    """Run `test` in a loop."""

    async def main() -> None:
        await test(Tasks())

    asyncio.run(main())


def test_a_task_has_the_name_it_was_given_and_runs_without_being_held() -> None:
    """The event loop itself keeps only weak references."""
    done: list[str] = []

    async def work() -> None:
        await asyncio.sleep(0)
        task = asyncio.current_task()
        assert task
        done.append(task.get_name())

    async def test(tasks: Tasks) -> None:
        tasks.spawn(work(), "a task")
        while not done:
            await asyncio.sleep(0)

    run(test)
    assert done == ["a task"]


def test_one_that_dies_is_heard_of_and_the_others_live(caplog: pytest.LogCaptureFixture) -> None:
    """A bug in one place must not stop a proxy, and must be found in the log."""

    async def die() -> None:
        raise RuntimeError("a bug")

    async def test(tasks: Tasks) -> None:
        other = tasks.spawn(asyncio.sleep(3600), "other")
        died = tasks.spawn(die(), "dying")
        await asyncio.wait({died})
        await asyncio.sleep(0)
        assert not other.done()
        await tasks.cancel()

    run(test)
    (record,) = caplog.records
    assert (record.levelno, record.getMessage()) == (logging.ERROR, "task dying ended with an error")
    assert record.exc_info
    assert "a bug" in str(record.exc_info[1])


def test_cancel_ends_all_and_waits_for_what_they_still_do(caplog: pytest.LogCaptureFixture) -> None:
    """What a task clears up when it is cancelled is done when `cancel` returns; that is not an error."""
    cleared: list[int] = []

    async def work(number: int) -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0)
            cleared.append(number)

    async def test(tasks: Tasks) -> None:
        for number in range(3):
            tasks.spawn(work(number), f"{number}")
        await asyncio.sleep(0)
        await tasks.cancel()
        assert sorted(cleared) == [0, 1, 2]
        assert len(asyncio.all_tasks()) == 1
        await tasks.cancel()

    run(test)
    assert not caplog.records


def test_a_task_may_cancel_all_others() -> None:
    """It does not wait for itself."""
    ended: list[str] = []

    async def test(tasks: Tasks) -> None:
        async def last() -> None:
            await tasks.cancel()
            ended.append("last")

        tasks.spawn(asyncio.sleep(3600), "other")
        await tasks.spawn(last(), "last")
        assert len(asyncio.all_tasks()) == 1

    run(test)
    assert ended == ["last"]
