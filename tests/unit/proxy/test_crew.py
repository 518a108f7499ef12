"""One proxy in several processes: what is told of servers, and who believes it."""

from __future__ import annotations

import pickle
from collections.abc import Hashable, Iterator

import pytest

from lbproxy.balance.checked import CheckResult
from lbproxy.balance.server import Lease
from lbproxy.balance.shared import Shares
from lbproxy.balance.state import State
from lbproxy.balance.suspicion import TrafficResult
from lbproxy.proxy.backend import LOCATED, PROVED, SILENT, TRIED, WANTED, Sign
from lbproxy.proxy.crew import believe, find, paint
from lbproxy.proxy.listener import ConnectionLimit
from lbproxy.proxy.sessions import Sessions
from tests.unit.balance.test_shared import COLUMNS, Latch
from tests.unit.relay.hand import Bench
from tests.unit.scene import Scene

PLACES = (("127.0.0.1", 1), ("127.0.0.1", 2))
DOWN = CheckResult(State.DOWN, "port closed", "refused")


class Columns:
    """Gives each key a column, in order."""

    def __init__(self) -> None:
        self.of: dict[Hashable, int] = {}

    def __call__(self, key: Hashable) -> int:
        """Return the column of a key."""
        return self.of.setdefault(key, len(self.of))


class Two:
    """A process that leads, and one that follows; what is said between them is pickled."""

    def __init__(self, bench: Bench) -> None:
        numbers = memoryview(bytearray(2 * COLUMNS * 8)).cast("q")
        self.leader, self.follower = Scene(bench, *PLACES, max_fails=1), Scene(bench, *PLACES, max_fails=1)
        self.columns = Columns()
        self.leader.backend.pool.shares = Shares(numbers, 2, COLUMNS, -1, Latch())
        self.follower.backend.pool.shares = Shares(numbers, 2, COLUMNS, 0, Latch())
        self.sessions = Sessions(bench.poller, self.follower.backend, ConnectionLimit(10), lambda slot: None)
        self.signs: list[tuple[str, Sign]] = []
        self.follower.backend.on_sign = lambda server, sign: self.signs.append((server.name, sign))
        self.follower.backend.pool.on_trial = lambda server: self.signs.append((server.name, TRIED))

    def tell(self) -> None:
        """Have the follower told how all is."""
        picture = pickle.loads(pickle.dumps(paint(self.leader.backend, self.columns)))  # noqa: S301
        believe(self.follower.backend, self.sessions, picture, 1.0)


@pytest.fixture
def two() -> Iterator[Two]:
    """Make two processes in one."""
    bench = Bench()
    yield Two(bench)
    bench.close()


def test_what_the_leader_has_found_out_a_follower_acts_on(two: Two) -> None:
    """With the checks' own word, upon which its connections are cut; told the same again, it does nothing."""
    two.leader.backend.observe(two.leader.servers[0], DOWN, 1.0)
    for _ in range(2):
        two.tell()
    assert [(name, t.new, t.said) for name, t in two.follower.transitions] == [("s0", State.DOWN, State.DOWN)]
    assert two.follower.states() == two.leader.states()


def test_a_follower_acts_on_what_it_sees_at_once_and_says_so(two: Two) -> None:
    """A failure, a trial, a first answer, silence and a missing address are signs; what works as ever is none."""
    backend, server = two.follower.backend, two.follower.servers[0]
    failure = TrafficResult("connect refused")
    backend.observe(server, failure, 1.0)
    assert two.follower.states()[0] is State.DOWN
    backend.answered(two.follower.servers[1], 0.0, 1.0)
    backend.answered(two.follower.servers[1], 0.0, 1.0)
    backend.silent(server, 1.0)
    backend.nobody()
    server.endpoint = None
    backend.nobody()
    assert two.signs == [("s0", failure), ("s1", PROVED), ("s0", SILENT), ("s0", WANTED)]


def test_a_trial_is_a_sign(two: Two) -> None:
    """Or each process would try a suspect for itself."""
    two.follower.backend.observe(two.follower.servers[0], TrafficResult("connect refused"), 1.0)
    two.follower.servers[0].turn = 10**9
    two.signs.clear()
    two.follower.backend.pool.pick(100.0)
    assert two.signs == [("s0", TRIED)]


def test_a_name_that_leads_elsewhere_is_a_sign_and_agreeing_is_none(two: Two) -> None:
    """Who leads tells it at once; who is told has nothing to say about it."""
    heard: list[Sign] = []
    backend = two.leader.backend
    backend.on_sign = lambda server, sign: heard.append(sign)
    group, place = backend.pool.groups[0], (2, ("127.0.0.7", 1))
    backend.resolved(group, [place], 100.0)
    assert heard == [LOCATED]
    backend.resolved(group, [place], 100.0)
    assert heard == [LOCATED]
    two.tell()
    assert place in [server.endpoint for server in two.follower.backend.pool.servers]
    assert two.signs == []


def test_a_picture_says_where_to_count(two: Two) -> None:
    """What a follower carries is known to the leader from then on, that of before included."""
    lease = Lease(two.follower.servers[1])
    two.tell()
    assert [server.carried() for server in two.leader.servers] == [0, 1]
    lease.release()
    assert [server.carried() for server in two.leader.servers] == [0, 0]


def test_servers_that_lead_nowhere_or_back_are_told_as_such(two: Two) -> None:
    """With the reason, which the follower's own failures to serve a client name."""
    two.leader.servers[0].circular = "it leads back"
    two.leader.servers[1].endpoint = None
    two.leader.servers[1].nowhere = "its name does not resolve"
    two.tell()
    assert two.follower.servers[0].circular == "it leads back"
    assert two.follower.servers[1].nowhere == "its name does not resolve"


def test_a_sign_of_a_server_that_is_no_more_is_about_nobody(two: Two) -> None:
    """The configuration may have changed while it was under way."""
    backend = two.leader.backend
    server = two.leader.servers[0]
    assert find(backend, server.key, server.endpoint) is server
    assert find(backend, server.key, (2, ("127.0.0.9", 1))) is None
    assert find(backend, ("other", "x:1"), server.endpoint) is None
