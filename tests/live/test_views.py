"""What a proxy shows of itself."""

from __future__ import annotations

from tests.live.place import Place
from tests.unit.relay.hand import stuff, take


def test_bytes_of_live_and_of_ended_connections_are_added_up(place: Place) -> None:
    """A counter that falls when a connection ends is none."""
    client, far, name = place.linked()
    stuff(client, b"x" * 100)
    stuff(far, b"y" * 10)
    place.loop.until(lambda: len(take(client)) == 10)

    def figures() -> tuple[int, int, int]:
        view = next(server for server in place.proxy.view(0.0).servers if server.name == name)
        return view.connections, view.bytes_in_total, view.bytes_out_total

    place.loop.until(lambda: figures() == (1, 100, 10))
    (conn,) = place.proxy.connections(place.bench.poller.now)
    assert (conn.proxy, conn.server, conn.bytes_in, conn.bytes_out) == ("p", name, 100, 10)
    assert conn.client == "{}:{}".format(*client.getsockname())
    client.close()
    far.close()
    place.loop.until(lambda: not len(place.proxy.sessions))
    assert figures() == (0, 100, 10)
    assert sum(place.proxy.view(0.0).closed.values()) == 1
