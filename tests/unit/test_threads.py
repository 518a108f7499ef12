"""What waits in a thread: its answer comes to the loop, and nobody waits for it in the end."""

from __future__ import annotations

import asyncio
import threading

import pytest

from lbproxy.threads import in_thread


def test_the_answer_or_the_error_comes_back() -> None:
    """As if it had been called here; the loop turns meanwhile."""

    async def test() -> None:
        turned = threading.Event()
        asyncio.get_running_loop().call_soon(turned.set)
        assert await in_thread(turned.wait, "a thread")
        assert await in_thread(lambda: threading.current_thread().name, "a thread") == "a thread"
        with pytest.raises(OSError, match="odd"):
            await in_thread(fail, "a thread")

    def fail() -> None:
        raise OSError("odd")

    asyncio.run(test())


def test_one_that_hangs_keeps_nobody() -> None:
    """Neither who has stopped waiting, nor the end of the loop, nor the end of the process."""
    done = threading.Event()
    daemonic: list[bool] = []

    def hang() -> None:
        daemonic.append(threading.current_thread().daemon)
        done.wait()

    async def test() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await in_thread(hang, "hangs")

    asyncio.run(test())
    assert daemonic == [True]
    done.set()


def test_no_thread_is_an_error_of_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit of tasks is met: whoever asks is ready for an OSError."""

    def start(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(OSError, match="can't start new thread"):
        asyncio.run(in_thread(lambda: None, "none"))
