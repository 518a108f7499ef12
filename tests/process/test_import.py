"""`lbproxy import`: what it says where, and that what comes out does as the original did."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support import kubespray
from tests.support.certs import Certs, make
from tests.support.child import Child
from tests.support.clients import Tally, connect, flood, get, receive_line
from tests.support.daemon import Daemon
from tests.support.need import STREAM_MODULE, find, need
from tests.support.nginx import NginxServer
from tests.support.ports import free_port
from tests.support.servers import Echo
from tests.support.wait import FACTOR, until

LBPROXY = f"{sys.executable} -m lbproxy"
REQUESTS = 600


def run(command: str) -> subprocess.CompletedProcess[str]:
    """Run a line of bash, in which `lbproxy` is ours."""
    script = f'set -o pipefail; lbproxy() {{ {LBPROXY} "$@"; }}; {command}'
    return subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60 * FACTOR)


@pytest.mark.parametrize("name", kubespray.RENDERERS)
def test_what_kubespray_writes_goes_through_strict_and_check(name: str, tmp_path: Path) -> None:
    """The line of a migration: nothing left out, and valid."""
    file = tmp_path / name
    file.write_text(kubespray.RENDERERS[name](kubespray.masters(3, "v4")))
    done = run(f"lbproxy import --strict {file} | lbproxy check -c /dev/stdin")
    assert (done.returncode, done.stdout, done.stderr) == (0, "/dev/stdin: ok\n", "")


def test_what_is_left_out_is_told_beside_the_text(tmp_path: Path) -> None:
    """0, and 1 with --strict; the text is the same."""
    file = tmp_path / "nginx.conf"
    file.write_text("stream {\nserver {\nlisten 6443;\nproxy_pass 10.4.6.11:6443;\nproxy_bind 10.4.6.1;\n}\n}\n")
    done, strict = (run(f"cd {tmp_path} && lbproxy import nginx.conf {words}") for words in ("", "--strict"))
    assert (done.returncode, strict.returncode) == (0, 1)
    assert done.stderr == strict.stderr == "nginx.conf:5: proxy_bind 10.4.6.1: has no counterpart\n"
    assert done.stdout == strict.stdout
    assert "- 0.0.0.0:6443  # nginx.conf:3: listen 6443\n" in done.stdout


@pytest.mark.parametrize(
    ("words", "status", "why"),
    [
        ("none.conf", 1, "none.conf: cannot be read: No such file or directory\n"),
        ("broken", 1, 'broken:2: unexpected end of file, expecting "}"\n'),
        (
            "neither",
            1,
            "neither: cannot be told whether it is nginx's or HAProxy's: say --from nginx or --from haproxy\n",
        ),
        ("neither --from haproxy", 1, "neither:1: hello: stands before the first section\n"),
        ("", 2, None),
        ("broken --from apache", 2, None),
    ],
)
def test_what_cannot_be_imported_is_refused(tmp_path: Path, words: str, status: int, why: str | None) -> None:
    """With nothing on stdout: it is sent to a file that is used."""
    (tmp_path / "broken").write_text("stream {\n server {\n")
    (tmp_path / "neither").write_text("hello\n")
    done = run(f"cd {tmp_path} && lbproxy import {words}")
    assert (done.returncode, done.stdout) == (status, "")
    assert why is None or done.stderr == why


class Original(Child):
    """nginx or HAProxy with the file that is then imported."""

    def __init__(self, name: str, text: str, ports: Sequence[int]) -> None:
        super().__init__()
        self._name, self._text = name, text
        self.ports = list(ports)
        self.stop_signal = {"nginx.conf": signal.SIGQUIT, "haproxy.cfg": signal.SIGUSR1}[name]

    def prepare(self) -> None:
        """Write the file; nginx gets places that anybody may write to."""
        file = self.dir / self._name
        if self._name == "haproxy.cfg":
            need("haproxy")
            file.write_text(self._text)
            self.command = [find("haproxy") or "haproxy", "-db", "-f", str(file)]
            return
        need("nginx", "nginx-stream")
        places = "".join(f"{each}_temp_path {self.dir}/{each};\n" for each in
                         ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))  # fmt: skip
        head = f"load_module {STREAM_MODULE};\npid {self.dir}/pid;\ndaemon off;\n"
        file.write_text(head + self._text.replace("http {", f"http {{\naccess_log off;\n{places}"))
        self.command = [find("nginx") or "nginx", "-e", "stderr", "-p", str(self.dir), "-c", str(file)]


@pytest.fixture
def certs(tmp_path: Path) -> Certs:
    """Return certificates."""
    return make(tmp_path)


Ask = Callable[[int, int], Tally]


@pytest.fixture
def greeters() -> Iterator[tuple[list[str], Ask]]:
    """Run three servers that say their name, and return how they are asked."""
    with ExitStack() as stack:
        servers = [stack.enter_context(Echo(name)) for name in ("n1", "n2", "n3")]
        yield [each.address for each in servers], lambda port, count: flood(port, count, at_once=1)


@pytest.fixture
def web(certs: Certs) -> Iterator[tuple[list[str], Ask]]:
    """Run three servers with TLS that answer HTTP, as HAProxy's checks want it, and return how they are asked."""
    need("nginx")
    context = certs.client_context()
    with ExitStack() as stack:
        servers = [stack.enter_context(NginxServer(name, certs)) for name in ("n1", "n2", "n3")]
        yield (
            [each.address for each in servers],
            lambda port, count: flood(port, count, at_once=1, tls=context, send=get()),
        )


def spreads(name: str, text: str, port: int, ask: Ask, directory: Path, count: int = REQUESTS) -> tuple[Tally, Tally]:
    """Return what became of the same requests through the original, and then through lbproxy in its place.

    One after another, since what is open at the same time, and with whom, is up to the moment.
    """
    file = directory / name
    file.write_text(text)
    with Original(name, text, [port]):
        before = ask(port, count)
    done = run(f"lbproxy import --strict {file}")
    assert (done.returncode, done.stderr) == (0, "")
    # A machine that stands still for 200 ms makes a server look slow, which is then avoided for fail_timeout.
    with Daemon(done.stdout.replace("    servers:\n", "    max_fails: 0\n    servers:\n")) as daemon:
        assert daemon.port == port
        if "health:" in done.stdout:
            until(lambda: {each["state"] for each in daemon.servers().values()} == {"up"}, "all are up")
        return before, ask(port, count)


def _alike(before: Tally, after: Tally) -> None:
    assert (before.errors, after.errors) == ([], [])
    count = before.answers.total()
    assert before.answers.keys() == after.answers.keys() == {"n1", "n2", "n3"}
    off = {name: abs(before.answers[name] - after.answers[name]) / count for name in before.answers}
    assert max(off.values()) <= 0.05, (before.answers, after.answers)


def test_connections_spread_as_they_did_with_nginx(greeters: tuple[list[str], Ask], tmp_path: Path) -> None:
    """The file is the one that kubespray writes."""
    port = free_port()
    text = kubespray.nginx(greeters[0], port=port, health=free_port())
    _alike(*spreads("nginx.conf", text, port, greeters[1], tmp_path))


def _held(port: int, count: int) -> Tally:
    """Open so many connections, none of which ends before the last has been answered."""
    tally = Tally()
    with ExitStack() as stack:
        for _ in range(count):
            tally.answers[receive_line(stack.enter_context(connect(port)))] += 1
    return tally


def test_connections_spread_by_weight_as_they_did_with_nginx(greeters: tuple[list[str], Ask], tmp_path: Path) -> None:
    """Those that stay, as a node's do; by one worker, since two of nginx's each begin anew."""
    port, (one, *others) = free_port(), greeters[0]
    text = kubespray.nginx([f"{one} weight=3", *others], port=port, health=free_port())
    before, after = spreads("nginx.conf", text.replace("processes 2", "processes 1"), port, _held, tmp_path, 300)
    _alike(before, after)
    assert after.answers == {"n1": 180, "n2": 60, "n3": 60}


def test_connections_spread_as_they_did_with_haproxy(web: tuple[list[str], Ask], tmp_path: Path) -> None:
    """With the checks, which ask over TLS."""
    port = free_port()
    text = kubespray.haproxy(web[0], port=port, health=free_port())
    _alike(*spreads("haproxy.cfg", text, port, web[1], tmp_path))
