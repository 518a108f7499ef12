"""The daemon's life as a table, and who waits for his turn in it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from lbproxy.process.phases import ENDING, TABLE, WAIT, Event, Life, OutOfTurnError, Phase

GRID = """
                started    reload     upgrade       done       handed  stop      over
STARTING        SERVING    wait       wait          -          -       STOPPING  GONE
SERVING         -          RELOADING  HANDING_OVER  -          -       STOPPING  -
RELOADING       -          wait       wait          SERVING    -       STOPPING  -
HANDING_OVER    -          wait       refused       SERVING    GONE    STOPPING  -
STOPPING        STOPPING   refused    refused       STOPPING   -       CUTTING   GONE
CUTTING         CUTTING    refused    refused       CUTTING    -       CUTTING   GONE
GONE            -          refused    refused       GONE       -       GONE      -
"""


def cell(phase: Phase, event: Event) -> str:
    """Return what the table says, as it stands in the grid."""
    if phase not in TABLE[event]:
        return "-"
    then = TABLE[event][phase]
    if isinstance(then, Phase):
        return then.name
    return "wait" if then is WAIT else "refused"


def test_every_event_leads_where_the_grid_says() -> None:
    """A stop is heard in every phase; one thing is done at a time; nothing begins once the daemon is to end."""
    head, *rows = GRID.strip().split("\n")
    events = [Event[name.upper()] for name in head.split()]
    assert set(events) == set(Event)
    assert [row.split() for row in rows] == [
        [phase.name, *(cell(phase, event) for event in events)] for phase in Phase
    ]  # fmt: skip


def test_there_is_no_way_back_from_the_end() -> None:
    """From a phase in which the daemon ends every event leads to another one of these, or to nothing."""
    for event, row in TABLE.items():
        assert all(row[phase] in ENDING or not isinstance(row[phase], Phase) for phase in ENDING if phase in row), event


def serving() -> Life:
    """Return the life of a daemon that has started."""
    life = Life()
    life.hear(Event.STARTED)
    return life


class Work:
    """Takes turns, and writes down what happens; a turn ends when `end` is set."""

    def __init__(self, life: Life) -> None:
        self.life = life
        self.said: list[str] = []
        self.end = asyncio.Event()

    async def __call__(self, name: str, event: Event) -> None:
        try:
            async with self.life.turn(event):
                self.said.append(f"{name} begins")
                await self.end.wait()
                self.said.append(f"{name} ends")
        except OutOfTurnError as error:
            self.said.append(f"{name}: {error}")


async def settle() -> None:
    """Let every task come to its next wait."""
    for _ in range(10):
        await asyncio.sleep(0)


def run(story: Callable[[], Awaitable[None]]) -> None:
    """Run a story in a loop."""

    async def main() -> None:
        async with asyncio.timeout(10):
            await story()

    asyncio.run(main())


def test_reloads_happen_one_after_the_other() -> None:
    """The second begins when the first has ended."""

    async def story() -> None:
        work = Work(serving())
        first, second = (asyncio.create_task(work(name, Event.RELOAD)) for name in ("first", "second"))
        await settle()
        assert (work.said, work.life.phase) == (["first begins"], Phase.RELOADING)
        work.end.set()
        await asyncio.gather(first, second)
        assert work.said == ["first begins", "first ends", "second begins", "second ends"]
        assert work.life.phase is Phase.SERVING

    run(story)


def test_what_is_asked_during_the_start_waits_for_it() -> None:
    """A SIGHUP that comes early is not lost, and meets no half of a daemon."""

    async def story() -> None:
        work = Work(Life())
        task = asyncio.create_task(work("reload", Event.RELOAD))
        await settle()
        assert work.said == []
        work.end.set()
        work.life.hear(Event.STARTED)
        await task
        assert work.said == ["reload begins", "reload ends"]

    run(story)


def test_who_stops_waits_for_what_is_under_way_and_for_those_who_wait() -> None:
    """The reload under way ends; the one behind it is refused, and has said so before anybody goes on to stop."""

    async def story() -> None:
        work = Work(serving())
        tasks = [asyncio.create_task(work(name, Event.RELOAD)) for name in ("first", "second")]
        await settle()
        work.life.hear(Event.STOP)
        await work.life.ending()
        idle = asyncio.create_task(work.life.idle())
        await settle()
        assert not idle.done()
        work.end.set()
        await idle
        assert work.said == ["first begins", "second: the daemon is stopping", "first ends"]
        assert work.life.phase is Phase.STOPPING
        await asyncio.gather(*tasks)

    run(story)


def test_a_turn_that_fails_is_over_too() -> None:
    """The next one is not kept waiting for ever."""

    async def story() -> None:
        life = serving()
        with pytest.raises(ZeroDivisionError):
            async with life.turn(Event.UPGRADE):
                raise ZeroDivisionError
        assert life.phase is Phase.SERVING
        await life.idle()

    run(story)


def test_of_two_upgrades_the_second_is_refused_and_a_reload_waits() -> None:
    """Two new processes would both want to be the service; a reload comes to its turn, or hears who to ask."""

    async def story() -> None:
        work = Work(serving())
        upgrade = asyncio.create_task(work("upgrade", Event.UPGRADE))
        await settle()
        await work("another", Event.UPGRADE)
        reload = asyncio.create_task(work("reload", Event.RELOAD))
        await settle()
        work.life.hear(Event.HANDED)
        work.end.set()
        await asyncio.gather(upgrade, reload)
        assert work.said[:2] == ["upgrade begins", "another: another upgrade or a stop is under way"]
        assert sorted(work.said[2:]) == ["reload: another process has taken over meanwhile: ask again", "upgrade ends"]
        assert work.life.phase is Phase.GONE

    run(story)


def test_a_phase_that_comes_breaks_off_what_lasts_until_it() -> None:
    """An upgrade by the first signal, the wait for connections by the second; what was done by then is undone."""

    async def story() -> None:
        life = serving()
        done: list[str] = []

        async def wait_until(phase: Phase) -> None:
            async with life.until(phase):
                try:
                    await asyncio.Event().wait()
                finally:
                    done.append(phase.name)

        tasks = [asyncio.create_task(wait_until(phase)) for phase in (Phase.STOPPING, Phase.CUTTING)]
        await settle()
        for phase in ("STOPPING", "CUTTING"):
            life.hear(Event.STOP)
            await settle()
            assert done[-1] == phase
        for task in (*tasks, asyncio.create_task(wait_until(Phase.CUTTING))):  # the last one begins too late
            with pytest.raises(TimeoutError):
                await task

    run(story)


def test_a_third_signal_changes_nothing() -> None:
    """An operator who loses patience presses again while the second one is being obeyed."""

    async def story() -> None:
        life = serving()
        life.hear(Event.STOP)

        async def stop() -> None:
            async with life.until(Phase.CUTTING):
                try:
                    await asyncio.Event().wait()
                finally:
                    await settle()

        task = asyncio.create_task(stop())
        await settle()
        for _ in range(5):
            life.hear(Event.STOP)
            await asyncio.sleep(0)
        with pytest.raises(TimeoutError):
            await task

    run(story)


def test_an_event_that_cannot_be_is_a_bug() -> None:
    """It is said with the phase it came in, and changes nothing."""
    life = Life()
    with pytest.raises(OutOfTurnError, match="bug: a reload is asked for, while starting"):
        life.hear(Event.RELOAD)
    assert life.phase is Phase.STARTING
