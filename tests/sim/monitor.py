"""What looks after a configured server in place of `checks.monitor`: its name is looked up, its addresses checked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lbproxy.balance.checked import CheckResult
from lbproxy.balance.group import Group
from lbproxy.balance.server import Endpoint, Server
from lbproxy.balance.state import State
from lbproxy.proxy.backend import Backend

if TYPE_CHECKING:
    from tests.sim.host import Host

EVERY, SOON, TAKES = 30.0, 1.0, 0.02
"""Seconds between two look-ups, at least and at most, and what one takes."""


class Monitor:
    """Looks after it until `stop`."""

    def __init__(self, host: Host, backend: Backend, group: Group) -> None:
        self._host, self._backend, self._group = host, backend, group
        self._asked: dict[Server, object] = {}
        """The checks that go on: who answers another question than the last one is not heard."""
        self._ended = False
        self._looked_at = host.loop.kernel.now
        self._take(self._answer())
        if self._named:
            host.loop.call_later(EVERY if group.members[0].endpoint else TAKES, self._look_up)

    @property
    def _named(self) -> bool:
        return not self._group.settings.address.host[0].isdigit()

    # -- names ---------------------------------------------------------------------------------------------------

    def _answer(self) -> list[Endpoint] | None:
        address = self._group.settings.address
        found = self._host.world.operations.look_up(address.host)
        return None if found is None else [(2, (host, address.port)) for host in found]

    def _look_up(self) -> None:
        if not self._ended:
            self._looked_at = self._host.loop.kernel.now
            self._host.loop.call_later(TAKES, self._take, self._answer())
            self._host.loop.call_later(EVERY, self._look_up)

    def _look_up_soon(self) -> None:
        now = self._host.loop.kernel.now
        if not self._ended and now >= self._looked_at + SOON:
            self._looked_at = now
            self._host.loop.call_later(TAKES, self._take, self._answer())

    def _take(self, answer: Sequence[Endpoint] | None) -> None:
        if answer is not None and not self._ended:
            self.found(answer)

    def found(self, answer: Sequence[Endpoint]) -> None:
        """See `ServerMonitor`, as for the others."""
        self._backend.resolved(self._group, answer, self._host.loop.kernel.now)
        for server in [each for each in self._asked if each not in self._group.members]:
            del self._asked[server]
        for server in self._group.members:
            if server not in self._asked:
                self._begin(server)

    # -- checks --------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Check as the settings say now, or no longer."""
        for server in self._group.members:
            if server not in self._asked or self._backend.settings.health is None:
                self._backend.uncheck(server, self._host.loop.kernel.now)
            self._asked.pop(server, None)
            self._begin(server)

    def _begin(self, server: Server) -> None:
        if self._backend.settings.health is not None and server.endpoint is not None:
            self._asked[server] = question = object()
            self._host.loop.call_later(self._host.world.rng.uniform(0.0, 0.5), self._ask, server, question, True)

    def _ask(self, server: Server, question: object, again: bool) -> None:
        if self._asked.get(server) is question and server.endpoint is not None:
            where = server.endpoint[1][0]
            seconds, result = next(each for each in self._host.world.servers if each.host == where).checked()
            self._host.loop.call_later(seconds, self._answered, server, question, result, again)

    def _answered(self, server: Server, question: object, result: CheckResult, again: bool) -> None:
        health = self._backend.settings.health
        if self._asked.get(server) is not question or health is None:
            return
        self._backend.observe(server, result, self._host.loop.kernel.now)
        if again:
            pause = 1.0 if server.health.checked.unsettled else health.interval
            self._host.loop.call_later(pause, self._ask, server, question, True)

    def hurry(self, server: Server) -> None:
        """Ask once more, soon, and where the name leads."""
        if self._named:
            self._look_up_soon()
        question = self._asked.get(server)
        if question is not None and server.health.checked.state is State.UP:
            self._host.loop.call_later(0.1, self._ask, server, question, False)

    def stop(self) -> None:
        """Look after it no longer."""
        self._ended = True
        self._asked.clear()
