"""Marks in memory that outlives a process."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from lbproxy.handover.marks import DOWNWARD, SLOT, UPWARD, Marks


@pytest.fixture
def marks() -> Iterator[Marks]:
    """Make some for three connections."""
    made = Marks.create(3)
    yield made
    made.close()


def heir(marks: Marks) -> Marks:
    """Return the same memory as another process would map it."""
    return Marks(os.dup(marks.fd))


def test_slots_run_out_and_come_back(marks: Marks) -> None:
    """(0, 0) stands for no slot: that connection is not kept."""
    slots = [marks.take()[0] for _ in range(4)]
    assert slots == [1, 2, 3, 0]
    marks.free(2)
    assert marks.take()[0] == 2


def test_a_serial_number_is_never_given_twice(marks: Marks) -> None:
    """Not for the same slot and not by a successor: an entry of a dead connection must never pass for a living one."""
    slot, first = marks.take()
    marks.free(slot)
    again, second = marks.take()
    assert again == slot
    marks.free(slot)
    successor = heir(marks)
    successor.claim([])
    _, third = successor.take()
    assert first < second < third
    successor.close()


@pytest.mark.parametrize("direction", [UPWARD, DOWNWARD])
def test_a_mark_is_seen_by_the_successor(marks: Marks, direction: int) -> None:
    """In each direction, and only for the connection it was set for."""
    marked, serial = marks.take()
    other, _ = marks.take()
    marks.page[marked * SLOT + direction] = 1
    successor = heir(marks)
    assert successor.marked(marked)
    assert successor.serial(marked) == serial
    assert not successor.marked(other)
    successor.close()


def test_a_successor_has_the_slots_that_are_not_in_use(marks: Marks) -> None:
    """A slot whose connection did not come along is wiped and given out again."""
    for _ in range(3):
        marks.take()
    successor = heir(marks)
    successor.claim([2])
    assert [successor.serial(slot) > 0 for slot in (1, 2)] == [False, True]
    assert sorted(successor.take()[0] for _ in range(2)) == [1, 3]
    assert successor.take() == (0, 0)
    successor.close()


def test_no_slot_has_no_serial_number(marks: Marks) -> None:
    """Also for numbers that a message from elsewhere could hold."""
    assert [marks.serial(slot) for slot in (-1, 0, 1, 4, 10**9)] == [0] * 5


def test_which_queue_was_written_at_rest_is_known_to_the_successor(marks: Marks) -> None:
    """None is, to begin with; giving out slots does not touch it."""
    assert marks.at_rest == 0
    marks.at_rest = 7
    marks.take()
    successor = heir(marks)
    assert successor.at_rest == 7
    successor.at_rest = 0
    assert marks.at_rest == 0
    successor.close()
