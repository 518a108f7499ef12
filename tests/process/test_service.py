"""The unit as shipped, under a real systemd: restarts, upgrades, crashes; streams are checked at both ends."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator

import pytest
import trustme

from lbproxy.handover.steps import Step
from tests.support import builds
from tests.support.box import UNIT, UNITS, Service
from tests.support.clients import connect, greeting, receive, receive_line
from tests.support.daemon import one_proxy
from tests.support.ports import free_port
from tests.support.servers import Echo
from tests.support.streams_checked import Numbered, Report
from tests.support.wait import until

MIXED = {"steady": 20, "fast": 5, "bulk": 3, "slow": 3, "half_client": 3, "half_server": 3}

pytestmark = pytest.mark.timeout(90)


@pytest.fixture
def streams() -> Iterator[Numbered]:
    """Run a server for streams."""
    with Numbered() as running:
        yield running


def port_of(service: Service) -> int:
    """Return the first port of the first proxy."""
    return int(next(iter(service.status()["proxies"].values()))["listen"][0].rpartition(":")[2])


def kept(service: Service, streams: Numbered) -> None:
    """Wait until every stream is old enough to be held by systemd."""

    def old() -> int:
        return sum(conn["age_seconds"] > 3.5 for conn in service.conns())  # visits come and go meanwhile

    until(lambda: old() >= streams.alive(), "every stream is kept", 20)


def assert_all_intact(report: Report, count: int) -> None:
    """Assert that nothing was cut and no byte is wrong."""
    assert (report.cut, report.wrong, report.intact) == ([], [], count)


def test_restarts_reloads_and_upgrades_break_nothing(streams: Numbered) -> None:
    """Fast and slow, copied and spliced, half-closed; new connections meanwhile wait and are not refused."""
    with Service(one_proxy([streams.address])) as service:
        service.build("8.8.8", "8.8.8")
        port = port_of(service)
        streams.open(port, **MIXED)
        streams.visit(port, per_second=50)
        # At once, before systemd holds a single one of them, and then with all of them kept.
        for _ in range(2):
            service.systemctl("restart")
            streams.progress()
            service.install("8.8.8")
            assert "lbproxy 8.8.8 has taken over" in service.lbproxy("upgrade").stdout
            streams.progress()
            service.systemctl("restart")
            service.systemctl("reload")
            streams.progress()
            kept(service, streams)
        assert service.status()["version"] == "8.8.8"
        visits = streams.stop_visits()
        assert (visits.refused, visits.cut) == (0, 0)
        assert visits.done
        assert_all_intact(streams.finish(), sum(MIXED.values()))
        assert service.show("NRestarts") == "0"


def test_what_was_found_is_kept_in_the_sandbox_and_streams_to_it_live_on(streams: Numbered) -> None:
    """A restart and an upgrade begin with it: a found server that is not known yet would lose its connections."""
    config = one_proxy([], servers_from={"file": "/etc/lbproxy/servers.d/*.yaml"}, health={"type": "tcp"})
    with Service(config) as service:
        service.run("mkdir", "/etc/lbproxy/servers.d")
        service.write("/etc/lbproxy/servers.d/a.yaml", f"[{streams.address}]\n")

        def good() -> bool:
            shown = service.run("cat", "/var/lib/lbproxy/found.json", check=False).stdout
            return bool(shown) and json.loads(shown)[0]["good"] == [streams.address]

        until(good, "it is kept as good", 30)
        streams.open(port_of(service), steady=10)
        service.run("rm", "/etc/lbproxy/servers.d/a.yaml")
        for _ in range(2):
            service.systemctl("restart")
            streams.progress()
            service.lbproxy("upgrade")
            streams.progress()
        assert_all_intact(streams.finish(), 10)


def test_the_members_of_a_group_may_look_and_nothing_else(streams: Numbered) -> None:
    """A monitoring agent needs no root. Over restart, crash and upgrade; without the group all else is as ever."""

    def agent(*words: str) -> tuple[int, str]:
        command = ("setpriv", "--reuid=65534", "--regid=65534", "--groups=lbproxy-status", "/usr/bin/lbproxy", *words)
        done = service.run(*command, check=False)
        return done.returncode, done.stdout + done.stderr

    with Service(one_proxy([streams.address])) as service:

        def may_look() -> None:
            assert [agent(word, "--json")[0] for word in ("status", "conns", "events")] == [0, 0, 0]

        may_look()
        for words in (("drain", streams.address), ("reload",), ("upgrade",), ("rebalance",)):
            status, said = agent(*words)
            assert (status, "permission denied" in said) == (1, True), words
        stranger = ("setpriv", "--reuid=65534", "--clear-groups", "--regid=65534")
        nobody = service.run(*stranger, "/usr/bin/lbproxy", "status", check=False)
        assert (nobody.returncode, "members of lbproxy-status may look" in nobody.stderr) == (1, True)
        assert service.run("stat", "-c", "%A %U %G", "/run/lbproxy-status/control.sock").stdout.split() == [
            "srw-rw----", "lbproxy", "lbproxy-status",
        ]  # fmt: skip
        service.systemctl("restart")
        may_look()
        service.lbproxy("upgrade")
        may_look()
        service.kill("KILL")
        may_look()
        service.systemctl("stop")
        service.run("rm", "-r", "/run/lbproxy-status")
        service.systemctl("start")
        assert agent("status")[0] == 1
        assert service.status()["proxies"]


def test_what_has_happened_is_told_after_a_restart_an_upgrade_and_a_crash(streams: Numbered) -> None:
    """Who asks what happened at 03:12 asks after whatever has happened since; a stop is an end."""

    def events() -> list[str]:
        return [each["msg"] for each in json.loads(service.lbproxy("events", "--json").stdout)]

    with Service(one_proxy([streams.address, "127.0.0.2:1"])) as service:
        service.lbproxy("drain", "127.0.0.2:1")
        service.lbproxy("ready", "127.0.0.2:1")
        said = events()[-1]
        starts = 1
        for change in ("restart", "upgrade", "upgrade", "KILL", "restart"):
            if change == "restart":
                service.systemctl("restart")
            elif change == "upgrade":
                service.lbproxy("upgrade")
            else:
                service.kill(change)
            starts += 1
            found = events()
            assert [each for each in found if each == said] == [said], change
            assert len([each for each in found if "listening on" in each]) == starts, (change, found)
        service.systemctl("stop")
        service.systemctl("start")
        assert said not in events()


@pytest.mark.parametrize("number", ["KILL", "STOP"])
def test_a_crash_cuts_what_it_must_and_garbles_nothing(streams: Numbered, number: str) -> None:
    """SIGKILL, and SIGSTOP until the watchdog ends it: only connections with bytes in the process are reset."""
    with Service(one_proxy([streams.address]), drop_in="WatchdogSec=1s") as service:
        port = port_of(service)
        streams.open(port, **MIXED)
        streams.visit(port, per_second=50)
        kept(service, streams)
        service.kill(number)
        streams.progress()
        kept(service, streams)
        service.kill(number)
        streams.progress()
        assert streams.stop_visits().refused == 0
        report = streams.finish()
        assert report.wrong == []
        # The bulk and slow ones nearly always have bytes in transit.
        assert [cut for cut in report.cut if cut.split()[0] in ("half_client", "half_server")] == []
        assert report.intact >= MIXED["steady"] + MIXED["half_client"] + MIXED["half_server"]


def test_a_crash_after_any_change_of_hands_is_like_any_other(streams: Numbered) -> None:
    """The successor of a restart, of an upgrade and of a crash keeps its connections in its turn."""
    with Service(one_proxy([streams.address])) as service:
        streams.open(port_of(service), held=5, half_client=2)
        kept(service, streams)
        for hand_over in (
            lambda: service.systemctl("restart"), lambda: service.lbproxy("upgrade"), lambda: service.kill("KILL"),
        ):  # fmt: skip
            hand_over()
            service.kill("KILL")
            assert len(service.conns()) == 7
        assert_all_intact(streams.finish(), 7)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        (builds.FAILS_AT_START, "ended with status 1"),
        (builds.KNOWS_ANOTHER_HANDOVER, "refused: handover version 1"),
        (builds.DIES_WITH_THE_CONNECTIONS, "ended with status 9"),
    ],
    ids=["fails at start", "another handover version", "dies with the connections"],
)
def test_an_upgrade_to_a_build_that_fails_changes_nothing(
    streams: Numbered, changes: dict[str, tuple[str, str]], why: str
) -> None:
    """The old one serves on; exit status 1 and the reason."""
    with Service(one_proxy([streams.address])) as service:
        streams.open(port_of(service), **MIXED)
        pid = service.pid()
        service.build("bad", changes=changes)
        service.install("bad")
        done = service.lbproxy("upgrade", check=False)
        assert done.returncode == 1
        assert why in done.stderr
        streams.progress()
        assert service.pid() == pid
        assert_all_intact(streams.finish(), sum(MIXED.values()))


def test_an_upgraded_process_is_systemds_own_child(streams: Numbered) -> None:
    """Its end is heard of at once, it has the service's name, and nothing between the two is left."""
    with Service(one_proxy([streams.address])) as service:
        streams.open(port_of(service), steady=3)
        service.lbproxy("upgrade")
        until(lambda: service.show("MainPID") == service.run("pgrep", "-x", "lbproxy").stdout.strip(), "one is left")
        stat = service.run("cat", f"/proc/{service.pid()}/stat").stdout.split()
        assert (stat[1], stat[3]) == ("(lbproxy)", "1")
        assert "not our child" not in service.log()
        kept(service, streams)
        service.kill("KILL")
        streams.progress()
        assert_all_intact(streams.finish(), 3)


def test_an_upgrade_starts_what_the_command_leads_to_now(streams: Numbered) -> None:
    """Another file with another environment behind the same name; and it says when that is no other version."""
    with Service(one_proxy([streams.address])) as service:
        streams.open(port_of(service), steady=3)
        assert "has taken over from the same version as pid" in service.lbproxy("upgrade").stdout
        service.build("7.7.7", "7.7.7")
        (service.dir / "builds" / "command").write_text(
            "#!/opt/venv/bin/python3 -P\nimport sys\nsys.path.insert(0, '/opt/builds/7.7.7')\n"
            "from lbproxy.cli import main\nsys.exit(main())\n"
        )
        (service.dir / "builds" / "command").chmod(0o755)
        service.run("mount", "--bind", "/opt/builds/command", "/usr/bin/lbproxy")
        assert "lbproxy 7.7.7 has taken over as pid" in service.lbproxy("upgrade").stdout
        assert_all_intact(streams.finish(), 3)


def test_an_upgrade_that_fails_after_the_new_process_was_named_to_systemd_is_taken_back(streams: Numbered) -> None:
    """Else systemd would follow a process that is dead, and end the one that serves."""
    with Service(one_proxy([streams.address])) as service:
        service.build("bad", changes=builds.at(Step.GO, 'raise OSError(5, "injected")'))
        service.install("bad")
        service.systemctl("restart")
        streams.open(port_of(service), **MIXED)
        pid = service.pid()
        assert "injected" in service.lbproxy("upgrade", check=False).stderr
        streams.progress()
        assert (service.pid(), service.show("ActiveState")) == (pid, "active")
        service.systemctl("restart")
        streams.progress()
        assert_all_intact(streams.finish(), sum(MIXED.values()))
        assert service.show("NRestarts") == "0"


def test_a_build_that_dies_as_soon_as_it_may_serve_is_a_crash(streams: Numbered) -> None:
    """After the word to go there is no way back to the old one: systemd starts the service anew, from its store."""
    with Service(one_proxy([streams.address])) as service:
        streams.open(port_of(service), steady=20, half_client=2, bulk=2)
        kept(service, streams)
        pid = service.pid()
        service.build("bad", changes=builds.DIES_WHEN_IT_MAY_GO)
        service.install("bad")
        service.lbproxy("upgrade", check=False)
        service.install("first")
        until(lambda: service.show("ActiveState") == "active" and service.pid() not in (0, pid), "it is back", 20)
        streams.progress()
        report = streams.finish()
        assert report.wrong == []
        assert report.intact >= 20


def test_a_file_that_is_broken_at_a_restart_is_not_the_end(streams: Numbered) -> None:
    """The configuration that was in force goes on, and the error can be seen; a good file is taken again."""
    config = one_proxy([streams.address])
    with Service(config) as service:
        streams.open(port_of(service), steady=5)
        service.rewrite("proxies: 7\n")
        assert service.systemctl("reload", check=False).returncode != 0
        service.systemctl("restart")
        streams.progress()
        seen = service.status()["config"]
        assert not seen["last_reload_successful"]
        assert "proxies" in seen["last_reload_error"]
        service.kill("KILL")
        assert not service.status()["config"]["last_reload_successful"]
        service.rewrite(config)
        service.systemctl("reload")
        assert service.status()["config"]["last_reload_successful"]
        streams.progress()
        streams.finish()


@pytest.mark.parametrize("how", ["restart", "crash"])
def test_a_file_that_cannot_be_applied_at_a_restart_is_not_the_end(streams: Numbered, how: str) -> None:
    """As one that is broken: what was in force goes on, and why can be seen; without a control socket all goes on."""
    config = one_proxy([streams.address])
    proxy = config["proxies"]["p"]
    bad = {
        "ca_file /etc/passwd": {"proxies": {"p": {**proxy, "health": {"ca_file": "/etc/passwd"}}}},
        "cannot listen on 192.0.2.1:1": {"proxies": {"p": {**proxy, "listen": ["192.0.2.1:1"]}}},
    }
    with Service(config) as service:
        streams.open(port_of(service), steady=5)
        for why, each in bad.items():
            kept(service, streams)
            service.rewrite(each)
            service.systemctl("restart") if how == "restart" else service.kill("KILL")
            streams.progress()
            seen = service.status()["config"]
            assert not seen["last_reload_successful"]
            assert why in seen["last_reload_error"]
        service.rewrite({**config, "control": "/proc/x/c.sock"})
        service.systemctl("restart") if how == "restart" else service.kill("KILL")
        streams.progress()
        assert "control /proc/x/c.sock: the directory /proc does not exist; no command is answered" in service.log()
        assert_all_intact(streams.finish(), 5)


def test_what_a_configuration_in_force_needs_may_be_gone_at_a_restart(streams: Numbered) -> None:
    """A CA that is being exchanged, a place where no control socket can be made any more: the connections go on."""
    config = one_proxy([streams.address], health={"type": "tls", "ca_file": "/etc/lbproxy/ca.pem"})
    with Service(one_proxy([streams.address])) as service:
        (service.dir / "etc" / "ca.pem").write_bytes(trustme.CA().cert_pem.bytes())
        (service.dir / "etc" / "ca.pem").chmod(0o644)
        service.rewrite(config)
        service.systemctl("reload")
        streams.open(port_of(service), steady=5)
        (service.dir / "etc" / "ca.pem").write_text("not now")
        service.run("rm", "/run/lbproxy/control.sock")
        service.run("mkdir", "/run/lbproxy/control.sock")
        service.systemctl("restart")
        streams.progress()
        service.run("rmdir", "/run/lbproxy/control.sock")
        until(lambda: service.lbproxy("status", check=False).returncode == 0, "commands are answered again", 20)
        assert_all_intact(streams.finish(), 5)


def test_it_never_gives_up() -> None:
    """Nothing to go back to, and a file that cannot be used: tried again, not too often, until it can."""
    with Echo("one") as one:
        config = one_proxy([one])
        with Service(config) as service:
            port = port_of(service)
            service.systemctl("stop")
            service.rewrite(one_proxy([one], health={"ca_file": "/nowhere"}))
            service.systemctl("start", "--no-block")
            until(lambda: int(service.show("NRestarts")) >= 2, "it has been tried again", 20)
            assert service.show("ActiveState") == "activating"
            service.rewrite("proxies: 7\n")
            tried = int(service.show("NRestarts"))
            until(lambda: int(service.show("NRestarts")) >= tried + 2, "it has been tried again", 20)
            service.rewrite(config)
            until(lambda: service.show("ActiveState") == "active", "it serves", 20)
            assert greeting(port) == "one"


def test_without_a_configuration_it_is_tried_once(streams: Numbered) -> None:
    """The package enables the service before there is one: a boot says so and has failed. Later it may go missing."""
    config = one_proxy([streams.address])
    with Service(config) as service:
        streams.open(port_of(service), steady=3)
        service.run("rm", "/etc/lbproxy/lbproxy.yaml")
        service.systemctl("restart")
        streams.progress()
        service.kill("KILL")
        assert service.show("ActiveState") == "active"
        streams.finish()
        service.systemctl("stop")
        assert service.systemctl("start", check=False).returncode != 0
        assert (service.show("ActiveState"), service.show("ExecMainStatus")) == ("failed", "78")
        log = service.log()
        assert log.count("/etc/lbproxy/lbproxy.yaml: cannot be read: No such file or directory\n") == 3
        assert log.count("it is not tried again: write it, and start the service") == 1
        service.rewrite(config)
        service.systemctl("start")
        assert service.status()


def test_a_port_that_is_still_anothers_is_taken_once_it_is_free() -> None:
    """The former proxy's pod, say: it waits in the process, says so once, and serves what else it can."""
    with Echo("one") as one:
        config = one_proxy([one])
        with Service(config) as service:
            port, other = port_of(service), free_port()
            service.systemctl("stop")
            config["proxies"]["p"]["listen"].append(f"127.0.0.1:{other}")
            service.rewrite(config)
            with socket.create_server(("127.0.0.1", port)):
                service.systemctl("start")
                assert greeting(other) == "one"
                service.systemctl("reload")
                service.lbproxy("upgrade")
                service.systemctl("restart")
                assert service.log().count(f"cannot listen on 127.0.0.1:{port}") == 3
            until(lambda: len(service.status()["proxies"]["p"]["listen"]) == 2, "it has the port")
            assert greeting(port) == "one"
            assert service.show("NRestarts") == "0"


def test_what_was_known_of_connections_and_servers_outlives_a_restart_and_a_crash() -> None:
    """Ages and idle times go on, a drain by hand stays; a server removed meanwhile drains, so does a whole proxy."""
    with Echo("one") as one, Echo("two") as two, Echo("three") as three:
        config = one_proxy(
            [{"name": "one", "address": one.address}, {"name": "two", "address": two.address}], drain_timeout="5m"
        )
        config["proxies"]["q"] = one_proxy([three])["proxies"]["p"]
        with Service(config) as service:
            other = int(service.status()["proxies"]["q"]["listen"][0].rpartition(":")[2])
            clients = [*(connect(port_of(service)) for _ in range(2)), connect(other)]
            names = [receive_line(client) for client in clients]
            assert sorted(names) == ["one", "three", "two"]
            service.lbproxy("drain", "one")
            until(lambda: min(conn["age_seconds"] for conn in service.conns()) > 3.5, "they are kept", 10)
            for hand_over in (lambda: service.systemctl("restart"), lambda: service.kill("KILL")):
                hand_over()
                conns = service.conns()
                assert len(conns) == 3
                assert all(conn["age_seconds"] > 3.5 and conn["idle_seconds"] > 3 for conn in conns)
                assert service.status()["proxies"]["p"]["servers"]["one"]["state"] == "draining"
            service.lbproxy("ready", "one")
            config["proxies"]["p"]["servers"].pop()
            config["proxies"]["p"]["drain_timeout"] = "4s"
            del config["proxies"]["q"]
            service.rewrite(config)
            service.systemctl("restart")
            for client in clients:
                client.sendall(b"still here")
                assert receive(client, 10) == b"still here"
            gone = clients[names.index("two")]
            with pytest.raises(ConnectionResetError):
                gone.recv(1)
            with pytest.raises(ConnectionRefusedError):
                connect(other)
            clients[names.index("one")].sendall(b"x")
            assert clients[names.index("one")].recv(1) == b"x"
            for client in clients:
                client.close()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_crash_does_not_undo_what_the_operator_was_told(workers: int) -> None:
    """Drained, or ready again, and killed in the same moment."""
    with Echo("one") as one, Echo("two") as two:
        servers = [{"name": "one", "address": one.address}, {"name": "two", "address": two.address}]
        with Service({**one_proxy(servers), "workers": workers}) as service:
            for word, drained in (("drain", True), ("ready", False)) * 2:
                service.lbproxy(word, "one")
                service.kill("KILL")
                assert (service.status()["proxies"]["p"]["servers"]["one"]["state"] == "draining") is drained


def test_connections_that_nobody_takes_over_are_reset(streams: Numbered) -> None:
    """`systemctl stop`: a FIN would tell both ends that their stream is whole."""
    with Service({**one_proxy([streams.address]), "shutdown_timeout": "1s"}) as service:
        streams.open(port_of(service), steady=3)
        service.systemctl("stop")
        until(lambda: all(end.ended for end in (*streams.clients.values(), *streams.served.values())), "all have ended")
        assert {end.ended for end in (*streams.clients.values(), *streams.served.values())} == {"reset"}


@pytest.mark.parametrize("how", [("stop", UNIT), ("isolate", "box.target")], ids=["by itself", "with much else"])
def test_a_stop_lets_exchanges_end_and_serves_until_they_have(streams: Numbered, how: tuple[str, str]) -> None:
    """As SIGTERM does where nobody takes over: who is quiet is cut at once, and the port is the last thing to go."""
    with Service({**one_proxy([streams.address]), "shutdown_timeout": "1h"}) as service:
        port = port_of(service)
        streams.open(port, fast=3, held=3)
        kept(service, streams)
        service.run("systemctl", "--no-block", *how)
        until(lambda: streams.alive() == 3, "who is quiet is cut", 20)
        streams.visit(port, per_second=20)
        streams.progress()
        assert service.show("ActiveState") == "deactivating"
        visits = streams.stop_visits()
        assert visits.refused == 0
        assert visits.done
        report = streams.finish()
        assert (report.intact, sorted(cut.split()[0] for cut in report.cut), report.wrong) == (3, ["held"] * 3, [])
        until(lambda: service.show("ActiveState") == "inactive", "it has ended", 20)
        with pytest.raises(ConnectionRefusedError):
            connect(port)


def test_a_systemd_that_does_not_say_what_is_asked_of_it_costs_no_connection(streams: Numbered) -> None:
    """Whether it is a stop or a restart is not known then, and at a restart nothing may be lost."""
    with Service(one_proxy([streams.address])) as service:
        streams.open(port_of(service), **MIXED)
        service.run("cp", "/usr/bin/systemctl", "/usr/bin/true-systemctl")
        service.write("/usr/bin/hangs", "#!/bin/sh\nexec sleep 1h\n")
        service.run("chmod", "755", "/usr/bin/hangs")
        service.run("mount", "--bind", "/usr/bin/hangs", "/usr/bin/systemctl")
        service.run("true-systemctl", "restart", UNIT)
        service.run("umount", "/usr/bin/systemctl")
        streams.progress()
        assert_all_intact(streams.finish(), sum(MIXED.values()))


def test_it_yields_to_the_api_server_of_a_master() -> None:
    """By its manifest, or because it listens on every address: one line, inactive and not failed, not tried again."""
    with Echo() as echo, Service(one_proxy([echo])) as service:
        port = port_of(service)
        service.systemctl("stop")
        service.run("mkdir", "-p", "/etc/kubernetes/manifests")
        service.run("touch", "/etc/kubernetes/manifests/kube-apiserver.yaml")
        service.systemctl("start")
        assert (service.show("ActiveState"), service.show("ConditionResult")) == ("inactive", "no")
        assert "ConditionPathExists=!/etc/kubernetes/manifests/kube-apiserver.yaml" in service.log().splitlines()[-1]
        service.run("rm", "/etc/kubernetes/manifests/kube-apiserver.yaml")
        with socket.create_server(("0.0.0.0", port)):
            service.systemctl("start", check=False)
            until(lambda: service.show("ActiveState") == "inactive", "it has yielded")
            assert service.show("NRestarts") == "0"
            assert service.log().count(f"is left to the program that listens on port {port}") == 1
        service.start()
        assert service.status()


def test_a_port_of_the_socket_unit_is_open_all_the_time() -> None:
    """Clients wait while the service is stopped, and one of them starts it; unknown ports of it do no harm."""
    with Echo("one") as one:
        config = one_proxy([one])
        with Service(config) as service:
            port = port_of(service)
            service.systemctl("stop")
            unit = (UNITS / "lbproxy.socket").read_text().replace("127.0.0.1:6443", f"127.0.0.1:{port}")
            service.write("/etc/systemd/system/lbproxy.socket", unit)
            service.run("systemctl", "daemon-reload")
            service.run("systemctl", "start", "lbproxy.socket")
            with connect(port) as client:
                assert receive_line(client) == "one"
                service.systemctl("restart")
                client.sendall(b"still here")
                assert receive(client, 10) == b"still here"
                service.systemctl("stop")
            with connect(port) as client:
                assert receive_line(client) == "one"


def test_a_dynamic_user_will_do(streams: Numbered) -> None:
    """No account, no capability; and with few descriptors, the limit for those in flight too, which is the user's."""
    with Service(one_proxy([streams.address]), drop_in="User=few\nGroup=\nDynamicUser=yes\nLimitNOFILE=300") as service:
        streams.open(port_of(service), held=60)
        kept(service, streams)
        service.systemctl("restart")
        service.kill("KILL")
        service.lbproxy("upgrade")
        assert len(service.conns()) == 60
        assert_all_intact(streams.finish(), 60)


def test_many_connections_are_taken_over(streams: Numbered) -> None:
    """Six hundred, over a restart, a crash and an upgrade."""
    with Service(one_proxy([streams.address])) as service:
        streams.open(port_of(service), held=600)
        kept(service, streams)
        service.systemctl("restart")
        service.kill("KILL")
        service.lbproxy("upgrade")
        assert len(service.conns()) == 600
        assert_all_intact(streams.finish(), 600)
