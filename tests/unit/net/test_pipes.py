"""Pipes: borrowed, given back, and what happens when there are none."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator

import pytest

from lbproxy.net.pipes import SIZE, PipePool


@pytest.fixture
def pool() -> Iterator[PipePool]:
    """Make a pool and close what is in it."""
    pool = PipePool()
    yield pool
    pool.close()


def test_an_empty_pipe_goes_to_the_next_borrower(pool: PipePool) -> None:
    """Making a pipe costs three system calls; lending one none."""
    pipe = pool.borrow()
    assert pipe is not None
    assert (pipe.held, pipe.size) == (0, SIZE)
    pool.give_back(pipe)
    assert pool.borrow() is pipe
    pool.give_back(pipe)


def test_a_pipe_with_bytes_in_it_is_not_lent_again(pool: PipePool) -> None:
    """The bytes of one connection never get into another."""
    pipe = pool.borrow()
    assert pipe is not None
    pipe.held = os.write(pipe.write_fd, b"secret")
    pool.give_back(pipe)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(pipe.read_fd)
    other = pool.borrow()
    assert other is not None
    assert other is not pipe
    pool.give_back(other)


def test_no_more_than_a_few_are_kept(pool: PipePool) -> None:
    """A burst of bulk does not hold its descriptors for ever."""
    pipes = [pool.borrow() for _ in range(40)]
    for pipe in pipes:
        assert pipe is not None
        pool.give_back(pipe)
    closed = 0
    for pipe in pipes:
        try:
            os.fstat(pipe.read_fd if pipe else -1)
        except OSError:
            closed += 1
    assert closed == 24


def test_without_descriptors_there_is_no_pipe(pool: PipePool, monkeypatch: pytest.MonkeyPatch) -> None:
    """That is an answer and no error."""

    def full(_: int) -> tuple[int, int]:
        raise OSError(errno.EMFILE, "too many open files")

    monkeypatch.setattr(os, "pipe2", full)
    assert pool.borrow() is None


def test_a_pipe_that_may_not_grow_is_used_as_it_is(pool: PipePool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Above fs.pipe-user-pages-soft an unprivileged process is refused; what was granted is read back.

    And it is not kept: the next one may be granted more.
    """
    real = fcntl.fcntl

    def refuse(fd: int, command: int, argument: int = 0) -> int:
        if command == fcntl.F_SETPIPE_SZ:
            raise PermissionError(errno.EPERM, "over the soft limit")
        return int(real(fd, command, argument))

    monkeypatch.setattr(fcntl, "fcntl", refuse)
    pipe = pool.borrow()
    assert pipe is not None
    assert pipe.size == real(pipe.write_fd, fcntl.F_GETPIPE_SZ) < SIZE
    pool.give_back(pipe)
    monkeypatch.undo()
    other = pool.borrow()
    assert other is not None
    assert other.size == SIZE
    pool.give_back(other)


def test_close_empties_the_pool(pool: PipePool) -> None:
    """As is done when descriptors run short; pipes can be borrowed afterwards."""
    pipe = pool.borrow()
    assert pipe is not None
    pool.give_back(pipe)
    pool.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(pipe.read_fd)
    other = pool.borrow()
    assert other is not None
    assert other is not pipe
    pool.give_back(other)


def test_no_more_are_lent_than_may_be(pool: PipePool) -> None:
    """What stalls must not use up the descriptors of checks, status and new clients; the rest is copied."""
    pool.most = 2
    lent = [pool.borrow() for _ in range(3)]
    assert [pipe is not None for pipe in lent] == [True, True, False]
    assert lent[0] is not None
    pool.give_back(lent[0])
    again = pool.borrow()
    assert again is not None
    for pipe in (again, lent[1]):
        assert pipe is not None
        pool.give_back(pipe)
