"""What a process makes of the descriptors that systemd hands it."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Sequence

import pytest

from lbproxy.balance.group import MISSED, Group
from lbproxy.balance.pool import Pool
from lbproxy.balance.server import Endpoint
from lbproxy.config.model import Address, ProxyConfig, ServerConfig
from lbproxy.handover.fdqueue import FdQueue
from lbproxy.handover.inherit import Inherited, adopt, from_fds
from lbproxy.handover.keeper import CONFIG, MARKS, QUEUE
from lbproxy.handover.marks import SLOT, Marks
from lbproxy.handover.parcel import Parcel, memfd
from lbproxy.proxy.backend import Backend
from lbproxy.proxy.listener import ConnectionLimit
from lbproxy.proxy.proxy import Proxy, Shared
from tests.support.need import need
from tests.unit.relay.hand import Bench, ended, stuff, take
from tests.unit.scene import Unwatched


def dup(sock: socket.socket) -> int:
    """Return a descriptor of its own for a socket."""
    return os.dup(sock.fileno())


def close(inherited: Inherited) -> None:
    """Close what was found."""
    for sock in inherited.listeners.values():
        sock.close()
    for parcel in (*inherited.rested, *inherited.kept):
        os.close(parcel.client_fd)
    if inherited.marks is not None:
        inherited.marks.close()


def test_nothing_is_nothing() -> None:
    """A first start."""
    assert from_fds({}) == Inherited()


def test_whatever_listens_is_a_listener(bench: Bench) -> None:
    """From the store or from a socket unit, under any name; IPv6 too."""
    need("ipv6")
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as six:
        four = bench.listen()
        inherited = from_fds({"listener-x": [dup(four)], "lbproxy.socket": [dup(six)]})
        assert set(inherited.listeners) == {Address(*four.getsockname()), Address(*six.getsockname()[:2])}
        assert not any(sock.getblocking() for sock in inherited.listeners.values())
    close(inherited)


def test_what_is_of_no_use_is_closed(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """A pipe, a connection, a datagram socket: a warning with its name, and the start goes on."""
    far, _ = bench.pair()
    pipe, other = os.pipe()
    with socket.socket(type=socket.SOCK_DGRAM) as datagram:
        inherited = from_fds({"a": [dup(far)], "b": [dup(datagram)], "c": [pipe]})
    os.close(other)
    assert inherited == Inherited()
    assert len(caplog.records) == 3


def test_the_configuration_is_text() -> None:
    """For a successor that finds a broken file."""
    assert from_fds({CONFIG: [memfd("x", b"proxies: {}\n")]}).config == "proxies: {}\n"


def test_of_several_queues_the_one_written_at_rest_is_told_apart() -> None:
    """All are read, the oldest first; the state of the newest counts."""
    marks = Marks.create(3)
    named = {}
    for number in (10, 9):
        queue = FdQueue()
        queue.send([Parcel(client_fd=0, proxy="p", peer=("::1", 1), born=0.0, slot=number)])
        queue.send_state({"carrier": number})
        named[f"{QUEUE}-{number}"] = [dup(queue.receiver)]
        queue.close()
    marks.at_rest = 9
    inherited = from_fds({**named, MARKS: [os.dup(marks.fd)]})
    assert ([p.slot for p in inherited.rested], [p.slot for p in inherited.kept]) == ([9], [10])
    assert (inherited.queues, inherited.state) == ([9, 10], {"carrier": 10})
    close(inherited)
    marks.close()


def test_a_queue_of_another_version_costs_its_connections_and_no_more(caplog: pytest.LogCaptureFixture) -> None:
    """One line says so."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    socket.send_fds(ours, [b"\xee new"], [0])
    assert from_fds({f"{QUEUE}-4": [theirs.detach()]}) == Inherited(queues=[4])
    ours.close()
    assert [record.message for record in caplog.records] == [
        "connections of the process before this one are lost: handover version 238, only 1 is known here"
    ]


class Node:
    """A proxy `p` with one server, and connections that a predecessor has left to it."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.marks = Marks.create(5)
        bench.poller.marks = self.marks.page
        self.proxies: dict[str, Proxy] = {}
        self.address = bench.listen().getsockname()
        self.open("p", self.server())

    def server(self, name: str = "m1") -> ServerConfig:
        return ServerConfig(name=name, address=Address(*self.address))

    def open(self, name: str, *servers: ServerConfig) -> Proxy:
        """Configure a proxy."""
        settings = ProxyConfig(listen=(), servers=servers, drain_timeout=5.0)
        pool = Pool(settings, "node", 0.0)
        self.proxies[name] = Proxy(name, settings, pool, Shared(self.bench.poller, ConnectionLimit(100), Unwatched))
        return self.proxies[name]

    def left(self, proxy: str = "p", server: str = "m1") -> tuple[Parcel, socket.socket, socket.socket]:
        """Return a connection's parcel, with a slot, and its two far ends."""
        client, near = self.bench.pair()
        far, backend = self.bench.pair()
        slot, serial = self.marks.take()
        parcel = Parcel(client_fd=dup(near), server_fd=dup(backend), proxy=proxy, peer=("127.0.0.1", 5), born=-90.0,
                        server=(server, str(self.server().address)), slot=slot, serial=serial)  # fmt: skip
        return parcel, client, far

    def adopt(self, *kept: Parcel) -> None:
        """Start with these."""
        frozen, _ = adopt(Inherited(kept=list(kept)), self.bench.poller, self.marks, lambda name: self.proxies[name])
        for each in frozen:
            each.thaw()

    def close(self) -> None:
        """Cut everything."""
        for proxy in self.proxies.values():
            proxy.sessions.close("over")
        self.marks.close()


@pytest.fixture
def node(bench: Bench) -> Iterator[Node]:
    """Make a node and clear it away."""
    made = Node(bench)
    yield made
    made.close()


def test_an_adopted_connection_goes_on_where_it_was(node: Node, bench: Bench) -> None:
    """Bytes move both ways; its server counts it, its age is what it was."""
    parcel, client, server = node.left()
    stuff(client, b"up")
    node.adopt(parcel)
    stuff(server, b"down")
    bench.loop.settle()
    assert (take(server), take(client)) == (b"up", b"down")
    assert node.proxies["p"].backend.pool.servers[0].connections == 1
    assert [view.age_seconds > 90 for view in node.proxies["p"].connections(bench.poller.now)] == [True]


def test_one_that_its_server_has_ended_meanwhile_is_no_strangers(node: Node, bench: Bench) -> None:
    """Where it led nobody can say any more, and its last words are still to be read: it may take its time for that."""
    parcel, client, server = node.left()
    stuff(server, b"last words")
    server.shutdown(socket.SHUT_WR)
    client.shutdown(socket.SHUT_WR)
    end = socket.socket(fileno=os.dup(parcel.server_fd))
    with end:
        end.shutdown(socket.SHUT_WR)
        node.bench.loop.until(lambda: _without_peer(end), "the connection is over")
    node.adopt(parcel)
    assert not [timer for timer in bench.poller.timers.expire(bench.poller.now + 10) if "Eviction" in repr(timer)]
    bench.loop.settle()
    assert take(client) == b"last words"


def _without_peer(sock: socket.socket) -> bool:
    try:
        sock.getpeername()
    except OSError:
        return True
    return False


def test_half_closed_ones_stay_half_closed(node: Node, bench: Bench) -> None:
    """The end that was read before is read again, and passed on again, which changes nothing."""
    parcel, client, server = node.left()
    parcel.first_fin = "client_fin"
    client.shutdown(socket.SHUT_WR)
    node.adopt(parcel)
    bench.loop.settle()
    assert ended(server) == "fin"
    stuff(server, b"still coming")
    bench.loop.settle()
    assert take(client) == b"still coming"


def test_one_with_a_mark_is_reset_on_both_sides(node: Node, bench: Bench) -> None:
    """Both peers can tell that the stream was cut."""
    parcel, client, server = node.left()
    node.marks.page[parcel.slot * SLOT] = 1
    node.adopt(parcel)
    assert (ended(client), ended(server)) == ("rst", "rst")
    assert not node.proxies["p"].sessions


def test_one_to_a_server_that_is_no_longer_configured_may_drain(node: Node, bench: Bench) -> None:
    """It goes on for drain_timeout, as after a reload that removed the server."""
    parcel, client, server = node.left(server="gone")
    node.adopt(parcel)
    stuff(client, b"up")
    bench.loop.settle()
    assert take(server) == b"up"
    later(bench)
    assert (ended(client), ended(server)) == ("rst", "rst")


def later(bench: Bench) -> None:
    """Have all timers of the next ten seconds be due."""
    for item in bench.poller.timers.expire(bench.poller.now + 10):
        item.due(bench.poller.now + 10)


class Named(Node):
    """A node whose server is a name, in front of two listening sockets on addresses of the loopback net."""

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench)
        self.one = bench.listen()
        port = self.one.getsockname()[1]
        self.two = bench.keep(socket.create_server(("127.0.0.2", port)))
        self.named = ServerConfig(name="api", address=Address("api.test", port))
        pool = Pool(ProxyConfig(listen=(), servers=(self.named,), drain_timeout=5.0), "node", 0.0)
        shared = Shared(bench.poller, ConnectionLimit(100), Lookout)
        self.proxies["q"] = Proxy("q", ProxyConfig(listen=(), servers=(self.named,), drain_timeout=5.0), pool, shared)
        self.group = pool.groups[0]

    def endpoint(self, sock: socket.socket) -> Endpoint:
        return socket.AF_INET, sock.getsockname()

    def to(self, sock: socket.socket) -> tuple[Parcel, socket.socket]:
        """Return the parcel of a connection to that one, and its client."""
        client, near = self.bench.pair()
        with socket.create_connection(sock.getsockname()) as server:
            server.setblocking(False)
            slot, serial = self.marks.take()
            parcel = Parcel(client_fd=dup(near), server_fd=dup(server), proxy="q", peer=("127.0.0.1", 5), born=-90.0,
                            server=self.group.key, slot=slot, serial=serial)  # fmt: skip
        return parcel, client

    def counts(self) -> dict[str, int]:
        """Return how many connections each member has, by address."""
        return {server.place: server.connections for server in self.group.members}


class Lookout(Unwatched):
    """Who looks after a name that nobody knows, and hears of its addresses."""

    def __init__(self, backend: Backend, group: Group) -> None:
        self._backend = backend
        self._group = group

    def found(self, answer: Sequence[Endpoint]) -> None:
        """Pass it on."""
        self._backend.resolved(self._group, answer, 0.0)


@pytest.fixture
def named(bench: Bench) -> Iterator[Named]:
    """Make a node and clear it away."""
    made = Named(bench)
    yield made
    made.close()


def test_a_connection_belongs_to_the_address_that_it_is_connected_to(named: Named) -> None:
    """What happens to one address of a name concerns its connections, after an upgrade too."""
    named.proxies["q"].backend.resolved(named.group, [named.endpoint(each) for each in (named.one, named.two)], 0.0)
    named.adopt(*(named.to(each)[0] for each in (named.two, named.one, named.two)))
    assert named.counts() == {"127.0.0.1": 1, "127.0.0.2": 2}


def test_an_address_that_the_first_answer_lacks_keeps_its_connections(named: Named, bench: Bench) -> None:
    """Some name servers give a few addresses in turn, and a new process has heard one answer: it may lack any."""
    resolved = named.proxies["q"].backend.resolved
    resolved(named.group, [named.endpoint(named.two)], 0.0)
    (stays, staying), (lacks, lacking) = named.to(named.two), named.to(named.one)
    named.adopt(stays, lacks)
    assert named.counts() == {"127.0.0.1": 1, "127.0.0.2": 1}
    later(bench)
    assert (ended(staying), ended(lacking)) == ("open", "open")
    resolved(named.group, [named.endpoint(named.two)], MISSED)
    assert named.counts() == {"127.0.0.2": 1}
    assert named.group.counts.connections == 2
    later(bench)
    assert (ended(staying), ended(lacking)) == ("open", "rst")


def test_a_name_that_is_not_known_leads_to_where_its_connections_are(named: Named) -> None:
    """An upgrade while no name server answers: the last known addresses are those."""
    named.adopt(*(named.to(each)[0] for each in (named.one, named.two, named.one)))
    assert named.counts() == {"127.0.0.1": 2, "127.0.0.2": 1}
