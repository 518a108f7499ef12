"""What must hold between keys, and what a value that could not be read must not set off."""

from __future__ import annotations

import pytest

from lbproxy.config import rules
from lbproxy.config.load import loads
from lbproxy.config.model import Address, Config, HealthConfig, ProxyConfig, ServerConfig
from lbproxy.errors import ConfigError

HERE = Address("127.0.0.1", 6443)
THERE = ServerConfig(address=Address("10.4.6.11", 6443))


def problems(proxy: str, rest: str = "") -> list[str]:
    """Return what is wrong with a file of one proxy `a`, given as the inside of a flow mapping."""
    try:
        loads(f"proxies: {{a: {{{proxy}}}}}\n{rest}", "f")
    except ConfigError as error:
        return [f"{problem.path}: {problem.why}" for problem in error.problems]
    return []


def test_proxies_may_stand_behind_each_other_and_not_in_a_circle() -> None:
    """One client would go round until no descriptor is left, in whichever of them it begins."""
    row = "  {}: {{listen: 127.0.0.1:{}, servers: [127.0.0.1:{}, 10.4.6.11:1]}}\n"
    assert loads("proxies:\n" + row.format("a", 1, 2) + row.format("b", 2, 3) + row.format("c", 3, 9), "f")
    with pytest.raises(ConfigError) as refused:
        loads("proxies:\n" + row.format("a", 1, 2) + row.format("b", 2, 3) + row.format("c", 3, 2), "f")
    assert str(refused.value).splitlines() == [
        "f:3: proxies.b.servers[0]: 127.0.0.1:3 is c, whose servers lead back to this proxy",
        "f:4: proxies.c.servers[0]: 127.0.0.1:2 is b, whose servers lead back to this proxy",
    ]


@pytest.mark.parametrize(
    ("bound", "dialled", "loop"),
    [
        ("127.0.0.1:1", "127.0.0.1:1", True),
        ("127.0.0.1:1", "127.0.0.1:2", False),
        ("127.0.0.1:1", "127.0.0.2:1", False),
        ("127.0.0.1:1", "localhost:1", True),
        ("127.0.0.2:1", "localhost:1", False),
        ("127.0.0.1:1", "localhost.example:1", False),
        ("0.0.0.0:1", "127.9.9.9:1", True),
        ("0.0.0.0:1", "10.4.6.11:1", False),
        ("0.0.0.0:1", "[::1]:1", False),
        ("[::]:1", "[::1]:1", True),
        ("[::]:1", "127.0.0.1:1", False),
        ("[::1]:1", "localhost.:1", True),
        ("[fd00:0::1]:1", "[fd00::1]:1", True),
    ],
)
def test_a_proxy_is_not_its_own_server(bound: str, dialled: str, loop: bool) -> None:
    """By its address, by `localhost`, or by loopback when it listens everywhere; IPv6 listeners are IPv6 only."""
    found = problems(f"listen: '{bound}', servers: ['{dialled}']")
    assert [problem.partition(" is this")[0] for problem in found] == (
        [f"proxies.a.servers[0]: {dialled}"] if loop else []
    )


def test_another_proxy_may_be_a_server() -> None:
    """A chain is odd but works."""
    assert (
        problems("listen: '127.0.0.1:1', servers: ['127.0.0.1:2']}, b: {listen: '127.0.0.1:2', servers: ['x:1']") == []
    )


@pytest.mark.parametrize(
    ("listens", "refused"),
    [
        (["0.0.0.0:1", "127.0.0.1:1"], "127.0.0.1:1 is part of 0.0.0.0:1, which is listened on already"),
        (["127.0.0.1:1", "0.0.0.0:1"], "0.0.0.0:1 is in the way of 127.0.0.1:1, which is listened on already"),
        (["[::]:1", "[::1]:1"], "[::1]:1 is part of [::]:1, which is listened on already"),
        (["127.0.0.1:1", "[::ffff:127.0.0.1]:1"], "127.0.0.1:1 is listened on already"),
        (["[::ffff:0.0.0.0]:1", "127.0.0.1:1"], "127.0.0.1:1 is part of 0.0.0.0:1, which is listened on already"),
        (["0.0.0.0:1", "[::]:1"], None),
        (["0.0.0.0:1", "[::1]:1"], None),
        (["0.0.0.0:1", "127.0.0.1:2"], None),
        (["127.0.0.1:1", "127.0.0.2:1"], None),
    ],
)
def test_what_one_socket_accepts_no_other_can_listen_on(listens: list[str], refused: str | None) -> None:
    """Two that overlap would not start; [::] is for IPv6 alone."""
    wanted = [f"proxies.a.listen[1]: {refused}, by proxies.a.listen[0] on line 1"] if refused else []
    assert problems(f"listen: {listens}, servers: ['x:1']") == wanted
    if refused:
        first, second = listens
        admin = problems(f"listen: ['{first}'], servers: ['x:1']", f"admin: {{listen: '{second}'}}")
        assert admin == [f"admin.listen: {refused}, by proxies.a.listen[0] on line 1"]


@pytest.mark.parametrize(
    ("proxy", "only"),
    [
        ("listen: '127.0.0.1:1', servers: ['x:1'], connect_timeout: x, connect_deadline: 10ms", "connect_timeout"),
        ("listen: '127.0.0.1:1', servers: ['x:1'], connect_timeout: 9s, connect_deadline: x", "connect_deadline"),
        ("listen: '127.0.0.1:1', servers: [{address: 'x:1', down: true}, x]", "servers[1]"),
        ("listen: '127.0.0.1:1', servers: [{address: 'x:1', down: x}]", "servers[0].down"),
        ("listen: '127.0.0.1:1', servers: ['x:1', {address: 'x:1', name: ' '}]", "servers[1].name"),
        ("listen: '127.0.0.1:1', servers: ['x:1'], health: {cert_file: a, key_file: }", "health.key_file"),
        ("listen: x, servers: ['127.0.0.1:1']", "listen[0]"),
        ("listen: [], servers: ['127.0.0.1:1']", "listen"),
    ],
)
def test_a_value_that_could_not_be_read_is_the_only_problem(proxy: str, only: str) -> None:
    """What stands in for it proves nothing about its neighbours."""
    assert [problem.partition(":")[0] for problem in problems(proxy)] == [f"proxies.a.{only}"]


def test_one_certificate_needs_one_key() -> None:
    """Either both or none."""
    start = "listen: '127.0.0.1:1', servers: ['x:1'], health: "
    assert problems(start + "{cert_file: c, key_file: k}") == []
    assert problems(start + "{ca_file: c}") == []
    assert problems(start + "{cert_file: c}") == ["proxies.a.health.cert_file: needs key_file as well"]
    assert problems(start + "{key_file: k}") == ["proxies.a.health.key_file: needs cert_file as well"]


def test_a_check_may_take_longer_than_its_interval() -> None:
    """Checks do not wait for each other."""
    assert problems("listen: '127.0.0.1:1', servers: ['x:1'], health: {interval: 1s, timeout: 5s}") == []


def test_the_admin_port_is_nobody_elses() -> None:
    """In whatever order they come."""
    found = problems("listen: '127.0.0.1:1', servers: ['x:1']", "admin: {listen: '127.0.0.1:1'}")
    assert found == ["admin.listen: 127.0.0.1:1 is listened on already, by proxies.a.listen[0] on line 1"]


def test_files_are_listed_with_their_places() -> None:
    """Those that are given, of every proxy."""
    health = HealthConfig(ca_file="/ca", cert_file="/cert", key_file="/key")
    config = Config(
        proxies={
            "a": ProxyConfig(listen=(HERE,), servers=(THERE,), health=health),
            "b": ProxyConfig(listen=(HERE,), servers=(THERE,), health=HealthConfig(ca_file="/other")),
            "c": ProxyConfig(listen=(HERE,), servers=(THERE,)),
        }
    )
    assert list(rules.files(config)) == [
        ("proxies.a.health.ca_file", "/ca"),
        ("proxies.a.health.cert_file", "/cert"),
        ("proxies.a.health.key_file", "/key"),
        ("proxies.b.health.ca_file", "/other"),
    ]
