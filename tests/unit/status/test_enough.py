"""When a daemon has enough servers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lbproxy.status.enough import lacking
from lbproxy.status.render import status_json
from tests.unit.status.values import server, snapshot


@pytest.mark.parametrize(
    ("wanted", "lack"),
    [(0, []), (None, ["p: 1 of 4 servers up, 3 wanted", "q: 0 of 1 servers up, 1 wanted"]),
     (1, ["q: 0 of 1 servers up, 1 wanted"]),
     (2, ["p: 1 of 4 servers up, 2 wanted", "q: 0 of 1 servers up, 2 wanted"])],
)  # fmt: skip
def test_only_those_that_are_up_count_and_for_each_proxy(wanted: int | None, lack: list[str]) -> None:
    """Right after a start all are unchecked: that they may be used does not say that they work."""
    first = snapshot(
        server("a"), server("b", state="unchecked"), server("c", state="down"), server("d", state="disabled")
    ).proxies[0]
    second = snapshot(server("d", state="unchecked")).proxies[0]
    status = status_json(replace(snapshot(), proxies=(replace(first, name="p"), replace(second, name="q"))))
    assert lacking(status, wanted) == lack
