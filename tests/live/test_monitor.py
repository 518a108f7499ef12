"""What one server in service is given: addresses, and checks as the settings say."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import replace
from time import monotonic, time

import pytest

from lbproxy.balance.group import MISSED
from lbproxy.balance.pool import Pool
from lbproxy.balance.server import Server
from lbproxy.balance.state import State
from lbproxy.balance.suspicion import TrafficResult
from lbproxy.checks.certificate import expiry
from lbproxy.checks.monitor import Monitor, rehearse
from lbproxy.checks.resolve import known_endpoints
from lbproxy.config.load import loads
from lbproxy.config.model import Address, HealthConfig
from lbproxy.errors import LbproxyError
from lbproxy.proxy.backend import Backend
from lbproxy.tasks import Tasks
from tests.support.certs import Certs
from tests.support.ports import free_port
from tests.support.servers import Echo, Hung
from tests.support.wait import FACTOR

TCP = HealthConfig(type="tcp", interval=0.1, timeout=1.0, rise=1, fall=1)
RARELY = replace(TCP, interval=3600.0)


class Service:
    """A backend of one server and what looks after that."""

    def __init__(self, host: str, port: int, health: HealthConfig | None = None, *, down: bool = False) -> None:
        config = loads(f"proxies: {{p: {{listen: ['127.0.0.1:1'], servers: ['127.0.0.2:1', '{host}:{port}']}}}}", "x")
        settings = config.proxies["p"]
        settings = replace(settings, servers=(replace(settings.servers[1], down=down),), health=health)
        pool = Pool(settings, "node", monotonic())
        self.tasks = Tasks()
        self.backend = Backend("p", settings, pool, lambda server, transition: None, lambda server: None)
        (self.group,) = pool.groups
        (self.server,) = pool.servers

    async def monitored(self) -> Monitor:
        """Begin as an App does."""
        return Monitor(self.tasks, self.backend, self.group, await known_endpoints([self.server.settings.address]))

    def set(self, health: HealthConfig | None) -> None:
        """Change the settings."""
        self.backend.settings = settings = replace(self.backend.settings, health=health)
        self.backend.pool.reconcile(settings, "node", monotonic())


def run(test: Callable[[], Awaitable[None]], service: Service) -> None:
    """Run `test` in a loop and clear up."""

    async def main() -> None:
        try:
            await test()
        finally:
            await service.tasks.cancel()

    asyncio.run(main())


async def until(condition: Callable[[], object]) -> None:
    """Wait for `condition`."""
    async with asyncio.timeout(10 * FACTOR):
        while not condition():
            await asyncio.sleep(0.005)


def checks(server: Server) -> int:
    """Return how often it was checked."""
    return sum(server.counts.checks.values())


def insecure() -> ssl.SSLContext:
    """Return what talks to everybody."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def test_an_address_is_an_endpoint_at_once_and_needs_no_task() -> None:
    """Nothing is looked up, nothing runs."""
    service = Service("127.0.0.1", 7)

    async def test() -> None:
        await service.monitored()
        assert service.server.endpoint == (socket.AF_INET, ("127.0.0.1", 7))
        assert len(asyncio.all_tasks()) == 1

    run(test, service)


def test_what_is_known_beforehand_is_there_from_the_first_moment() -> None:
    """Names and addresses together, each once; one that cannot be looked up is left out."""
    addresses = [Address(host, 7) for host in ("localhost", "127.0.0.1", "::1", "a.invalid")]
    known = asyncio.run(known_endpoints([*addresses, *addresses]))
    assert (socket.AF_INET, ("127.0.0.1", 7)) in known[Address("localhost", 7)]
    assert known[Address("::1", 7)] == [(socket.AF_INET6, ("::1", 7, 0, 0))]
    assert Address("a.invalid", 7) not in known


def test_a_name_that_was_not_known_is_looked_up_by_and_by() -> None:
    """The server has no address until then."""
    service = Service("localhost", 7)

    async def test() -> None:
        Monitor(service.tasks, service.backend, service.group, {})
        assert service.server.endpoint is None
        await until(lambda: service.server.endpoint)
        assert (service.server.counts.resolve_failures, service.server.counts.resolved_at > 0) == (0, True)

    run(test, service)


def test_look_ups_that_fail_are_counted() -> None:
    """Nothing changes for clients as long as the addresses stay: somebody has to be told before they do not."""
    service = Service("a.invalid", 7)

    async def test() -> None:
        Monitor(service.tasks, service.backend, service.group, {})
        await until(lambda: service.server.counts.resolve_failures == 1)
        assert service.server.counts.resolved_at < 0

    run(test, service)


@pytest.mark.parametrize("kind", ["tls", "https"])
def test_the_end_of_the_certificate_is_seen_in_a_check_whatever_it_answers(kind: str, certs: Certs) -> None:
    """No other connection tells of it; another kind of check that does not know it forgets it."""
    with Echo(tls=certs.server_context()) as echo:
        service = Service("127.0.0.1", echo.port, replace(TCP, type=kind))

        async def test() -> None:
            monitor = await service.monitored()
            await until(lambda: service.server.certificate_expires)
            with socket.create_connection(("127.0.0.1", echo.port)) as sock, insecure().wrap_socket(sock) as tls:
                shown = tls.getpeercert(binary_form=True)
            assert service.server.certificate_expires == expiry(shown or b"") > time()
            service.set(TCP)
            monitor.check()
            assert service.server.certificate_expires == 0

        run(test, service)


def test_each_address_has_a_check_of_its_own() -> None:
    """One begins with each that comes, and ends with each that goes."""
    dead = free_port()
    with socket.create_server(("127.0.0.1", 0)) as alive:
        service = Service("api.invalid", 1, TCP)
        endpoints = [(socket.AF_INET, ("127.0.0.1", port)) for port in (alive.getsockname()[1], dead)]

        async def test() -> None:
            monitor = Monitor(service.tasks, service.backend, service.group, {})
            monitor.found(endpoints)
            members = service.group.members
            await until(lambda: [each.health.state for each in members] == [State.UP, State.DOWN])
            members[1].named_at -= MISSED
            monitor.found(endpoints[:1])
            await asyncio.sleep(0)
            assert len(asyncio.all_tasks()) == 3  # this one, the look-ups, and one check
            monitor.stop()
            await until(lambda: len(asyncio.all_tasks()) == 1)

        run(test, service)


def test_a_server_without_checks_is_up_from_the_first_moment() -> None:
    """And says that no failure was seen, not that it is checked no more."""
    service = Service("127.0.0.1", 7)

    async def test() -> None:
        await service.monitored()
        assert service.server.state()[:2] == (State.UP, "no failure seen yet")

    run(test, service)


def test_checks_begin_change_and_end_with_the_settings() -> None:
    """Without them what they said is forgotten; a new kind of them has to make up its own mind."""
    port = free_port()
    service = Service("127.0.0.1", port, TCP)
    health = service.server.health

    async def test() -> None:
        monitor = await service.monitored()
        await until(lambda: health.state is State.DOWN)
        service.set(None)
        monitor.check()
        assert health.state is State.UP
        await asyncio.sleep(0)
        assert len(asyncio.all_tasks()) == 1
        service.set(replace(TCP, interval=0.2))
        monitor.check()
        await until(lambda: health.state is State.DOWN)
        with socket.create_server(("127.0.0.1", port)):
            await until(lambda: health.state is State.UP)

    run(test, service)


def test_a_check_begins_as_a_clients_connection_does() -> None:
    """A server that wants a PROXY header closes what comes without one: its checks would find it down."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        service = Service(*listener.getsockname(), replace(TCP, type="http"))
        service.backend.settings = replace(service.backend.settings, proxy_protocol="v1")

        async def test() -> None:
            monitor = await service.monitored()
            loop = asyncio.get_running_loop()
            async with asyncio.timeout(10 * FACTOR):
                conn, _ = await loop.sock_accept(listener)
                with conn:
                    assert (await loop.sock_recv(conn, 1000)).startswith(b"PROXY UNKNOWN\r\n")
            monitor.stop()

        run(test, service)


def test_checks_go_on_after_a_bug(caplog: pytest.LogCaptureFixture) -> None:
    """A server that nobody checks any more stays what it was, for good, and nobody knows."""

    class Faulty(dict[str, int]):
        """Counts of checks, the first of which cannot be counted."""

        def __setitem__(self, kind: str, count: int) -> None:
            if not service.tasks.failures["check"]:
                raise RuntimeError("a bug")
            super().__setitem__(kind, count)

    service = Service("127.0.0.1", free_port(), TCP)
    service.server.counts.checks = Faulty()

    async def test() -> None:
        await service.monitored()
        await until(lambda: service.server.health.state is State.DOWN)
        assert service.tasks.failures["check"] == 1

    run(test, service)
    lines = [record.getMessage() for record in caplog.records]
    assert lines == [f"task check {service.server.name} ended with an error, and is started again in 1 s"]


def test_a_server_that_is_switched_off_is_not_checked() -> None:
    """`down: true` is often said of a machine that is not there."""
    service = Service("127.0.0.1", free_port(), TCP, down=True)

    async def test() -> None:
        await service.monitored()
        assert len(asyncio.all_tasks()) == 1

    run(test, service)


def test_a_hurry_brings_the_next_check_forward() -> None:
    """Traffic that has failed is a reason to ask, with an interval of an hour too."""
    with Hung() as hung:
        service = Service("127.0.0.1", hung.port, RARELY)

        async def test() -> None:
            monitor = await service.monitored()
            await until(lambda: checks(service.server) == 1)
            service.backend.observe(service.server, TrafficResult("connect refused"), monotonic())
            monitor.hurry(service.server)
            await until(lambda: checks(service.server) == 2)

        run(test, service)


def test_nothing_runs_for_a_server_after_stop() -> None:
    """Neither its look-ups nor its checks."""
    service = Service("localhost", free_port(), TCP)

    async def test() -> None:
        monitor = await service.monitored()
        await until(lambda: checks(service.server))
        monitor.stop()
        await until(lambda: len(asyncio.all_tasks()) == 1)

    run(test, service)


def test_a_check_that_could_not_be_made_is_found_in_the_rehearsal() -> None:
    """Before anything is bound or changed."""
    text = "proxies: {{p: {{listen: ['127.0.0.1:1'], servers: ['127.0.0.2:1'], health: {}}}}}"
    asyncio.run(rehearse(loads(text.format("{type: https}"), "x")))
    with pytest.raises(LbproxyError, match="/nothing/there"):
        asyncio.run(rehearse(loads(text.format("{ca_file: /nothing/there}"), "x")))
