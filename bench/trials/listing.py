"""Every trial, and what lbproxy must show in it."""

from __future__ import annotations

from collections.abc import Callable

from bench.trials import arrivals, holding, outages
from bench.trials.results import Result, Rule, Trial

NO_ERROR = Rule("no error", lambda result: not result.errors)


def at_most(fact: str, limit: float, *, speed: bool = False) -> Rule:
    """Return the rule that a fact is a number and not above `limit`."""
    return Rule(f"{fact}: at most {limit:g}", lambda result: result.number(fact) <= limit, speed)


def exactly(fact: str, value: float) -> Rule:
    """Return the rule that a fact is `value`."""
    return Rule(f"{fact}: {value:g}", lambda result: result.facts[fact] == value)


def _faster(milliseconds: float, share: float = 0.99) -> Rule:
    met: Callable[[Result], bool] = lambda result: result.quantile(share) < milliseconds  # noqa: E731
    return Rule(f"p{100 * share:g} below {milliseconds:g} ms", met, speed=True)


_CUT = (
    exactly("not cut", 0), exactly("others cut", 0), exactly("not back", 0), exactly("back at it", 0),
    exactly("tries to come back that failed", 0),
)  # fmt: skip

TRIALS = (
    Trial("calm", "nothing fails, new connections", arrivals.calm, (NO_ERROR,)),
    Trial("closed", "port closed, new connections", arrivals.port_closed, (NO_ERROR, _faster(20))),
    Trial(
        "dropped-new", "packets dropped, new connections", arrivals.dropped,
        (NO_ERROR, exactly("errors in all", 0), _faster(350), at_most("p99 ms once seen", 20, speed=True)),
    ),
    Trial(
        "stopped-new", "process stopped, new TLS connections", arrivals.stopped,
        (NO_ERROR, exactly("errors in all", 0), at_most("longest ms", 3200, speed=True),
         at_most("p99 ms once seen", 20, speed=True)),
    ),
    Trial("reset", "reset after the ClientHello, checks fine", arrivals.reset_after_hello, (NO_ERROR,)),
    Trial(
        "unauthorized", "/readyz answers 401", arrivals.unauthorized,
        (NO_ERROR, exactly("cut", 0), exactly("of these at it", 0)),
    ),
    Trial(
        "dropped-held", "packets dropped, established", holding.dropped,
        (*_CUT, at_most("idle cut by s", 10), at_most("busy cut by s", 10), at_most("idle cut by s", 5, speed=True)),
    ),
    Trial(
        "stopped-held", "process stopped, established", holding.stopped,
        (*_CUT, at_most("idle cut by s", 15), at_most("busy cut by s", 15)),
    ),
    Trial(
        "shutdown", "/readyz 500 with [-]shutdown", holding.shutting_down,
        (NO_ERROR, at_most("last new at it after s", 12), exactly("cut", 0), exactly("others cut", 0)),
    ),
    Trial(
        "etcd", "/readyz 500 with [-]etcd failed", holding.etcd_failed,
        (NO_ERROR, at_most("last new at it after s", 12), exactly("others cut", 0), exactly("back at it", 0),
         Rule("all moved off", lambda result: result.facts["cut"] == result.facts["held at it"]),
         Rule("none before the grace of 15 s", lambda result: result.number("first cut after s") > 15),
         Rule("over seconds", lambda r: r.number("last cut after s") - r.number("first cut after s") > 1)),
    ),
    Trial(
        "blip", "all three gone for 1 s", outages.blip,
        (NO_ERROR, at_most("first success after ms", 300, speed=True)),
    ),
    Trial(
        "outage", f"all three gone for {outages.LONG:g} s, clients keep trying", outages.outage,
        (at_most("longest try s", 3.5), at_most("descriptors grown by", 3), at_most("MiB grown by", 1),
         at_most("first success after ms", 300, speed=True), NO_ERROR),
    ),
    Trial(
        "restart", "a master restarts, then 15 new connections, 30 held", outages.restart,
        (Rule("the newcomer is favoured", lambda result: result.number("of 15 new, at it") > 5),),
        {"slow_start": 0},
    ),
    Trial(
        "slow-start", "the same with slow_start: 60s", outages.restart,
        (Rule("the newcomer gets some, not all", lambda result: 0 <= result.number("of 15 new, at it") < 12),),
        {"slow_start": "60s"},
    ),
    Trial(
        "partition", "a master is back from a partition, /readyz is early", outages.partition,
        (NO_ERROR, at_most("longest ms", 1000, speed=True)),
    ),
    Trial(
        "fresh", "first pick of 12 fresh proxies", outages.fresh_nodes,
        (Rule("not all the same", lambda result: result.number("most at one") < 10),),
    ),
    Trial(
        "half-close", "client half-closes, server answers after that", holding.half_close,
        (exactly("of 20 answers whole", 20),), plain=True,
    ),
    Trial(
        "midstream", "server resets mid-stream", holding.reset_midstream, (exactly("of 20, reset", 20),), plain=True,
    ),
    Trial(
        "rolling", "rolling restart of the three, 50 watches", outages.rolling,
        (NO_ERROR, exactly("cut though their master ran", 0), exactly("tries to come back that failed", 0)),
        {"rebalance": {"per_minute": 0}},  # which would move a quiet one a minute to a master that is back
    ),
)  # fmt: skip
