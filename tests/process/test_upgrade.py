"""`lbproxy upgrade`, told to a systemd of ours: a new process takes over, or the old one serves on undisturbed."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from lbproxy.errors import ControlError, LbproxyError
from lbproxy.handover.steps import Side, Step
from lbproxy.status import client
from lbproxy.status.control import PATH_LIMIT
from tests.support import builds
from tests.support.clients import connect, flood, receive, receive_all, receive_line
from tests.support.daemon import Daemon, one_proxy
from tests.support.named import Named
from tests.support.need import need
from tests.support.ports import free_port
from tests.support.servers import Echo, Hung
from tests.support.streams_checked import Numbered
from tests.support.told import Told
from tests.support.wait import FACTOR, until
from tests.unit.proxy.story import client_hello

ONE_OF_EACH = {"steady": 10, "fast": 4, "bulk": 2, "slow": 2, "half_client": 2, "half_server": 2}


class Upgradable(Told):
    """A daemon that runs from a build in its own directory (`-m` looks there first) and may be replaced by another."""

    def install(self, version: str = "", changes: dict[str, tuple[str, str]] | None = None) -> None:
        """Have the next process be of that build."""
        target = self.dir / f"build-{time.monotonic_ns()}"
        builds.build(target, version, changes)
        link = self.dir / "new"
        link.symlink_to(target / "lbproxy")
        link.rename(self.dir / "lbproxy")

    def upgrade(self) -> dict[str, Any]:
        """Upgrade, and wait until the old process has gone and the new one answers."""
        handed = self.call("upgrade")
        with contextlib.suppress(ChildProcessError):
            self.process.wait(10 * FACTOR)
        until(lambda: self.serving() == handed["pid"], "the new process answers")
        return handed

    def refused(self) -> str:
        """Return why an upgrade has failed."""
        with pytest.raises(ControlError) as refused:
            self.call("upgrade")
        return str(refused.value)

    def serving(self) -> int:
        """Return the process id of who answers, 0 for nobody."""
        with contextlib.suppress(LbproxyError):
            return int(self.status()["pid"])
        return 0

    def _close(self, show: bool) -> None:
        pid = self.serving() if self.file.exists() else 0  # it may never have been prepared
        if pid and pid != self.process.pid:
            os.kill(pid, signal.SIGTERM)
            until(lambda: not Path(f"/proc/{pid}/exe").exists(), "the last process has ended")  # a zombie has no exe
        super()._close(show)


class LongPath(Upgradable):
    """One whose control socket has the longest path that there can be."""

    def rewrite(self, config: Mapping[str, Any] | str) -> None:
        assert not isinstance(config, str)
        super().rewrite({**config, "control": str(self.dir / ("x" * (PATH_LIMIT - len(str(self.dir)) - 1)))})


@pytest.fixture
def streams() -> Iterator[Numbered]:
    """Run a server for streams."""
    with Numbered() as running:
        yield running


class Watched(Upgradable):
    """One whose watchdog waits for long."""

    def prepare(self) -> None:
        super().prepare()
        self.env["WATCHDOG_USEC"] = "7200000000"


def test_a_process_says_at_once_that_it_is_alive(streams: Numbered) -> None:
    """Upgrades that follow each other within a second were a service that gave no sign, and was killed for it."""
    with Watched(one_proxy([streams.address])) as daemon:
        daemon.install(changes={"process.daemon": ("_TICK = 1.0 ", "_TICK = 600.0 ")})
        until(lambda: "WATCHDOG=1" in daemon.told)
        daemon.told.clear()
        daemon.upgrade()
        until(lambda: "WATCHDOG=1" in daemon.told)


def test_streams_go_on_in_the_new_version(streams: Numbered) -> None:
    """Fast and slow, copied and spliced, half-closed either way: every byte arrives, twice in a row."""
    with Upgradable(one_proxy([streams.address])) as daemon:
        streams.open(daemon.port, **ONE_OF_EACH)
        streams.visit(daemon.port, per_second=50)
        for version in ("8.8.8", "9.9.9"):
            daemon.install(version)
            handed = daemon.upgrade()
            assert (handed["version"], daemon.status()["version"]) == (version, version)
            assert handed["connections"] >= len(streams.clients)
            streams.progress()
        visits = streams.stop_visits()
        assert (visits.refused, visits.cut) == (0, 0)
        assert visits.done
        report = streams.finish()
        assert (report.cut, report.wrong) == ([], [])
        assert report.intact == sum(ONE_OF_EACH.values())
        daemon.assert_clean_log()


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        (builds.FAILS_AT_START, "the new process ended with status 1"),
        (builds.KNOWS_ANOTHER_HANDOVER, "refused: handover version 1 of lbproxy"),
        (builds.DIES_WITH_THE_CONNECTIONS, "the new process ended with status 9"),
    ],
    ids=["fails at start", "another handover version", "dies with the connections"],
)
def test_the_old_process_serves_on_if_the_new_one_fails(
    streams: Numbered, changes: dict[str, tuple[str, str]], why: str
) -> None:
    """Exit status 1 and the reason; nothing is cut, and the next upgrade may succeed."""
    with Upgradable(one_proxy([streams.address])) as daemon:
        streams.open(daemon.port, **ONE_OF_EACH)
        daemon.install(changes=changes)
        done = daemon.cli("upgrade")
        assert done.returncode == 1
        assert why in done.stderr
        assert daemon.serving() == daemon.process.pid
        streams.progress()
        daemon.install("9.9.9")
        daemon.upgrade()
        streams.progress()
        report = streams.finish()
        assert (report.cut, report.wrong) == ([], [])


class NamedUpgradable(Named, Upgradable):
    """One whose names are its own."""


def test_connections_to_the_addresses_of_a_name_go_on_while_it_does_not_resolve() -> None:
    """An upgrade in an outage of the name server: every stream belongs to where it goes, and clients find the same."""
    with contextlib.ExitStack() as stack:
        one = stack.enter_context(Echo("one", "127.0.0.11"))
        two = stack.enter_context(Echo("two", "127.0.0.12", one.port))
        named = f"api.test:{one.port}"
        hosts = dict.fromkeys(("127.0.0.11", "127.0.0.12"), "api.test")
        daemon = stack.enter_context(NamedUpgradable(one_proxy([named]), hosts))
        clients = {receive_line(each): each for each in (stack.enter_context(connect(daemon.port)) for _ in range(2))}
        daemon.write({"127.0.0.1": "localhost"})
        daemon.install("9.9.9")
        daemon.upgrade()
        server = daemon.servers()[named]
        assert (server["state"], server["connections"]) == ("up", 2)
        for name, client in clients.items():
            client.sendall(name.encode())
            assert receive(client, 3) == name.encode()
        assert set(flood(daemon.port, 10).answers) == {"one", "two"}
        two.stop()
        with pytest.raises(ConnectionResetError):
            receive_line(clients["two"])
        assert set(flood(daemon.port, 10).answers) == {"one"}


NEW = [step for step in Step if step.side is Side.NEW]
OLD = [step for step in Step if step.side is Side.OLD]


def test_both_processes_take_the_steps_of_the_table() -> None:
    """At level debug each says so. The first of the new one comes before it knows how much it is to say."""
    with Upgradable({**one_proxy(["127.0.0.1:1"]), "log": {"level": "debug"}}) as daemon:
        daemon.upgrade()
        said = [line.partition(" steps: handover: ")[2] for line in daemon.log.splitlines() if " steps: " in line]
        for side in (OLD, NEW[1:]):
            lines = [f"{step.side.value} process: {step.does}" for step in side]
            assert [line for line in said if line in lines] == lines
        assert len(said) == len(OLD) + len(NEW) - 1


def test_a_new_process_that_dies_at_any_step_before_it_serves_changes_nothing(streams: Numbered) -> None:
    """The streams go on in the old one, and the endpoints that only one of them can have are still its own."""
    with Upgradable(one_proxy([streams.address]) | {"admin": {"listen": f"127.0.0.1:{free_port()}"}}) as daemon:
        streams.open(daemon.port, **ONE_OF_EACH)
        for step in NEW[:-1]:
            daemon.install(changes=builds.at(step, "import os; os._exit(9)"))
            assert "the new process ended with status 9" in daemon.refused()
            assert_serves(daemon)
            streams.progress()
        report = streams.finish()
        assert (report.cut, report.wrong) == ([], [])


def test_a_step_of_the_old_process_that_fails_is_undone_with_all_before_it(streams: Numbered) -> None:
    """Up to the word to go: the streams go on, the admin endpoint is there, no process is left, the next one works."""
    with Upgradable(one_proxy([streams.address]) | {"admin": {"listen": f"127.0.0.1:{free_port()}"}}) as daemon:
        fails = daemon.dir / "fails"
        fails.write_text("")
        daemon.install(changes=builds.fails_at_what_stands_in(fails))
        first = daemon.upgrade()
        streams.open(daemon.port, **ONE_OF_EACH)
        for step in OLD[:-1]:
            fails.write_text(f"{step.name} fail")
            assert daemon.refused() == "the handover has failed: injected"
            assert daemon.serving() == first["pid"]
            assert_serves(daemon)
            streams.progress()
        fails.write_text("")
        assert daemon.upgrade()["pid"] != first["pid"]
        streams.progress()
        report = streams.finish()
        assert (report.cut, report.wrong) == ([], [])


def test_a_row_of_upgrades_with_a_fault_each_breaks_nothing(streams: Numbered) -> None:
    """Drawn from all faults there are; `python -m bench.service --upgrades 100` is the long one, under systemd."""
    config = one_proxy([streams.address]) | {"admin": {"listen": f"127.0.0.1:{free_port()}"}}
    with Upgradable(config) as daemon:
        fault = daemon.dir / "fault"
        fault.write_text("")
        daemon.install(changes=builds.fails_at_what_stands_in(fault))
        daemon.upgrade()
        streams.open(daemon.port, **ONE_OF_EACH)
        streams.visit(daemon.port, per_second=50)
        for drawn in random.sample(builds.FAULTS, 5):
            pid = daemon.serving()
            fault.write_text(drawn)
            if drawn == "LEAVE die":
                daemon.upgrade()
            else:
                assert daemon.refused(), drawn
                assert daemon.serving() == pid, drawn
            assert_serves(daemon)
            streams.progress()
        visits = streams.stop_visits()
        assert (visits.refused, visits.cut) == (0, 0)
        report = streams.finish()
        assert (report.cut, report.wrong) == ([], [])


def assert_serves(daemon: Upgradable) -> None:
    """Assert that it is alone, and has its admin endpoint."""
    assert not Path(f"/proc/{daemon.serving()}/task/{daemon.serving()}/children").read_text()
    host, _, port = daemon.config["admin"]["listen"].rpartition(":")
    with connect(int(port), host) as client:
        client.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert receive_all(client).startswith(b"HTTP/1.1 200 ")


def test_a_broken_configuration_is_refused_by_the_new_process(streams: Numbered) -> None:
    """The old one goes on with what it has."""
    with Upgradable(one_proxy([streams.address], first_byte_timeout="3s") | {"watch": False}) as daemon:
        good, control = daemon.file.read_text(), daemon.control
        streams.open(daemon.port, steady=3)
        daemon.file.write_text(f"control: {control}\nproxies: 7\n")
        done = daemon.cli("upgrade")
        assert done.returncode == 1
        assert "proxies" in done.stderr
        streams.progress()
        daemon.file.write_text(good)
        assert streams.finish().intact == 3


def test_a_control_socket_that_cannot_be_had_is_found_out_in_time(streams: Numbered) -> None:
    """While there is a way back: a file lies in its way, or `control` was changed to where none can be."""
    with Upgradable(one_proxy([streams.address]) | {"watch": False}) as daemon:
        good, control = daemon.file.read_text(), Path(daemon.control)
        streams.open(daemon.port, steady=3)
        in_the_way = control.with_name("control.sock.new")
        in_the_way.write_text("precious")
        assert daemon.refused() == f"the new process refused: control {in_the_way}: exists and is not a socket"
        assert in_the_way.read_text() == "precious"
        in_the_way.unlink()
        for bad in (daemon.dir / "no" / "such" / "x", daemon.file, daemon.file / "x", daemon.dir / ("x" * 120)):
            daemon.file.write_text(good.replace(f"control: {control}", f"control: {bad}"))
            with pytest.raises(ControlError, match=f"the new process refused: control {bad}"):
                client.call(str(control), "upgrade", {})
            daemon.file.write_text(good)
            streams.progress()
        assert daemon.serving() == daemon.pid
        daemon.upgrade()
        assert streams.finish().intact == 3


def test_there_is_a_control_socket_at_every_moment_of_an_upgrade(streams: Numbered) -> None:
    """Whoever opens it meets the old process or the new one; also with the longest path that there can be."""
    with LongPath(one_proxy([streams.address])) as daemon:
        path = daemon.control
        assert len(path) == PATH_LIMIT
        refused: list[OSError] = []
        over = threading.Event()

        def knock() -> None:
            while not over.is_set():
                with socket.socket(socket.AF_UNIX) as sock:
                    sock.settimeout(10)
                    try:
                        sock.connect(path)
                    except BlockingIOError:
                        pass  # it is there, and on a busy machine nobody has accepted for a moment
                    except OSError as error:
                        refused.append(error)
                time.sleep(0.001)

        knocking = threading.Thread(target=knock)
        knocking.start()
        try:
            for _ in range(3):
                daemon.upgrade()
        finally:
            over.set()
            knocking.join()
        assert refused == []


class Container(Told):
    """A daemon that is process 1 of its own."""

    def prepare(self) -> None:
        need("mounts", "unshare")
        super().prepare()
        self.command = ["unshare", "--pid", "--fork", *self.command]

    def ready(self) -> bool:
        with contextlib.suppress(LbproxyError):
            return bool(self.status())
        return False

    def send(self, number: signal.Signals) -> None:
        if number is signal.SIGKILL:
            super().send(number)
            return
        (inner,) = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        os.kill(int(inner), number)


def test_process_1_of_a_container_does_not_upgrade(streams: Numbered) -> None:
    """The container would end with it, and everything that was handed over."""
    with Container(one_proxy([streams.address])) as daemon:
        streams.open(daemon.port, steady=3)
        with pytest.raises(ControlError, match="takes its end for that of the service, or of the container"):
            daemon.call("upgrade")
        streams.progress()
        assert streams.finish().intact == 3


def test_where_nobody_can_be_told_of_another_process_there_is_no_upgrade(
    streams: Numbered,
) -> None:
    """What restarts it by itself would start another one, for ever, beside one that nobody watches."""
    with Daemon(one_proxy([streams.address])) as daemon:
        streams.open(daemon.port, steady=3)
        done = daemon.cli("upgrade")
        assert (done.returncode, "only systemd (Type=notify) can be told" in done.stderr) == (1, True)
        streams.progress()
        assert streams.finish().intact == 3


def test_only_one_upgrade_at_a_time(streams: Numbered) -> None:
    """The second is refused and the first goes its way; so is a stop not kept waiting by it."""
    with Upgradable(one_proxy([streams.address])) as daemon:
        streams.open(daemon.port, steady=3)
        daemon.install(changes=builds.NEVER_GETS_READY)
        refusals: list[str] = []

        def upgrade() -> None:
            try:
                daemon.call("upgrade")
            except LbproxyError as error:
                refusals.append(str(error))

        first = threading.Thread(target=upgrade)
        first.start()
        until(lambda: Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children").read_text().split(), "a new process")
        upgrade()
        streams.progress()
        streams.finish()
        daemon.send(signal.SIGTERM)
        first.join()
        assert daemon.process.wait(10 * FACTOR) == 0
        assert refusals == ["another upgrade or a stop is under way", "the daemon was told to stop meanwhile"]


def test_a_reload_during_an_upgrade_waits_for_it(streams: Numbered) -> None:
    """The one that is asked has gone by then and says so; it changes nothing half."""
    with Upgradable(one_proxy([streams.address])) as daemon:
        streams.open(daemon.port, steady=3)
        daemon.install("9.9.9", {"process.start": ("    _raise_fd_limit()\n", "    import time; time.sleep(1)\n")})
        upgrade = threading.Thread(target=daemon.call, args=("upgrade",))
        upgrade.start()
        until(lambda: Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children").read_text().split(), "a new process")
        verdict = daemon.call("reload")
        upgrade.join()
        assert verdict == {"applied": False, "lines": ["another process has taken over meanwhile: ask again"]}
        daemon.process.wait(10 * FACTOR)
        until(lambda: daemon.serving(), "the new process answers")
        assert daemon.call("reload") == {"applied": True, "lines": ["no change"]}
        assert streams.finish().intact == 3


def test_connections_still_being_made_are_made_by_the_new_process() -> None:
    """One whose server has not said a word yet: the new process asks again, and the client never knows."""
    hello = client_hello()
    with (
        Hung() as hung,
        Upgradable(one_proxy([hung], first_byte_timeout="60s")) as daemon,
        connect(daemon.port) as client,
    ):
        client.sendall(hello)
        until(lambda: daemon.conns()[0]["bytes_in"] == len(hello), "the server was asked")
        daemon.upgrade()
        taken = [hung._socket.accept()[0] for _ in range(2)]  # the old process's connection, and the new one's
        taken[1].settimeout(10 * FACTOR)
        assert receive(taken[1], len(hello)) == hello
        taken[1].sendall(b"server hello")
        assert receive(client, 12) == b"server hello"
        for sock in taken:
            sock.close()


def test_what_was_known_of_connections_and_servers_goes_along() -> None:
    """Ages, byte counts, a drain by hand; a server removed meanwhile drains; the new one takes new connections."""
    with Echo("one") as one, Echo("two") as two:
        config = one_proxy([{"name": "one", "address": one.address}, {"name": "two", "address": two.address}])
        with Upgradable({**config, "watch": False}) as daemon:
            clients = [connect(daemon.port) for _ in range(4)]
            names = [receive_line(client) for client in clients]
            assert sorted(names) == ["one", "one", "two", "two"]
            daemon.call("drain", server="one")
            ages = sorted(conn["age_seconds"] for conn in daemon.conns())
            moved = sorted(conn["bytes_out"] for conn in daemon.conns())
            config["proxies"]["p"]["servers"].pop()
            daemon.rewrite({**config, "watch": False})
            daemon.upgrade()
            assert daemon.servers()["one"]["state"] == "draining"
            assert "two" not in daemon.servers()
            after = daemon.conns()
            assert sorted(conn["bytes_out"] for conn in after) == moved
            assert all(now > then for now, then in zip(sorted(c["age_seconds"] for c in after), ages, strict=True))
            for client in clients:
                client.sendall(b"still here")
                assert receive(client, 10) == b"still here"
                client.shutdown(socket.SHUT_WR)
                client.close()
