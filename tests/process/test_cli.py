"""The command line as its users meet it: where options may stand, what is printed where, every exit status."""

import json
import os
import platform
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lbproxy import __version__, whereabouts
from lbproxy.cli import main
from lbproxy.config.model import DEFAULT_CONTROL
from lbproxy.form import form
from tests.support.clients import connect, receive_line
from tests.support.daemon import Daemon, one_proxy
from tests.support.ports import free_port
from tests.support.servers import Echo
from tests.support.wait import FACTOR, until

CLIENTS = (["status"], ["conns"], ["reload"], ["drain", "m1"], ["ready", "m1"])


def lbproxy(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end; whatever it is told, it shows no traceback."""
    clean = {name: value for name, value in os.environ.items() if name != "LBPROXY_CONTROL"}
    done = subprocess.run(
        [sys.executable, "-m", "lbproxy", *words],
        env={**clean, **environ}, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30 * FACTOR,
    )  # fmt: skip
    assert "Traceback" not in done.stderr + done.stdout
    return done


def only_line(text: str) -> str:
    """Return the only line of `text`."""
    assert text.endswith("\n")
    assert text.count("\n") == 1, text
    return text.rstrip("\n")


def listening_on(address: str, directory: Path) -> Path:
    """Return a configuration file with one proxy on `address`."""
    file = directory / "lbproxy.yaml"
    proxy = f"{{listen: ['{address}'], servers: ['127.0.0.1:{free_port()}']}}"
    file.write_text(f"control: {directory}/control.sock\nproxies: {{p: {proxy}}}\n")
    return file


@pytest.fixture
def good(tmp_path: Path) -> Path:
    """Return a good configuration file whose control socket does not exist."""
    return listening_on(f"127.0.0.1:{free_port()}", tmp_path)


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    """Run a daemon with two servers for the tests that only ask; nothing else of it is changed for good."""
    with Echo("one") as one, Echo("two") as two:
        servers = [{"name": "m1", "address": one.address}, {"name": "m2", "address": two.address}]
        with Daemon(one_proxy(servers)) as running:
            yield running


def test_version() -> None:
    """Which version, in which form, by which Python: an operator can see on each node whether it runs the fast one."""
    words = f"lbproxy {__version__} ({form()}, Python {platform.python_version()})\n"
    for asked in ("--version", "version"):
        done = lbproxy(asked)
        assert (done.returncode, done.stdout) == (0, words)


@pytest.mark.parametrize(
    "words",
    [[], ["bogus"], ["status", "--bogus"], ["--bogus", "status"], ["drain"], ["ready"], ["status", "m1"],
     ["status", "-c"], ["run", "--json"], ["stat"], ["status", "--js"]],
    ids=" ".join,
)  # fmt: skip
def test_wrong_usage_is_2(words: list[str]) -> None:
    """Also what is abbreviated: a script that relies on it breaks with the next command."""
    done = lbproxy(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert "usage: lbproxy" in done.stderr


def test_a_mistyped_command_gets_the_near_ones_offered() -> None:
    """And not a list of all."""
    assert "no command is called 'stats', did you mean status?" in lbproxy("stats").stderr
    assert "no command is called 'quux'; `lbproxy help` shows all" in lbproxy("quux").stderr


def test_help_is_a_command_too() -> None:
    """Of all, or of one."""
    assert lbproxy("help").stdout == lbproxy("--help").stdout
    assert lbproxy("help", "drain").stdout == lbproxy("drain", "--help").stdout
    assert lbproxy("help", "drian").returncode == 2


@pytest.mark.parametrize("before", [True, False])
def test_check_says_ok(good: Path, before: bool) -> None:
    """`-c` may stand on either side of the command."""
    option = ["-c", str(good)]
    done = lbproxy(*option, "check") if before else lbproxy("check", *option)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{good}: ok\n", "")


@pytest.mark.parametrize("command", ["check", "run"])
def test_a_bad_configuration_is_1_with_every_problem(tmp_path: Path, command: str) -> None:
    """A line for each, as FILE:LINE: place: why."""
    file = tmp_path / "bad.yaml"
    proxy = "  p:\n    listen: [127.0.0.1:1]\n    servers: [{address: 'a:1', weight: x}]\n"
    file.write_text(f"wokers: 1\nproxies:\n{proxy}")
    done = lbproxy(command, "-c", str(file))
    assert (done.returncode, done.stdout) == (1, "")
    first, second = done.stderr.splitlines()
    assert first.startswith(f"{file}:1: wokers: ")
    assert second.startswith(f"{file}:5: proxies.p.servers[0].weight: ")


@pytest.mark.parametrize("command", ["check", "run"])
@pytest.mark.parametrize("what", ["missing", "a directory", "empty", "binary"])
def test_a_file_that_cannot_be_read_is_1_in_one_line(tmp_path: Path, command: str, what: str) -> None:
    """The line begins with the name of the file."""
    file = tmp_path / "odd"
    match what:
        case "a directory":
            file.mkdir()
        case "empty":
            file.touch()
        case "binary":
            file.write_bytes(b"\x00\xff\xfe" * 100)
    done = lbproxy(command, "-c", str(file))
    assert done.returncode == 1
    assert only_line(done.stderr).startswith(f"{file}:")


def test_run_on_a_port_in_use_is_1_and_names_it(tmp_path: Path) -> None:
    """One line, with the address and the proxy; the control socket is gone again."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = lbproxy("run", "-c", str(listening_on(f"127.0.0.1:{port}", tmp_path)))
    assert done.returncode == 1
    line = only_line(done.stderr)
    assert f"127.0.0.1:{port}" in line
    assert "in use" in line
    assert not (tmp_path / "control.sock").exists()


def test_run_on_an_address_of_another_machine_is_1_and_names_it(tmp_path: Path) -> None:
    """TEST-NET-3 is nobody's address."""
    done = lbproxy("run", "-c", str(listening_on("203.0.113.1:7", tmp_path)))
    assert done.returncode == 1
    assert "203.0.113.1:7" in only_line(done.stderr)


def test_a_second_daemon_on_the_same_control_socket_is_1(daemon: Daemon, good: Path) -> None:
    """It says so, and the first goes on."""
    done = lbproxy("run", "-c", str(good), "--control", daemon.control)
    assert done.returncode == 1
    assert "another lbproxy is running" in only_line(done.stderr)
    assert daemon.cli("status").returncode == 0


@pytest.mark.parametrize("words", CLIENTS, ids=" ".join)
def test_without_a_daemon_it_is_3(tmp_path: Path, words: list[str]) -> None:
    """One line that names the socket."""
    path = str(tmp_path / "control.sock")
    done = lbproxy(*words, "--control", path)
    assert (done.returncode, done.stdout) == (3, "")
    assert path in only_line(done.stderr)


def test_a_socket_that_a_killed_daemon_left_is_3(tmp_path: Path) -> None:
    """The file is there, nobody listens."""
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "control.sock"))
    assert lbproxy("status", "--control", str(tmp_path / "control.sock")).returncode == 3


def test_a_configuration_file_that_cannot_be_read_leads_to_no_daemon(tmp_path: Path) -> None:
    """`-c` names a file that is not there: the daemon cannot be looked up, one line says why."""
    done = lbproxy("status", "-c", str(tmp_path / "none"))
    assert done.returncode == 3
    assert str(tmp_path / "none") in only_line(done.stderr)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_who_may_not_ask_gets_1_and_is_told(daemon: Daemon, capfd: pytest.CaptureFixture[str]) -> None:
    """3 says that no daemon is there, which a monitoring user must not be told of one that is."""
    path = daemon.control
    assert main(["--control", path, "status"]) == 0  # and all modules are there, before the rights to read them go
    capfd.readouterr()
    os.seteuid(65534)
    try:
        status = main(["--control", path, "status"])
    finally:
        os.seteuid(0)
    said = capfd.readouterr()
    assert (status, said.out) == (1, "")
    assert only_line(said.err).endswith("only the user that the daemon runs as, and root, may ask it")


def test_the_default_file_says_where_the_daemon_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Without options and environment: so `systemctl reload` finds it, which has none."""
    file = tmp_path / "lbproxy.yaml"
    monkeypatch.delenv("LBPROXY_CONTROL", raising=False)
    monkeypatch.setattr(whereabouts, "DEFAULT_FILE", str(file))
    assert main(["status"]) == 3
    assert DEFAULT_CONTROL in capfd.readouterr().err
    file.write_text(f"control: {tmp_path}/c.sock\n")
    assert main(["status"]) == 3
    assert f"{tmp_path}/c.sock: no daemon" in capfd.readouterr().err


def test_a_file_that_is_broken_before_control_leads_to_the_default(tmp_path: Path) -> None:
    """Which may not be where its daemon is, so it is said."""
    file = tmp_path / "broken.yaml"
    file.write_text(f"proxies: [\ncontrol: {tmp_path}/control.sock\n")
    done = lbproxy("status", "-c", str(file))
    assert done.returncode == 3
    said, failed = done.stderr.splitlines()
    assert said == f"lbproxy: {file} cannot be read up to `control`, asking {DEFAULT_CONTROL}"
    assert DEFAULT_CONTROL in failed


def test_the_daemon_is_found_by_each_way_in_its_order(daemon: Daemon, good: Path, tmp_path: Path) -> None:
    """--control on either side, else $LBPROXY_CONTROL, else `control` of -c FILE on either side."""
    path, wrong = daemon.control, str(tmp_path / "wrong.sock")
    assert lbproxy("--control", path, "status", LBPROXY_CONTROL=wrong).returncode == 0
    assert lbproxy("status", "--control", path, LBPROXY_CONTROL=wrong).returncode == 0
    assert lbproxy("status", "--control", wrong, LBPROXY_CONTROL=path).returncode == 3
    assert lbproxy("status", "-c", str(good), LBPROXY_CONTROL=path).returncode == 0
    assert lbproxy("status", "-c", str(daemon.file), LBPROXY_CONTROL=wrong).returncode == 3
    assert lbproxy("status", "-c", str(daemon.file)).returncode == 0
    assert lbproxy("-c", str(daemon.file), "status").returncode == 0


def test_run_control_replaces_the_one_of_the_file(good: Path, tmp_path: Path) -> None:
    """The option means the same socket for the daemon and for those who look for it."""
    path = str(tmp_path / "other.sock")
    running = subprocess.Popen([sys.executable, "-m", "lbproxy", "run", "-c", str(good), "--control", path])
    try:
        until(lambda: lbproxy("status", "--control", path).returncode == 0, "the daemon answers")
        assert lbproxy("status", "-c", str(good)).returncode == 3
    finally:
        running.terminate()
        assert running.wait(20 * FACTOR) == 0


def test_status_shows_servers_and_their_state(daemon: Daemon) -> None:
    """For a person."""
    done = daemon.cli("status")
    assert done.returncode == 0
    for word in ("p on 127.0.0.1:", "m1", "m2", "up"):
        assert word in done.stdout


def test_a_script_may_ask_for_so_many_servers(daemon: Daemon) -> None:
    """Before it goes on to the next node, say; what there is is shown all the same."""
    assert daemon.cli("status", "--servers", "2").returncode == 0
    done = daemon.cli("status", "--servers", "3")
    assert (done.returncode, only_line(done.stderr)) == (1, "lbproxy: p: 2 of 2 servers up, 3 wanted")
    assert "m1" in done.stdout
    done = daemon.cli("status", "--json", "--wait", "100ms", "--servers", "3")
    assert (done.returncode, len(json.loads(done.stdout)["proxies"]["p"]["servers"])) == (1, 2)
    assert "must be a duration" in daemon.cli("status", "--wait", "soon").stderr


def test_a_script_waits_for_the_daemon_and_its_servers(tmp_path: Path) -> None:
    """Right after a start no check has answered yet, and before it nobody does."""
    path = str(tmp_path / "control.sock")
    words = [sys.executable, "-m", "lbproxy", "status", "--control", path, "--wait", "10m"]
    with Echo("one") as one, subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as waiting:
        config = {"control": path, **one_proxy([one], health={"type": "tcp", "interval": "200ms"})}
        one.stop()
        with Daemon(config) as daemon:
            until(lambda: daemon.servers()[one.address]["checks"].get("refused"), "it was looked at, and is not up")
            assert waiting.poll() is None
            one.start()
            until(lambda: waiting.poll() is not None, "it is up")
        assert waiting.returncode == 0
        assert waiting.stdout
        assert "1 of 1 servers up" in waiting.stdout.read()


def test_status_json_has_the_documented_shape(daemon: Daemon) -> None:
    """For programs: these keys stay."""
    status = json.loads(daemon.cli("status", "--json").stdout)
    assert {"version", "pid", "uptime_seconds", "generation", "config", "proxies"} <= status.keys()
    assert status["pid"] == daemon.pid
    assert status["config"]["file"] == str(daemon.file)
    assert {"file", "last_reload_successful", "last_reload_error"} <= status["config"].keys()
    proxy = status["proxies"]["p"]
    assert {"listen", "connections", "connections_total", "servers"} <= proxy.keys()
    assert list(proxy["servers"]["m1"])[:11] == [
        "address", "state", "reason", "since_seconds", "weight", "backup", "connections", "connections_total",
        "connect_failures_total", "bytes_in_total", "bytes_out_total",
    ]  # fmt: skip


def test_conns_shows_an_open_connection(daemon: Daemon) -> None:
    """Client, server and bytes, as a table and as JSON."""
    with connect(daemon.port) as client:
        name = {"one": "m1", "two": "m2"}[receive_line(client)]
        address = "{}:{}".format(*client.getsockname())
        (conn,) = json.loads(daemon.cli("conns", "--json").stdout)
        assert (conn["proxy"], conn["server"], conn["client"], conn["bytes_in"]) == ("p", name, address, 0)
        assert conn["bytes_out"] == len("one\n")
        assert {"age_seconds", "idle_seconds"} <= conn.keys()
        assert address in daemon.cli("conns").stdout
    until(lambda: not daemon.conns())


def test_drain_and_ready_take_a_server_out_and_back(daemon: Daemon) -> None:
    """New connections go elsewhere meanwhile; `status` shows it."""
    assert daemon.cli("drain", "m1").returncode == 0
    assert daemon.servers()["m1"]["state"] == "draining"
    for _ in range(6):
        with connect(daemon.port) as client:
            assert receive_line(client) == "two"
    assert daemon.cli("ready", "m1").returncode == 0
    assert daemon.servers()["m1"]["state"] == "up"


def test_the_last_server_of_a_proxy_is_drained_only_by_force(daemon: Daemon) -> None:
    """Three drains in a loop over the masters, or one typo, would cut the node off."""
    before, last = (daemon.log.count(f"server {name} drained by the operator") for name in ("m1", "m2"))
    assert daemon.cli("drain", "m1").returncode == 0
    done = daemon.cli("drain", "m2")
    assert (done.returncode, done.stdout) == (1, "")
    assert only_line(done.stderr) == "lbproxy: m2 is the last server of p that takes new connections (see --force)"
    assert daemon.servers()["m2"]["state"] == "up"
    assert daemon.cli("drain", "m1").returncode == 0  # is nothing new
    assert json.loads(daemon.cli("drain", "--force", "--json", "m2").stdout) == {"server": "m2"}
    until(lambda: daemon.log.count("server m2 drained by the operator") > last)
    assert daemon.log.count("server m1 drained by the operator") == before + 1
    assert daemon.servers()["m2"]["state"] == "draining"
    for server in ("m1", "m2"):
        assert daemon.cli("ready", server).returncode == 0


@pytest.mark.parametrize("command", ["drain", "ready"])
def test_an_unknown_server_is_1(daemon: Daemon, command: str) -> None:
    """One line that names it."""
    done = daemon.cli(command, "m9")
    assert (done.returncode, done.stdout) == (1, "")
    assert only_line(done.stderr) == "lbproxy: no server is called m9, did you mean m2 or m1?"


def test_reload_prints_what_changed_and_why_it_was_refused() -> None:
    """0 with the changes on stdout, 1 with the problems on stderr; -c finds the daemon although the file is broken."""
    with Echo() as one, Echo() as two:
        config = one_proxy([one])
        with Daemon({**config, "watch": False}) as daemon:
            config["proxies"]["p"]["servers"].append(two.address)
            daemon.rewrite({**config, "watch": False})
            done = daemon.cli("reload")
            assert done.returncode == 0
            assert f"p: server {two.address} added" in done.stdout.splitlines()
            path = daemon.control
            daemon.file.write_text(f"control: {path}\nproxies: [\n")
            done = lbproxy("reload", "-c", str(daemon.file))
            assert (done.returncode, done.stdout) == (1, "")
            assert str(daemon.file) in done.stderr
            assert "the configuration that was in force goes on" in done.stderr
            done = lbproxy("reload", "--json", "-c", str(daemon.file))
            assert (done.returncode, json.loads(done.stdout)["applied"]) == (1, False)
            assert lbproxy("status", "--control", path).stdout.count(two.address) == 1
            daemon.rewrite(config)


def test_a_reader_that_leaves_is_not_an_error(daemon: Daemon) -> None:
    """`lbproxy status | head` says nothing on stderr."""
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as gone:
        done = subprocess.run(
            [sys.executable, "-m", "lbproxy", "--control", daemon.control, "status"],
            stdout=gone, stderr=subprocess.PIPE, text=True, timeout=30 * FACTOR,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_an_output_that_cannot_be_written_is_1(daemon: Daemon) -> None:
    """A full disk under a redirected status is said in one line."""
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "lbproxy", "--control", daemon.control, "status"],
            stdout=full, stderr=subprocess.PIPE, text=True, timeout=30 * FACTOR,
        )  # fmt: skip
    assert (done.returncode, only_line(done.stderr)) == (1, "lbproxy: No space left on device")


def test_asking_loads_nothing_of_the_daemon(daemon: Daemon) -> None:
    """What makes a start slow is not imported by a command that only asks."""
    code = (
        "import sys; from lbproxy.cli import main; main(['--control', sys.argv[1], 'status']);"
        "print(sys.modules.keys() & {'asyncio', 'uvloop', 'yaml', 'prometheus_client', 'watchfiles', 'h11'})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, daemon.control], capture_output=True, text=True, timeout=30 * FACTOR
    )
    assert done.stdout.splitlines()[-1] == "set()"
