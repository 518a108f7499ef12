"""What cannot be asked without waiting is asked in a thread: name servers, files on a mount that may hang."""

from __future__ import annotations

import asyncio
import errno
import threading
from collections.abc import Callable
from typing import TypeVar, cast

T = TypeVar("T")


async def in_thread(call: Callable[[], T], name: str) -> T:
    """Return what `call` returns, called in a thread of its own; raises what it raises, or OSError without a thread.

    Not `asyncio.to_thread`: a thread of the loop's pool keeps the process from ending for as long as it waits, half a
    minute for a silent name server, and a few that hang keep everybody else from being asked.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: Exception | None) -> None:
        if answer.done():
            return  # nobody waits any more
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(cast("T", result))

    def run() -> None:
        result: T | None = None
        problem: Exception | None = None
        try:
            result = call()
        except Exception as error:
            problem = error
        try:
            loop.call_soon_threadsafe(settle, result, problem)
        except RuntimeError:
            pass  # the loop has been closed meanwhile

    try:
        threading.Thread(target=run, name=name, daemon=True).start()
    except RuntimeError as error:
        raise OSError(errno.EAGAIN, str(error)) from None
    return await answer
