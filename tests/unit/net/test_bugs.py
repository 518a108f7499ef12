"""A bug costs the connection that meets it, and nobody else anything."""

from __future__ import annotations

import pytest

from lbproxy.net.bugs import for_each


class Connection:
    """Something that is done to one after the other; `faults` says what raises."""

    def __init__(self, *faults: str) -> None:
        self.calls: list[str] = []
        self._faults = faults

    def act(self) -> None:
        """Do it."""
        self._called("act")

    def crashed(self) -> None:
        """Be closed for a bug."""
        self._called("crashed")

    def _called(self, name: str) -> None:
        self.calls.append(name)
        if name in self._faults:
            raise RuntimeError(f"a bug in {name}")


def test_one_that_raises_is_closed_and_the_others_have_their_turn(caplog: pytest.LogCaptureFixture) -> None:
    """A thousand connections of a dead server are cut, whatever the first of them does."""
    connections = [Connection("act"), Connection("act", "crashed"), Connection()]
    for_each(connections, Connection.act)
    assert [each.calls for each in connections] == [["act", "crashed"], ["act", "crashed"], ["act"]]
    assert [record.getMessage() for record in caplog.records] == [
        "a connection met a bug and is closed",
        "a connection met a bug and is closed",
        "and closing it met another",
    ]
    assert all(record.exc_info for record in caplog.records)
