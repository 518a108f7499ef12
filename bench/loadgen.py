"""The load: builds load.c, starts the servers behind the proxies, runs clients against an address."""

from __future__ import annotations

import ctypes
import json
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
OUT = HERE / "out"
LOAD = OUT / "load"
SERVERS = 3
"""As many as a control plane usually has."""

NGINX_MODULES = Path("/usr/lib/nginx/modules")
_TLS = """\
error_log stderr error; pid nginx.pid; worker_processes 1;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 1000000000;
  client_body_temp_path t1; proxy_temp_path t2; fastcgi_temp_path t3; uwsgi_temp_path t4; scgi_temp_path t5;
  ssl_certificate cert.pem; ssl_certificate_key key.pem;
  server {{ {listen} location / {{ return 200 "{body}"; }} }}
}}
"""


class LoadError(Exception):
    """A client or server of the bench did not do its part; the text says which and why."""


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG: a killed bench leaves nothing running


@contextmanager
def child(argv: Sequence[str | Path], directory: Path, **more: Any) -> Iterator[subprocess.Popen[str]]:
    """Run `argv` in `directory` while the block lasts; its stderr goes to the file `stderr` there."""
    with (directory / "stderr").open("a") as errors:
        process = subprocess.Popen(argv, cwd=directory, stderr=errors, text=True, preexec_fn=_die_with_parent, **more)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
        process.wait()


def build() -> None:
    """Compile load.c when it is newer than its program. Raises LoadError with what gcc said."""
    source = HERE / "load.c"
    if LOAD.exists() and LOAD.stat().st_mtime > source.stat().st_mtime:
        return
    OUT.mkdir(exist_ok=True)
    gcc = subprocess.run(
        ["gcc", "-O2", "-Wall", "-Wextra", "-pthread", "-o", LOAD, source], capture_output=True, text=True
    )
    if gcc.returncode:
        raise LoadError(f"gcc cannot build {source.name}:\n{gcc.stderr}")


def free_port() -> int:
    """Return a loopback port that nobody listens on, below the kernel's usual range of source ports."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


def wait_for(port: int, process: subprocess.Popen[str], directory: Path, seconds: float = 10) -> None:
    """Wait until `port` accepts. Raises LoadError with the end of the process's stderr."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    tail = (directory / "stderr").read_text()[-2000:]
    raise LoadError(f"{Path(str(process.args[0])).name} does not answer on port {port}:\n{tail}")  # type: ignore[index]


@dataclass(frozen=True, slots=True)
class Servers:
    """The ports of what is behind the proxies: `plain` does as load.c says, `tls` is nginx with HTTP/2."""

    plain: tuple[int, ...]
    tls: tuple[int, ...]


@contextmanager
def servers(tls: bool = False) -> Iterator[Servers]:
    """Run the servers while the block lasts."""
    ports = Servers(*(tuple(free_port() for _ in range(SERVERS)) for _ in range(2)))
    with tempfile.TemporaryDirectory(prefix="lbproxy-bench-") as name:
        directory = Path(name)
        with child([LOAD, "serve", *map(str, ports.plain)], directory) as plain:
            wait_for(ports.plain[-1], plain, directory)
            if not tls:
                yield ports
                return
            subprocess.run(
                ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                 "-keyout", "key.pem", "-out", "cert.pem", "-days", "2", "-subj", "/CN=127.0.0.1"],
                cwd=directory, check=True, capture_output=True,
            )  # fmt: skip
            listen = " ".join(f"listen 127.0.0.1:{port} ssl http2;" for port in ports.tls)
            (directory / "nginx.conf").write_text(_TLS.format(listen=listen, body="x" * 1024))
            nginx = ["nginx", "-p", name, "-c", "nginx.conf", "-e", "stderr", "-g", "daemon off;"]
            with child(nginx, directory) as secure:
                wait_for(ports.tls[-1], secure, directory)
                yield ports


def command(workload: Sequence[str], ports: Sequence[int]) -> list[str]:
    """Return the command line of a client: `workload` is load.c's word for it and its options."""
    return [str(LOAD), *workload, *(f"127.0.0.1:{port}" for port in ports)]


def run(workload: Sequence[str], ports: Sequence[int], timeout: float = 60) -> dict[str, Any]:
    """Run a client to its end and return its report. Raises LoadError."""
    try:
        done = subprocess.run(command(workload, ports), capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired as error:
        raise LoadError(f"{' '.join(workload)}: no end after {timeout:g} s") from error
    if done.returncode:
        raise LoadError(f"{' '.join(workload)}: {done.stderr.strip() or done.returncode}")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def h2load(port: int, seconds: float) -> dict[str, Any]:
    """Ask over HTTP/2 and TLS on 8 connections with 4 streams each; the report has load.c's keys."""
    if not shutil.which("h2load"):
        raise LoadError("h2load is not installed")
    with tempfile.TemporaryDirectory(prefix="lbproxy-bench-") as name:
        log = Path(name) / "requests"
        argv = ["h2load", "-c8", "-m4", "-t1", f"-D{seconds * 1000:.0f}ms", "--warm-up-time=200ms", f"--log-file={log}"]
        done = subprocess.run([*argv, f"https://127.0.0.1:{port}/"], capture_output=True, text=True, timeout=60)
        times = sorted(int(line.split()[2]) for line in log.read_text().splitlines()) if log.exists() else []
    finished = re.search(r"finished in ([\d.]+)(m?s), ([\d.]+) req/s", done.stdout)
    counts = re.search(r"(\d+) failed, (\d+) errored, (\d+) timeout", done.stdout)
    if not finished or not counts or not times:
        raise LoadError(f"h2load: {(done.stderr or done.stdout).strip()[-500:]}")
    rate = float(finished[3])
    seconds_in_all = float(finished[1]) / (1000 if finished[2] == "ms" else 1)  # with the warm-up, as CPU is measured
    parts = {"p50_us": 0.5, "p99_us": 0.99, "p999_us": 0.999}
    return {
        "units": round(rate * seconds_in_all),
        "bytes": 0,
        "per_second": rate,
        "errors": sum(int(n) for n in counts.groups()),
        **{name: float(times[int(len(times) * part)]) for name, part in parts.items()},
    }
