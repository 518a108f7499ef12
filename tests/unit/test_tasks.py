"""The owner of tasks: nothing dies unheard of, nothing is left."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

import pytest

from lbproxy.tasks import KINDS, Tasks, next_pause
from tests.unit import hasty


def run(test: Callable[[Tasks], Awaitable[None]]) -> None:
    """Run `test` in a loop whose seconds take no time."""

    async def main() -> None:
        await test(Tasks())

    hasty.run(main())


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


def test_what_must_run_for_ever_goes_on_after_an_error(caplog: pytest.LogCaptureFixture) -> None:
    """A check or a watch that ended for good would go unnoticed until the day it is needed."""
    begun: list[float] = []

    async def test(tasks: Tasks) -> None:
        async def work() -> None:
            begun.append(asyncio.get_running_loop().time())
            if len(begun) < 4:
                raise RuntimeError("a bug")
            await asyncio.sleep(3600)

        tasks.forever(work, "check", "m3")
        await asyncio.sleep(100)
        assert begun == [0, 1, 3, 7]
        assert tasks.failures == dict.fromkeys(KINDS, 0) | {"check": 3}
        await tasks.cancel()
        assert len(asyncio.all_tasks()) == 1

    run(test)
    lines = [record.getMessage() for record in caplog.records]
    assert lines == [f"task check m3 ended with an error, and is started again in {pause} s" for pause in (1, 2, 4)]
    assert all(record.levelno == logging.ERROR and record.exc_info for record in caplog.records)


@pytest.mark.parametrize("how", ["returns", "is cancelled from inside"])
def test_nothing_but_a_cancel_ends_it(how: str) -> None:
    """A future inside that somebody has cancelled looks like the end of the task, and is none."""
    begun = 0

    async def test(tasks: Tasks) -> None:
        async def work() -> None:
            nonlocal begun
            begun += 1
            if how != "returns":
                future = asyncio.get_running_loop().create_future()
                future.cancel()
                await future

        task = tasks.forever(work, "resolve", "m3")
        await asyncio.sleep(4)
        assert begun == 3
        assert tasks.failures["resolve"] == 3
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()

    run(test)


@pytest.mark.parametrize(
    ("last", "ran", "pause"),
    [(0, 0, 1), (1, 0, 2), (2, 5, 4), (16, 0, 30), (30, 0, 30), (30, 30, 30), (30, 31, 1), (0, 3600, 1)],
)
def test_the_wait_doubles_until_a_run_was_well(last: float, ran: float, pause: float) -> None:
    """A bug that comes at once costs little in the end, one that comes once a day is mended in a second."""
    assert next_pause(last, ran) == pause
