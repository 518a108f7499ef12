"""The memory in which all count: who has which column, and the lock at a limit."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from lbproxy.workers.board import COLUMNS, OPEN, Board, Columns, FileGuard


@pytest.fixture
def board() -> Iterator[Board]:
    """Make a board of two rows."""
    made = Board.create(2)
    yield made
    made.close()


def board_of(board: Board, row: int) -> Board:
    """Return the same board, as a worker has it."""
    return Board(os.dup(board.fd), 2, row)


def test_a_row_is_empty_for_the_next_worker_in_it(board: Board) -> None:
    """What a dead one has counted stands until somebody is in its place."""
    first = board_of(board, 0)
    cell = first.shares().cell(OPEN)
    assert cell is not None
    cell.put(7)
    second = board_of(board, 1)
    other = second.shares().cell(OPEN)
    assert other is not None
    other.put(3)
    assert board.column(OPEN) == [7, 3]
    again = board_of(board, 0)
    assert board.column(OPEN) == [0, 3]
    assert again.heard(0) == 0
    again.beat()
    assert board.heard(0) > 0
    for each in (first, second, again):
        each.close()


def test_a_column_is_not_given_anew_while_anything_is_counted_in_it(board: Board) -> None:
    """The connections of a server that was removed drain, and must not be another one's."""
    columns = Columns(board)
    one, two = columns.of("one"), columns.of("two")
    columns.sweep()
    worker = board_of(board, 0)
    cell = worker.shares().cell(one)
    assert cell is not None
    cell.put(1)
    columns.sweep()
    assert columns.of("three") == two
    assert columns.of("four") != one
    cell.put(0)
    columns.sweep()
    columns.sweep()
    assert columns.of("five") in range(2, 5)
    worker.close()


def test_when_all_columns_are_taken_there_is_none(board: Board) -> None:
    """What has none is counted by each worker alone."""
    columns = Columns(board)
    given = [columns.of(number) for number in range(COLUMNS)]
    assert given.count(-1) == 2
    assert sorted(column for column in given if column >= 0) == list(range(2, COLUMNS))


def test_a_guard_is_one_process_at_a_time_and_never_waited_for(board: Board) -> None:
    """A worker that was stopped with it in its hands must not stop the others; one that dies gives it up."""
    program = (
        "import fcntl, sys\nfcntl.lockf(int(sys.argv[1]), fcntl.LOCK_EX)\nprint('held', flush=True)\nsys.stdin.read()\n"
    )
    guard = FileGuard(board.fd)
    with subprocess.Popen(
        [sys.executable, "-c", program, str(board.fd)], pass_fds=[board.fd], stdin=-1, stdout=-1, text=True
    ) as other:
        assert other.stdout
        assert other.stdin
        assert other.stdout.readline() == "held\n"
        guard.take()
        assert not guard._held
        guard.release()
        other.stdin.close()
        other.wait()
    guard.take()
    assert guard._held
    guard.release()
    assert not guard._held
