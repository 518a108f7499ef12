"""A node and three masters, one of them failing: lbproxy held to the rules of `make trials`, and some more.

The trials run once, several at the same time, and only those whose tests were asked for.
"""

from __future__ import annotations

import http.client
import itertools
import re
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from bench.trials.clients import Held
from bench.trials.listing import TRIALS
from bench.trials.results import Result, Trial
from bench.trials.stage import Scene
from lbproxy.proxy.rebalance import LASTING
from tests.support import certs as certificates
from tests.support.certs import Certs
from tests.support.need import need
from tests.support.netns import inside
from tests.support.ports import free_port
from tests.support.wait import until

AT_ONCE = 9
RATE = 8.0
"""New connections a second in each trial: enough to see an error, and not to make several at once slow."""
TESTED = [trial for trial in TRIALS if any(not rule.speed for rule in trial.rules) and trial.name != "calm"]
QUICK: dict[str, Any] = {"slow_start": 0, "health": {"type": "https", "interval": 0.2, "timeout": 0.5}}
BAD = "m2"


@pytest.fixture(scope="module")
def results(request: pytest.FixtureRequest, certs: Certs) -> dict[str, Future[Result]]:
    """Run the trials."""
    need("netns", "ip")
    asking = test_the_rules_of_a_trial_are_kept.__name__
    wanted = {item.callspec.params["trial"].name for item in request.session.items
              if isinstance(item, pytest.Function) and item.originalname == asking}  # fmt: skip

    def run(trial: Trial) -> Result:
        with Scene("lbproxy", certs, RATE, trial.plain, trial.settings) as scene:
            return trial.run(scene)

    with ThreadPoolExecutor(AT_ONCE, "trial") as pool:
        # The longest first, so that none is alone at the end
        order = sorted(TESTED, key=lambda trial: trial.name not in ("rolling", "etcd", "outage"))
        return {trial.name: pool.submit(run, trial) for trial in order if trial.name in wanted}


@pytest.mark.timeout(480)
@pytest.mark.parametrize("trial", TESTED, ids=lambda trial: trial.name)
def test_the_rules_of_a_trial_are_kept(trial: Trial, results: dict[str, Future[Result]]) -> None:
    """All but those of speed, which need the machine to themselves."""
    result = results[trial.name].result()
    missed = [rule.text for rule in trial.rules if not rule.speed and not rule.met(result)]
    assert not missed, f"{result.facts}, {result.errors} of {len(result.tries)} failed: {result.kinds()}"


Stage = Callable[..., Scene]


@pytest.fixture
def stage(certs: Certs) -> Iterator[Stage]:
    """Return what makes a scene with quick checks; settings of lbproxy's may be added."""
    need("netns", "ip")
    scenes: list[Scene] = []

    def make(**settings: Any) -> Scene:
        scenes.append(Scene("lbproxy", certs, settings={**QUICK, **settings}).__enter__())
        return scenes[0]

    yield make
    for scene in scenes:
        scene.__exit__(None, None, None)


def servers(scene: Scene) -> dict[str, Any]:
    """Return lbproxy's view of the masters."""
    assert scene.daemon
    return scene.daemon.servers()


def becomes(scene: Scene, state: str, timeout: float = 10.0) -> dict[str, Any]:
    """Wait until m2 is in that state, and return what is told of it."""
    until(lambda: servers(scene)[BAD]["state"] == state, f"{BAD} is {state}", timeout)
    found: dict[str, Any] = servers(scene)[BAD]
    return found


def at(held: list[Held], server: str) -> list[Held]:
    """Return those that began at that server."""
    return [each for each in held if each.server == server]


def reconfigured(scene: Scene, **settings: Any) -> dict[str, Any]:
    """Return lbproxy's configuration with other settings of its proxy."""
    assert scene.daemon
    config = scene.daemon.config
    config["proxies"]["p"].update(settings)
    return config


def test_a_check_that_trickles_is_a_timeout_and_delays_no_other(stage: Stage) -> None:
    """One byte a second never adds up to an answer; the others are asked as often as before."""
    scene = stage()
    scene.masters[BAD].set(trickle=1)
    assert "0.5" in becomes(scene, "sick")["reason"]
    before = {name: server["checks"]["ok"] for name, server in servers(scene).items()}
    until(lambda: servers(scene)[BAD]["checks"]["timeout"] >= 5, "five timeouts")
    after = servers(scene)
    assert all(after[name]["checks"]["ok"] - before[name] >= 3 for name in ("m1", "m3"))


def test_a_body_of_100_megabytes_is_not_read(stage: Stage) -> None:
    """Its status has come before; the proxy keeps no more of it than it needs."""
    scene = stage(health={**QUICK["health"], "timeout": 5})
    assert scene.daemon
    before = scene.daemon.rss()
    scene.masters[BAD].set(readyz=[200, 100_000_000])
    checks = sum(servers(scene)[BAD]["checks"].values())
    until(lambda: sum(servers(scene)[BAD]["checks"].values()) > checks + 5, "it is checked on")
    assert servers(scene)[BAD]["state"] == "up"
    assert scene.daemon.rss() - before < 10_000_000


def test_a_certificate_of_somebody_else_is_a_failed_check_where_it_is_verified(
    stage: Stage, certs: Certs, tmp_path: Path
) -> None:
    """With `verify` the CA counts; without, which is the default, any certificate will do."""
    scene = stage(health={**QUICK["health"], "verify": True, "ca_file": str(certs.ca)})
    assert scene.daemon
    assert {server["state"] for server in servers(scene).values()} == {"up"}
    scene.masters[BAD].set(certificate=str(certificates.make(tmp_path).server))
    assert "certificate" in becomes(scene, "down")["reason"]
    assert {servers(scene)[name]["state"] for name in ("m1", "m3")} == {"up"}
    scene.daemon.reload(reconfigured(scene, **QUICK))
    becomes(scene, "up")


def test_a_flapping_server_does_not_have_its_connections_cut_over_and_over(stage: Stage) -> None:
    """Each fall soon after the last asks for twice as many good checks before the server is trusted again."""
    scene = stage(health={"type": "https", "interval": 0.1, "timeout": 0.2})
    held = scene.clients.hold(12)
    for change in itertools.islice(
        itertools.cycle([lambda: scene.net.kill(BAD, "freeze"), lambda: scene.net.heal(BAD)]), 12
    ):
        change()
        checks = sum(servers(scene)[BAD]["checks"].values())
        until(lambda asked=checks: sum(servers(scene)[BAD]["checks"].values()) >= asked + 5, "five more checks")
    falls = len(re.findall(f"server {BAD} is down, was up", scene.proxy.log))
    assert 1 <= falls <= 4, "it has come and gone six times"
    assert all(each.back is not None and each.back.server != BAD for each in at(held, BAD))


def test_with_on_down_keep_the_connections_of_a_dead_server_stay(stage: Stage) -> None:
    """New ones go elsewhere all the same."""
    scene = stage(on_down="keep")
    held = scene.clients.hold(12)
    scene.net.kill(BAD, "freeze")
    becomes(scene, "down")
    tries = scene.clients.arrive(50, 1).result()
    assert {each.server for each in tries} <= {"m1", "m3"}
    assert [each for each in held if each.ended] == []
    assert servers(scene)[BAD]["cuts"] == {}
    scene.net.heal(BAD)


def test_the_state_of_a_server_that_stays_survives_a_reload_and_one_that_comes_back_starts_afresh(
    stage: Stage,
) -> None:
    """What is known of it is not forgotten because something else has changed."""
    scene = stage()
    assert scene.daemon
    scene.masters[BAD].set(listening=False)
    down = becomes(scene, "down")
    scene.daemon.reload(reconfigured(scene, idle_timeout="5m"))
    after = servers(scene)[BAD]
    assert (after["state"], after["reason"]) == ("down", down["reason"])
    assert after["since_seconds"] >= down["since_seconds"]
    everyone = scene.daemon.config["proxies"]["p"]["servers"]
    scene.daemon.reload(reconfigured(scene, servers=[each for each in everyone if each["name"] != BAD]))
    assert BAD not in servers(scene)
    scene.masters[BAD].set(listening=True)
    scene.daemon.reload(reconfigured(scene, servers=everyone))
    assert becomes(scene, "up")["flips_total"] == 0


def test_a_manual_drain_survives_a_reload_and_shows_as_manual(stage: Stage) -> None:
    """Until the operator says ready; the connections go when drain_timeout is over."""
    scene = stage(drain_timeout="1s")
    assert scene.daemon
    held = scene.clients.hold(12)
    assert scene.daemon.cli("drain", BAD).returncode == 0
    scene.daemon.reload(reconfigured(scene, idle_timeout="5m"))
    drained = servers(scene)[BAD]
    assert (drained["state"], "operator" in drained["reason"]) == ("draining", True)
    until(lambda: all(each.back for each in at(held, BAD)), "its connections are cut")
    assert servers(scene)[BAD]["cuts"] == {"drained": len(at(held, BAD))}
    assert [each for each in held if each.ended and each.server != BAD] == []
    assert BAD not in {each.server for each in scene.clients.arrive(50, 1).result()}
    assert scene.daemon.cli("ready", BAD).returncode == 0
    assert servers(scene)[BAD]["state"] == "up"
    assert BAD in {each.server for each in scene.clients.hold(6)}


def scraped(scene: Scene, port: int) -> dict[str, float]:
    """Return the metrics of m2, by name and the label after the server's."""
    with inside(scene.net.node):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        connection.close()
    found = re.findall(rf'^lbproxy_server_(\w+)\{{.*server="{BAD}".*\}} (\S+)$', text, re.MULTILINE)
    totals: dict[str, float] = {}
    for name, value in found:
        totals[name] = totals.get(name, 0.0) + float(value)
    return totals


def test_metrics_tell_of_checks_flips_replays_and_cuts(stage: Stage) -> None:
    """Each of what happens to a failing server can be counted from outside."""
    # Checks that leave it to the clients to meet the failure first
    scene = stage(first_byte_timeout="200ms", health={"type": "https", "interval": 20, "timeout": 0.5})
    assert scene.daemon
    admin = free_port()
    scene.daemon.reload({**scene.daemon.config, "admin": {"listen": f"127.0.0.1:{admin}"}})
    held = scene.clients.hold(12)
    quiet = scraped(scene, admin)
    assert quiet["checks_total"] > 0
    assert quiet["first_byte_seconds_count"] == len(at(held, BAD))
    assert (quiet["flips_total"], quiet["replays_total"], quiet.get("cuts_total", 0)) == (0, 0, 0)
    scene.net.kill(BAD, "freeze")
    tries = scene.clients.hold(3)
    becomes(scene, "down")
    until(lambda: all(each.back for each in at(held, BAD)), "its connections are cut")
    told = scraped(scene, admin)
    assert BAD not in {each.server for each in tries}
    assert told["replays_total"] > 0
    assert told["flips_total"] > 0
    assert told["cuts_total"] == len(at(held, BAD))
    assert told["up"] == 0


def test_what_is_surplus_and_quiet_is_moved_to_a_server_that_came_back(stage: Stage) -> None:
    """By the configuration, a few at a time, when the command has only told; a busy connection stays where it is."""
    scene = stage(fail_timeout=1, rebalance={"quiet": "10m"})
    daemon = scene.daemon
    assert daemon
    nothing = "nothing to close: no quiet connection is surplus\n"
    held = scene.clients.hold(12, busy=6)
    scene.masters[BAD].set(listening=False)
    becomes(scene, "down")
    until(lambda: all(each.back for each in at(held, BAD)), "they are elsewhere")
    scene.masters[BAD].set(listening=True)
    becomes(scene, "up", 20)
    assert servers(scene)[BAD]["connections"] == 0
    assert daemon.cli("rebalance").stdout == nothing
    daemon.reload(reconfigured(scene, rebalance={"quiet": "500ms"}))
    plan = [f"{name}: 2 surplus connections would be closed" for name in ("m1", "m3")]
    until(lambda: sorted(daemon.cli("rebalance", "--dry-run").stdout.splitlines()) == plan, "they are quiet")
    assert servers(scene)[BAD]["connections"] == 0
    daemon.reload(reconfigured(scene, rebalance={"per_minute": 600, "quiet": "500ms"}))
    until(lambda: {server["connections"] for server in servers(scene).values()} == {4}, "all is even", LASTING + 10)
    assert {server["cuts"].get("rebalance", 0) for server in servers(scene).values()} == {0, 2}
    assert [each for each in held if each.busy and each.ended and each.server != BAD] == []
    assert daemon.cli("rebalance").stdout == nothing
