"""What a restart, an upgrade and a crash of the service cost: `python -m bench.service [--rounds N]`.

The unit as shipped runs under a real systemd in namespaces (tests/support/box.py; needs root). 200 streams that are
checked byte by byte at both ends and 100 new connections a second go through it meanwhile.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from tests.support import builds
from tests.support.box import Service
from tests.support.daemon import one_proxy
from tests.support.streams_checked import Numbered
from tests.support.wait import until

STREAMS = {"steady": 170, "fast": 20, "bulk": 2, "slow": 2, "half_client": 3, "half_server": 3}
VISITS = 100
HELD = 3000


PARTS = ("restart", "upgrade", "kill", "worker-kill", "worker-stop", "failing", "many", "chaos")
WORKERS = [1]
"""How many there are, in turn: each restart, upgrade and crash goes over to the next number."""


def configured(streams: Numbered) -> dict[str, object]:
    """Return the configuration of the service."""
    return {**one_proxy([streams.address]), "watch": False, "workers": WORKERS[0]}


def port_of(service: Service) -> int:
    """Return the port of the only proxy."""
    return int(service.status()["proxies"]["p"]["listen"][0].rpartition(":")[2])


def kept(service: Service) -> None:
    """Wait until systemd holds every stream."""
    until(lambda: all(c["age_seconds"] > 3.5 for c in service.conns() if c["bytes_in"] > 8), "all are kept", 60)


def ms(seconds: float) -> str:
    """Return milliseconds."""
    return f"{seconds * 1000:.0f} ms"


def rounds(what: str, count: int, do: Callable[[Service, int], object], crash: bool = False) -> None:
    """Do it so often under load and print what became of the streams."""
    with Numbered() as streams, Service(config := configured(streams)) as service:
        for name in ("1.1.1", "2.2.2"):
            service.build(name, name)
        port = port_of(service)
        streams.open(port, **STREAMS)
        streams.visit(port, VISITS)
        kept(service)
        medians, worst, exposed, cut = [], [], 0, 0
        for number in range(count):
            before = streams.alive()
            streams.mark()
            if len(WORKERS) > 1:
                service.rewrite({**config, "workers": WORKERS[(number + 1) % len(WORKERS)]})
            do(service, number)
            streams.progress()
            time.sleep(0.3)
            pauses = streams.pauses()
            medians.append(statistics.median(pauses))
            worst.append(pauses[-1])
            exposed += before
            cut += before - streams.alive()
            if crash:
                time.sleep(4)
        visits = streams.stop_visits()
        report = streams.finish()
    print(
        f"{what} x {count}, {sum(STREAMS.values())} streams, {VISITS} new connections/s: "
        f"pause of a stream median {ms(statistics.median(medians))}, worst {ms(max(worst))}; "
        f"cut {cut} of {exposed} ({100 * cut / exposed:.2f} %), wrong bytes {len(report.wrong)}; "
        f"new connections: {visits.done} served, {visits.refused} refused, {visits.cut} cut, "
        f"slowest {ms(visits.slowest)}"
    )
    for line in (*report.wrong, *report.cut):
        print(f"  {line}")


def upgrade(service: Service, number: int) -> None:
    """Upgrade to the other version."""
    version = ("1.1.1", "2.2.2")[number % 2]
    service.install(version)
    assert f"lbproxy {version} has taken over" in service.lbproxy("upgrade").stdout


def strike(service: Service, how: str) -> None:
    """Send a signal to the worker that has been there longest, and wait until another one is in its place."""
    pid = max(service.status()["workers"], key=lambda worker: worker["uptime_seconds"])["pid"]
    began = time.monotonic()
    service.run("kill", f"-{how}", str(pid))
    until(lambda: pid not in _workers(service) and len(_workers(service)) == WORKERS[0], "it is replaced", 30)
    print(f"  replaced after {ms(time.monotonic() - began)}")


def _workers(service: Service) -> list[int]:
    done = service.lbproxy("status", "--json", check=False)
    return [worker["pid"] for worker in json.loads(done.stdout)["workers"]] if done.returncode == 0 else []


def failing_upgrade() -> None:
    """Upgrade to builds that fail, and print what was said."""
    with Numbered() as streams, Service(configured(streams)) as service:
        streams.open(port_of(service), **STREAMS)
        for name, changes in (
            ("fails at start", builds.FAILS_AT_START),
            ("knows another handover", builds.KNOWS_ANOTHER_HANDOVER),
            ("dies with the connections", builds.DIES_WITH_THE_CONNECTIONS),
        ):
            folder = name.replace(" ", "-")
            service.build(folder, changes=changes)
            service.install(folder)
            done = service.lbproxy("upgrade", check=False)
            streams.progress()
            print(
                f"upgrade to a build that {name}: status {done.returncode}, {done.stderr.strip()!r}, "
                f"{streams.alive()} of {sum(STREAMS.values())} streams go on"
            )
        report = streams.finish()
        print(f"  in the end: {report.intact} intact, {len(report.cut)} cut, {len(report.wrong)} wrong")


def faulty(count: int) -> None:
    """Upgrade with a fault at a random step, and then without one, so often; nothing may ever be refused or cut."""
    luck = random.Random(count)
    drawn = [luck.choice(builds.FAULTS) for _ in range(count)]
    with Numbered() as streams, Service(configured(streams)) as service:
        fault = service.dir / "etc" / "fault"
        fault.write_text("")
        fault.chmod(0o644)
        service.build("faulty", "0.0.1", builds.fails_at_what_stands_in("/etc/lbproxy/fault"))
        service.install("faulty")
        service.systemctl("restart")
        port = port_of(service)
        streams.open(port, **STREAMS)
        streams.visit(port, VISITS)
        odd = []
        for number, what in enumerate(drawn):
            fault.write_text(what)
            done = service.lbproxy("upgrade", check=False)
            if done.returncode != (0 if what == "LEAVE die" else 1):
                odd.append(f"{number} {what}: status {done.returncode} {done.stderr.strip()}")
            streams.progress()
            fault.write_text("")
            done = service.lbproxy("upgrade", check=False)
            if done.returncode:
                odd.append(f"{number} after {what}: {done.stderr.strip()}")
            streams.progress()
        visits = streams.stop_visits()
        restarts = service.show("NRestarts")
        report = streams.finish()
    print(
        f"{count} upgrades with a fault at a random step, one without after each, {sum(STREAMS.values())} streams: "
        f"{report.intact} intact, {len(report.cut)} cut, {len(report.wrong)} wrong; new connections: {visits.done} "
        f"served, {visits.refused} refused, {visits.cut} cut, slowest {ms(visits.slowest)}; {restarts} restarts by "
        f"systemd; {len(odd)} upgrades went otherwise than they should"
    )
    for line in (*odd, *report.wrong, *report.cut):
        print(f"  {line}")


def many(restarts: int) -> None:
    """Restart with many held connections, and print how long it took and what memory is used."""
    with Numbered() as streams, Service(configured(streams)) as service:
        port = port_of(service)
        streams.open(port, held=HELD)
        kept(service)
        streams.visit(port, 20)
        before = service.memory()
        times, after = [], []
        for _ in range(restarts):
            began = time.monotonic()
            service.systemctl("restart")
            times.append(time.monotonic() - began)
            time.sleep(3)
            after.append(service.memory())
        visits = streams.stop_visits()
        alive = streams.alive()
        report = streams.finish()
        print(
            f"{HELD} held connections, {restarts} restarts: back after median {ms(statistics.median(times))}, worst "
            f"{ms(max(times))}; {alive} alive, {report.intact} intact, {len(report.wrong)} wrong; new connections "
            f"{visits.refused} refused, slowest {ms(visits.slowest)}; PSS {before} KiB before, {after[0]} after one "
            f"({100 * (after[0] / before - 1):+.1f} %), {after[-1]} after all "
            f"({100 * (after[-1] / before - 1):+.1f} %)"
        )


def chaos(count: int) -> None:
    """Kill the main process at a random moment of an upgrade, a restart or a start; nothing may ever be garbled."""
    luck = random.Random(count)
    with Numbered() as streams, Service(configured(streams)) as service:
        for name in ("1.1.1", "2.2.2"):
            service.build(name, name)
        port = port_of(service)
        streams.open(port, **STREAMS)
        kept(service)
        for number in range(count):
            what = luck.choice(("upgrade", "restart", "kill"))
            service.install(luck.choice(("1.1.1", "2.2.2")))
            command = {
                "upgrade": ["/usr/bin/lbproxy", "upgrade"],
                "restart": ["systemctl", "restart", "lbproxy"],
                "kill": ["kill", "-9", str(service.pid())],
            }[what]
            with ThreadPoolExecutor() as pool:
                doing = pool.submit(service.run, *command, check=False)
                time.sleep(luck.uniform(0, 0.45))
                pid = service.pid()
                if pid:
                    service.run("kill", "-9", str(pid), check=False)
                doing.result()
            until(lambda: service.lbproxy("status", check=False).returncode == 0, f"{number}: back after {what}", 30)
            streams.progress()
        alive = streams.alive()
        report = streams.finish()
        print(
            f"{count} kills during upgrades, restarts and starts: {len(report.wrong)} wrong; {alive} of "
            f"{sum(STREAMS.values())} streams still there, {report.intact} intact"
        )
        for line in report.wrong:
            print(f"  {line}")


def main() -> None:
    """Print every figure."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--only", choices=PARTS)
    parser.add_argument("--workers", default="1", help="how many; several are gone through in turn: 1,2,4,1")
    parser.add_argument("--upgrades", type=int, metavar="N", help="only N upgrades with a fault in each")
    arguments = parser.parse_args()
    WORKERS[:] = [int(number) for number in arguments.workers.split(",")]
    if arguments.upgrades:
        faulty(arguments.upgrades)
        return
    parts: dict[str, Callable[[], None]] = {
        "restart": lambda: rounds("systemctl restart", arguments.rounds, lambda s, _: s.systemctl("restart")),
        "upgrade": lambda: rounds("lbproxy upgrade", arguments.rounds, upgrade),
        "kill": lambda: rounds("kill -9", arguments.rounds, lambda s, _: s.kill("KILL"), crash=True),
        "worker-kill": lambda: rounds(
            "kill -9 of a worker", arguments.rounds, lambda s, _: strike(s, "KILL"), crash=True
        ),
        "worker-stop": lambda: rounds(
            "a worker stopped (SIGSTOP)", arguments.rounds, lambda s, _: strike(s, "STOP"), crash=True
        ),
        "failing": failing_upgrade,
        "chaos": lambda: chaos(4 * arguments.rounds),
        "many": lambda: many(2 * arguments.rounds),
    }
    for name, part in parts.items():
        alone = WORKERS[0] == 1 and name.startswith("worker")
        if arguments.only in (None, name) and not alone:
            part()


if __name__ == "__main__":
    main()
