"""Two configurations to a plan, and the plan in words."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from lbproxy.config.diff import Moved, Plan, Retuned, Setting, diff
from lbproxy.config.model import Address, Admin, Config, HealthConfig, Keepalive, Log, ProxyConfig, ServerConfig
from tests.unit.config.strategies import configs, successors

HERE, THERE = Address("127.0.0.1", 6443), Address("::1", 6443)
M1, M2, M3 = (ServerConfig(address=Address(f"10.4.6.1{n}", 6443), name=f"m{n}" if n == 3 else "") for n in (1, 2, 3))
PROXY = ProxyConfig(listen=(HERE,), servers=(M1, M2))
BASE = Config(proxies={"kube-apiserver": PROXY})
NOTHING = Plan(proxies=(), moved=(), settings=(), restart_needed=())


def changed(**settings: Any) -> Plan:
    """Return the plan for other settings of the one proxy."""
    return diff(BASE, replace(BASE, proxies={"kube-apiserver": replace(PROXY, **settings)}))


def test_nothing_changed_is_said() -> None:
    """So that a reload always prints a line."""
    assert diff(BASE, BASE) == NOTHING
    assert NOTHING.lines() == ["no change"]
    assert NOTHING.lines(["certificates"]) == ["certificates"]


def test_a_server_comes() -> None:
    """Those that stay are not mentioned, wherever the new one stands."""
    plan = changed(servers=(M3, M1, M2))
    assert plan.lines() == ["kube-apiserver: server m3 (10.4.6.13:6443) added"]
    assert plan.proxies[0].servers_added == (M3,)


def test_a_server_goes() -> None:
    """A server without a name of its own is known by its address."""
    plan = changed(servers=(M2,))
    assert plan.lines() == ["kube-apiserver: server 10.4.6.11:6443 removed"]
    assert plan.proxies[0].servers_removed == (M1,)


def test_a_server_with_other_settings_stays() -> None:
    """Its connections and its health are kept."""
    heavy = replace(M1, weight=5, backup=True)
    plan = changed(servers=(heavy, M2))
    assert plan.lines() == [
        "kube-apiserver: server 10.4.6.11:6443 weight 1 -> 5",
        "kube-apiserver: server 10.4.6.11:6443 backup false -> true",
    ]
    assert plan.proxies[0].servers_retuned == (Retuned(M1, heavy),)
    assert plan.proxies[0].servers_added == plan.proxies[0].servers_removed == ()


def test_a_name_at_another_address_is_another_server() -> None:
    """Its connections go elsewhere, so one goes and another comes."""
    moved = replace(M3, address=Address("10.4.6.99", 6443))
    old = replace(BASE, proxies={"a": replace(PROXY, servers=(M3,))})
    new = replace(BASE, proxies={"a": replace(PROXY, servers=(moved,))})
    assert diff(old, new).lines() == [
        "a: server m3 (10.4.6.99:6443) added",
        "a: server m3 (10.4.6.13:6443) removed",
    ]


def test_settings_are_written_as_in_the_file() -> None:
    """Durations in nginx's units, nested keys dotted."""
    plan = changed(idle_timeout=300.0, keepalive=Keepalive(idle=0.5, count=4), proxy_protocol="v2", slow_start=90.0)
    assert plan.lines() == [
        "kube-apiserver: idle_timeout 10m -> 5m",
        "kube-apiserver: keepalive.idle 5s -> 500ms",
        "kube-apiserver: keepalive.count 3 -> 4",
        "kube-apiserver: proxy_protocol off -> v2",
        "kube-apiserver: slow_start 10s -> 90s",
    ]
    assert plan.proxies[0].settings[0] == Setting("idle_timeout", "10m", "5m")


def test_what_is_switched_on_is_shown_whole() -> None:
    """A health check, with its defaults; when it is there already only what differs."""
    shown = "{type: tcp, path: /readyz, interval: 5s, timeout: 2s, rise: 2, fall: 2, verify: false}"
    assert changed(health=HealthConfig(type="tcp")).lines() == [f"kube-apiserver: health none -> {shown}"]
    old = replace(BASE, proxies={"a": replace(PROXY, health=HealthConfig())})
    new = replace(BASE, proxies={"a": replace(PROXY, health=HealthConfig(ca_file="/ca", interval=60.0))})
    assert diff(old, new).lines() == ["a: health.interval 5s -> 1m", "a: health.ca_file none -> /ca"]


def test_addresses_are_opened_and_closed() -> None:
    """The one that stays is left alone."""
    plan = changed(listen=(THERE,))
    assert plan.lines() == ["kube-apiserver: listen [::1]:6443 opened", "kube-apiserver: listen 127.0.0.1:6443 closed"]
    assert (plan.proxies[0].listen_opened, plan.proxies[0].listen_closed) == ((THERE,), (HERE,))


def test_an_address_that_moves_is_handed_over() -> None:
    """It is neither opened nor closed, or clients would be refused for a moment."""
    other = ProxyConfig(listen=(THERE,), servers=(M3,))
    old = Config(proxies={"a": replace(PROXY, listen=(HERE,)), "b": other})
    new = Config(proxies={"a": replace(PROXY, listen=(THERE,)), "b": replace(other, listen=(HERE,))})
    plan = diff(old, new)
    assert plan.moved == (Moved(THERE, "b", "a"), Moved(HERE, "a", "b"))
    assert [(each.name, each.listen_opened, each.listen_closed) for each in plan.proxies] == [
        ("a", (), ()),
        ("b", (), ()),
    ]
    assert plan.lines() == ["a: listen [::1]:6443 taken over from b", "b: listen 127.0.0.1:6443 taken over from a"]


def test_a_renamed_proxy_hands_its_address_over() -> None:
    """For the rest it is another proxy."""
    plan = diff(BASE, replace(BASE, proxies={"api": PROXY}))
    assert [(each.name, each.old, each.new) for each in plan.proxies] == [
        ("api", None, PROXY),
        ("kube-apiserver", PROXY, None),
    ]
    assert plan.lines() == [
        "api: proxy added",
        "api: server 10.4.6.11:6443 added",
        "api: server 10.4.6.12:6443 added",
        "kube-apiserver: proxy removed",
        "kube-apiserver: server 10.4.6.11:6443 removed",
        "kube-apiserver: server 10.4.6.12:6443 removed",
        "api: listen 127.0.0.1:6443 taken over from kube-apiserver",
    ]


def test_settings_of_the_process() -> None:
    """They have no name in front."""
    new = replace(BASE, shutdown_timeout=20.0, watch=False, admin=Admin(listen=(HERE,)), log=Log(level="debug"))
    assert diff(BASE, new).lines() == [
        "shutdown_timeout 10s -> 20s",
        "watch true -> false",
        "admin none -> {listen: 127.0.0.1:6443}",
        "log.level info -> debug",
    ]
    twice = replace(new, admin=Admin(listen=(HERE, THERE), probes=(THERE,)))
    assert diff(new, twice).lines() == [
        "admin.listen 127.0.0.1:6443 -> [127.0.0.1:6443, [::1]:6443]",
        "admin.probes none -> [::1]:6443",
    ]


def test_some_settings_wait_for_a_restart() -> None:
    """And say so; nothing else does."""
    plan = diff(BASE, replace(BASE, workers="auto", control="/run/other.sock", watch=False))
    assert plan.lines() == [
        "watch true -> false",
        "workers 1 -> auto takes effect at the next restart or upgrade",
        "control /run/lbproxy/control.sock -> /run/other.sock takes effect at the next restart or upgrade",
    ]
    assert [setting.key for setting in plan.restart_needed] == ["workers", "control"]


@settings(max_examples=50)
@given(configs(), st.randoms(use_true_random=False))
def test_a_configuration_in_another_order_is_the_same(config: Config, random: Any) -> None:
    """The order of proxies, servers and addresses means nothing."""

    def mixed(values: Any) -> list[Any]:
        return list(random.sample(list(values), len(values)))

    proxies = {
        name: replace(proxy, listen=tuple(mixed(proxy.listen)), servers=tuple(mixed(proxy.servers)))
        for name, proxy in mixed(config.proxies.items())
    }
    assert diff(config, replace(config, proxies=proxies)) == NOTHING


@settings(max_examples=50)
@given(st.data())
def test_a_plan_names_every_difference_and_no_other(data: st.DataObject) -> None:
    """Carried out on the old configuration, it gives the new one."""
    old = data.draw(configs())
    new = data.draw(successors(old))
    plan = diff(old, new)
    plans = {each.name: each for each in plan.proxies}
    bound = {(address, name) for name, proxy in old.proxies.items() for address in proxy.listen}
    bound -= {(address, each.name) for each in plan.proxies for address in each.listen_closed}
    bound |= {(address, each.name) for each in plan.proxies for address in each.listen_opened}
    bound -= {(move.address, move.source) for move in plan.moved}
    bound |= {(move.address, move.target) for move in plan.moved}
    assert bound == {(address, name) for name, proxy in new.proxies.items() for address in proxy.listen}
    for name in {*old.proxies, *new.proxies}:
        was, now, each = old.proxies.get(name), new.proxies.get(name), plans.get(name)
        if each is None:
            assert was is not None
            assert now is not None
            assert flat(was) == flat(now)
            assert set(was.servers) == set(now.servers)
            continue
        assert (each.old, each.new) == (was, now)
        servers = set(was.servers if was else ()) - set(each.servers_removed) - {r.old for r in each.servers_retuned}
        servers |= set(each.servers_added) | {r.new for r in each.servers_retuned}
        assert servers == set(now.servers if now else ())
        if was and now:
            assert covered(each.settings) == {
                key for key in flat(was) | flat(now) if flat(was).get(key) != flat(now).get(key)
            }
    assert covered((*plan.settings, *plan.restart_needed)) == {
        key for key in flat(old) | flat(new) if flat(old).get(key) != flat(new).get(key)
    }
    assert (plan.lines() == ["no change"]) == (plan == NOTHING) == (not plan)


def flat(value: Config | ProxyConfig) -> dict[str, Any]:
    """Return the settings of `value`, nested ones dotted, without those that are planned in another way."""
    found: dict[str, Any] = {}
    for key, each in asdict(value).items():
        if isinstance(each, dict) and key not in ("proxies", "admin", "health"):
            found |= {f"{key}.{k}": v for k, v in each.items()}
        elif key not in ("proxies", "listen", "servers"):
            found[key] = each
    return found


def covered(settings: tuple[Setting, ...]) -> set[str]:
    """Return the keys as `flat` has them."""
    keys = {setting.key for setting in settings}
    assert all(setting.old != setting.new for setting in settings)
    return {key.split(".")[0] if key.startswith(("admin.", "health.")) else key for key in keys}
