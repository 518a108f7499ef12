"""bench/fleet at small sizes: what the documents promise of thousands of nodes holds for a hundred, too."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from bench.fleet.figures import Figures, figures
from bench.fleet.plot import Panel, svg
from bench.fleet.scenarios import RULES, SCENARIOS, Fleet, play

pytestmark = pytest.mark.plain  # its sessions and its clock are none that the compiled form takes


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """A hundred nodes tell each what they see."""
    logging.disable(logging.ERROR)
    yield
    logging.disable(logging.NOTSET)


def of(name: str, rules: str = "lbproxy", nodes: int = 100, **more: tuple[int, int]) -> Figures:
    """Return what comes of a scenario."""
    scenario = SCENARIOS[name]
    return figures(play(scenario, Fleet(rules, nodes, boot=scenario.boot, **more)))


@pytest.mark.parametrize("clients", [(1, 1), (2, 2), (2, 6)])
def test_after_a_rolling_upgrade_the_busiest_master_has_little_more_than_the_others(clients: tuple[int, int]) -> None:
    """Within a quarter of an hour, at default settings, however few connections a node has."""
    assert of("rolling upgrade", nodes=300, clients=clients).end <= 1.3


def test_when_a_master_dies_nothing_is_worse_than_with_others() -> None:
    """The connects that the other masters must take, how long clients have none, and how even it is afterwards."""
    ours = of("dies", nodes=300)
    for rules in ("nginx", "haproxy"):
        other = of("dies", rules, nodes=300)
        assert ours.worst <= other.worst
        assert ours.lost <= other.lost
        assert ours.after < other.after


@pytest.mark.parametrize("rules", RULES)
def test_a_scenario_is_played_the_same_each_time(rules: str) -> None:
    """What is compared above is no luck: clients of a master that dies came back in another order each time."""
    assert len({of("dies", rules, nodes=200) for _ in range(4)}) == 1


@pytest.mark.parametrize("one_queue", [False, True])
def test_a_queue_before_the_masters_that_are_left_goes_as_it_came(one_queue: bool) -> None:
    """10,000 nodes in small: longer than first_byte_timeout and than a check, and nobody is cut off for it."""
    scenario = SCENARIOS["dies"]._replace(lasts=60)

    def played(rules: str) -> Figures:
        fleet = Fleet(rules, 200, rate=20.0, one_queue=one_queue, boot=scenario.boot)
        return figures(play(scenario, fleet))

    ours, other = played("lbproxy"), played("nginx")
    assert ours.until <= other.until
    assert ours.lost <= other.lost
    assert ours.worst <= other.worst
    assert ours.end < other.end


def test_a_master_that_is_gone_or_hangs_costs_nobody_half_a_minute() -> None:
    """Clients of others find out by their own pings, after 30 to 45 s."""
    for name in ("vanishes", "hangs"):
        assert of(name).until <= 12
        assert of(name, "nginx").until > 30


def test_when_all_masters_are_slow_for_a_while_nobody_is_moved() -> None:
    """There is no better place, and the first that is well again is not the only one for long."""
    assert of("slow everywhere").moved < 0.02


def test_name_servers_that_are_gone_change_nothing() -> None:
    """A master that dies then is survived as well as any other day."""
    with_names, without = of("dies"), of("name server gone, a master dies")
    assert without.end == with_names.end
    assert without.worst <= 1.2 * with_names.worst


def test_in_calm_each_master_answers_one_check_of_each_node_in_an_interval() -> None:
    """Less where a node has no connection to it."""
    found = of("cold boot", nodes=200)
    assert 30 <= found.checks <= 41
    assert found.most_checks <= 60


@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("name", SCENARIOS)
def test_each_scenario_has_figures_by_all_rules(name: str, rules: str) -> None:
    """Down to ten nodes."""
    found = of(name, rules, nodes=10)
    assert found.lost >= 0
    assert found.peak <= 3.0


def test_a_picture_has_a_line_for_each_kind_of_node() -> None:
    """With its name beside it."""
    lines = {rules: [(0.0, 1.0), (10.0, float(n + 1))] for n, rules in enumerate(RULES)}
    drawn = svg([Panel("title", "seconds", lines), Panel("other", "nodes", {"nginx": [(1, 1), (10, 100)]}, True)])
    assert drawn.count("<polyline") == 5
    assert all(f">{rules}</text>" in drawn for rules in RULES)
