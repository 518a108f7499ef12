"""A target: what reads bytes, which exceptions are documented for it, and bytes to begin with."""

from __future__ import annotations

import asyncio
import os
import zlib
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

Run = Callable[[bytes], None]
"""Shows an input to what reads it; AssertionError says that what must hold does not."""
Begin = Callable[[], AbstractContextManager[Run]]


@dataclass(frozen=True)
class Target:
    """What is tried, under its `name`."""

    name: str
    reads: tuple[str, ...]
    """Modules of lbproxy that the bytes are for."""
    begin: Begin
    seeds: tuple[bytes, ...]
    """Inputs that are right or nearly so, from which others are made."""
    documented: tuple[type[Exception], ...] = ()
    """Exceptions that an input may end with."""
    words: tuple[bytes, ...] = ()
    """What an input is made of, where single bytes would not come upon it."""
    longest: int = 4096
    """Bytes of an input."""


def show(target: Target, run: Run, data: bytes) -> None:
    """Show `data` to the target that has begun as `run`; raises what is not documented."""
    try:
        run(data[: target.longest])
    except target.documented:
        pass


def always(run: Run) -> Begin:
    """Return the beginning of a target that keeps nothing from one input to the next."""

    @contextmanager
    def begin() -> Iterator[Run]:
        yield run

    return begin


def looped(run: Callable[[bytes], Coroutine[None, None, None]]) -> Begin:
    """Return the beginning of a target that takes an event loop."""

    @contextmanager
    def begin() -> Iterator[Run]:
        loop = asyncio.new_event_loop()  # not uvloop, which makes a pair of sockets for each run of it
        try:
            yield lambda data: loop.run_until_complete(run(data))
        finally:
            loop.close()

    return begin


class File:
    """A file in memory, which has a path."""

    def __init__(self) -> None:
        self.fd = os.memfd_create("fuzz", os.MFD_CLOEXEC)
        self.path = f"/proc/self/fd/{self.fd}"

    def holding(self, data: bytes) -> str:
        """Return the path of a file that holds `data`, until the next one does."""
        os.ftruncate(self.fd, 0)
        os.pwrite(self.fd, data, 0)
        return self.path


@contextmanager
def file() -> Iterator[File]:
    """Have such a file."""
    made = File()
    try:
        yield made
    finally:
        os.close(made.fd)


def chance(data: bytes, below: int) -> int:
    """Return a number that an input always gives, and its neighbours do not."""
    return zlib.crc32(data) % below


def pieces(data: bytes) -> list[bytes]:
    """Return an input as it might arrive."""
    places = sorted({chance(data + bytes([each]), len(data) + 1) for each in range(4)})
    cut = [data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True)]
    return [piece for piece in cut if piece]
