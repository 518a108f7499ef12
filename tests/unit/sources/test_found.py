"""What sources may say, and how it is merged with what the file says."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from lbproxy.config.diff import diff
from lbproxy.config.found import FoundServer
from lbproxy.config.load import loads
from lbproxy.config.model import Address, Config, ServerConfig
from lbproxy.sources.found import MOST, Origin, accepted, merged, origins, outlived

FILE = """
proxies:
  p:
    listen: 127.0.0.1:6443
    servers: [10.0.0.1:6443, {address: 10.0.0.2:6443, name: m2, weight: 3}]
    servers_from: {file: /d/*.yaml, dns: masters.example:6443, kubernetes: {kubeconfig: /k}}
  q:
    listen: 127.0.0.1:7443
    servers: [127.0.0.1:6443]
"""
FILES, DNS, KUBERNETES = origins(loads(FILE, "f"))


def at(*hosts: str) -> list[ServerConfig]:
    """Return servers at those hosts."""
    return [ServerConfig(address=Address(host, 6443)) for host in hosts]


def found(servers: Sequence[ServerConfig], good: Sequence[ServerConfig] = ()) -> tuple[FoundServer, ...]:
    """Return them as found by a file."""
    return accepted(servers, "file", {server.address for server in good})


def names(config: Config) -> list[str]:
    """Return what the servers of p are called, and whence they are."""
    return [f"{server.name} {server.source}" for server in config.proxies["p"].servers]


def test_a_configuration_has_each_of_its_sources() -> None:
    """A proxy may have several."""
    assert [
        Origin("p", "file", "/d/*.yaml"),
        Origin("p", "dns", "masters.example:6443"),
        Origin("p", "kubernetes", "/k"),
    ] == [FILES, DNS, KUBERNETES]


def test_an_address_is_one_server_and_the_files_word_stands() -> None:
    """Also where two sources name it: the first one is it."""
    config, left_out = merged(
        loads(FILE, "f"),
        {
            FILES: found(at("10.0.0.3", "10.0.0.1")),
            KUBERNETES: accepted(at("10.0.0.2", "10.0.0.3", "10.0.0.4"), "kubernetes", set()),
        },
    )
    assert names(config) == ["10.0.0.1:6443 config", "m2 config", "10.0.0.3:6443 file", "10.0.0.4:6443 kubernetes"]
    assert config.proxies["p"].servers[1].weight == 3
    assert left_out == []


def test_what_a_source_says_of_other_proxies_or_no_more_is_not_heard() -> None:
    """It may have been kept on disk from a configuration of before."""
    config, _ = merged(loads(FILE, "f"), {Origin("p", "file", "/other"): found(at("10.0.0.9"))})
    assert config == loads(FILE, "f")


def test_a_name_that_another_server_has_gives_way_to_the_address() -> None:
    """Names are what commands call them by."""
    twice = [
        ServerConfig(address=Address("10.0.0.3", 6443), name="m2"),
        ServerConfig(address=Address("a", 1), name="x"),
    ]
    config, _ = merged(loads(FILE, "f"), {FILES: found(twice)})
    assert names(config)[2:] == ["10.0.0.3:6443 file", "x file"]


def test_a_server_that_leads_back_to_its_proxy_is_left_out() -> None:
    """Directly, or through another proxy of this process; it is told, and the others are used."""
    servers = [*at("127.0.0.1", "10.0.0.3"), ServerConfig(address=Address("127.0.0.1", 7443))]
    config, left_out = merged(loads(FILE, "f"), {FILES: found(servers)})
    assert names(config)[2:] == ["10.0.0.3:6443 file"]
    assert len(left_out) == 2


def test_an_answer_has_each_address_once_and_no_more_than_are_believed() -> None:
    """A thousand masters are none."""
    assert len(found(at("a", "b", "a"))) == 2
    assert len(found(at(*(f"h{n}" for n in range(MOST))))) == MOST
    with pytest.raises(ValueError, match="33 servers"):
        found(at(*(f"h{n}" for n in range(MOST + 1))))


def test_what_was_good_before_is_known_of_a_found_server() -> None:
    """So it is used at once after a restart."""
    assert [server.good for server in found(at("a", "b"), at("b"))] == [False, True]


def test_a_found_server_that_comes_into_the_file_is_not_another_one() -> None:
    """It keeps its connections; and its first good check is no change that anybody is told of."""
    config = loads(FILE, "f")
    one, _ = merged(config, {FILES: found(at("10.0.0.3"))})
    good, _ = merged(config, {FILES: found(at("10.0.0.3"), at("10.0.0.3"))})
    assert diff(one, good).lines() == ["no change"]
    plan = diff(one, loads(FILE.replace("[10.0.0.1:6443,", "[10.0.0.1:6443, 10.0.0.3:6443,"), "f")).proxies
    assert not plan
    assert diff(one, config).lines() == ["p: server 10.0.0.3:6443 removed"]


@pytest.mark.parametrize(
    ("wanted", "others", "up", "stay"),
    [
        (["b"], [], ["a:6443"], ["b", "a"]),  # nobody who stays is up
        (["b"], ["c"], ["a:6443"], ["b", "a"]),
        (["b"], ["c"], ["c:6443"], ["b"]),
        (["b"], [], ["b:6443"], ["b", "a"]),  # one is up that is called so, and it is not in service yet
        (["a2", "b"], [], ["a2:6443"], ["a2", "b"]),
        (["a", "a2", "b"], [], [], ["a", "a2", "b"]),  # nobody leaves
    ],
)
def test_a_server_leaves_only_while_one_that_stays_is_up(
    wanted: list[str], others: list[str], up: list[str], stay: list[str]
) -> None:
    """An answer that names nothing but wrong places would leave no way to a better one."""
    now = found(at("a", "a2"))
    have = {server.address.host for server in outlived(now, found(at(*wanted)), at(*others), set(up))}
    assert have >= set(stay)
    assert ("a" in have) is ("a" in stay)
