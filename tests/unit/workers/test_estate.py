"""What workers keep, in the supervisor's hands, and the same in systemd's."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from lbproxy.handover.keeper import MARKS, QUEUE
from lbproxy.handover.sets import name_of
from lbproxy.workers.estate import Estate
from lbproxy.workers.wire import FROZEN
from tests.unit.handover.shelf import Shelf


@pytest.fixture
def shelf() -> Iterator[Shelf]:
    """Make an fd store and empty it."""
    made = Shelf()
    yield made
    made.close()


def fd() -> int:
    """Return a descriptor."""
    return os.open(os.devnull, os.O_RDONLY)


def opened() -> int:
    """Return how many descriptors are open."""
    return len(list(Path("/proc/self/fd").iterdir()))


def test_what_a_worker_keeps_is_kept_by_systemd_too_and_forgotten_with_it(shelf: Shelf) -> None:
    """By the number of its set; a part that was never kept is nobody's to forget, and no descriptor is left."""
    before = opened()
    estate = Estate(shelf)
    one, two = estate.holding(), estate.holding()
    one.part(True, MARKS, [fd()])
    one.part(True, f"{QUEUE}-1", [fd()])
    two.part(True, MARKS, [fd()])
    assert shelf.names() == sorted([name_of(1, MARKS), name_of(1, f"{QUEUE}-1"), name_of(2, MARKS)])
    assert sorted(one.names()) == sorted([name_of(1, MARKS), name_of(1, f"{QUEUE}-1")])
    one.part(False, f"{QUEUE}-1", [])
    one.part(False, "listener-x", [])
    assert shelf.names() == [name_of(1, MARKS), name_of(2, MARKS)]
    one.forget()
    two.forget()
    assert shelf.names() == []
    assert opened() == before


def test_without_systemd_the_supervisor_alone_holds_it() -> None:
    """That is enough for the death of a worker."""
    before = opened()
    holding = Estate(None).holding()
    holding.part(True, MARKS, [fd()])
    assert opened() == before + 1
    holding.forget()
    assert opened() == before


def test_numbers_go_on_after_those_of_a_predecessor(shelf: Shelf) -> None:
    """Of two sets with the same socket the one of the higher number is right."""
    estate = Estate(shelf)
    estate.after([name_of(7, MARKS), name_of(9, f"{QUEUE}-3"), "listener-x", MARKS])
    holding = estate.holding()
    holding.part(True, MARKS, [fd()])
    assert shelf.names() == [name_of(10, MARKS)]
    holding.forget()


def test_the_queue_of_a_standstill_is_not_kept(shelf: Shelf) -> None:
    """It is on its way to another process, and closed when nobody has come for it."""
    before = opened()
    holding = Estate(shelf).holding()
    holding.part(True, FROZEN, [fd()])
    assert (shelf.names(), holding.stands_still.is_set()) == ([], True)
    holding.drop_frozen()
    assert (holding.frozen, holding.stands_still.is_set(), opened()) == (-1, False, before)
