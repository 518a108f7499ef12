"""What lbproxy promises, measured: `python -m bench.promises [--only NAME ...] [--gigabytes N]`.

One line for each promise: what was measured, what was wanted, and whether that is met; exit status 1 if one is not.
Needed: nginx with its stream module, etcd, nftables, and root for network namespaces.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support import certs as certificates
from tests.support.certs import Certs
from tests.support.clients import Tally, connect, flood, get, greeting, receive_line
from tests.support.daemon import Daemon, one_proxy
from tests.support.etcd import Etcd, Watch, etcdctl
from tests.support.netns import MASTERS, Topology
from tests.support.nginx import NginxProxy, NginxServer
from tests.support.ports import free_port
from tests.support.servers import BLOCK, Echo, pattern
from tests.support.streams import Streams
from tests.support.wait import until

PACE = 100.0
"""New connections a second."""
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Shown:
    """A line of the result; `met` is None for what is shown for comparison only."""

    what: str
    figures: str
    wanted: str = ""
    met: bool | None = None


@dataclass(frozen=True, slots=True)
class Means:
    """What a measurement may need."""

    certs: Certs
    gigabytes: float


def _first_byte(what: str, tally: Tally, limit: float) -> Shown:
    p99 = tally.quantile(0.99)
    figures = (
        f"{len(tally.errors)} errors of {len(tally.errors) + len(tally.seconds)}, first byte p50 "
        f"{tally.quantile(0.5) * 1e3:.1f} ms, p99 {p99 * 1e3:.1f} ms, max {tally.seconds[-1] * 1e3:.1f} ms"
    )
    return Shown(what, figures, f"0 errors, p99 < {limit * 1e3:.0f} ms", not tally.errors and p99 < limit)


def _preferred(tally: Tally) -> str:
    """Return the server that most connections go to: without it there is most to see."""
    return tally.answers.most_common(1)[0][0]


def stopped(means: Means) -> Iterator[Shown]:
    """Make 1,000 new TLS connections with one of three nginx servers stopped, and with its packets dropped."""
    tls = means.certs.client_context()
    with ExitStack() as stack:
        servers = [stack.enter_context(NginxServer(name, means.certs)) for name in ("n1", "n2", "n3")]
        daemon = stack.enter_context(Daemon(one_proxy(servers)))
        first = _preferred(flood(daemon.port, 50, per_second=PACE, tls=tls, send=get()))
        next(server for server in servers if server.name == first).stop()
        tally = flood(daemon.port, 1000, per_second=PACE, tls=tls, send=get())
        yield _first_byte("one of three nginx stopped, 1,000 TLS connections", tally, 0.050)
    with Topology() as net, ExitStack() as stack:
        servers = [stack.enter_context(NginxServer(m, means.certs, MASTERS[m], ns=net.masters[m])) for m in MASTERS]
        daemon = stack.enter_context(Daemon(one_proxy(servers), ns=net.node))
        net.kill(_preferred(flood(daemon.port, 50, per_second=PACE, tls=tls, send=get(), ns=net.node)), "nft")
        tally = flood(daemon.port, 1000, per_second=PACE, tls=tls, send=get(), ns=net.node)
        yield _first_byte("packets to one of three nginx dropped, 1,000 TLS connections", tally, 0.350)


def _reloads(what: str, port: int, reload: Callable[[bool], None], wanted: bool) -> Shown:
    """Reload 20 times, a second apart; the streams go on for longer than nginx' worker_shutdown_timeout of 10 s."""
    with Streams(port, 50) as streams, ThreadPoolExecutor(1) as pool:
        traffic = pool.submit(flood, port, int(PACE * 33), per_second=PACE)
        for n in range(20):
            reload(n % 2 == 1)
            time.sleep(1)
        tally = traffic.result()
        broken = streams.finish()
    figures = (
        f"{len(broken)} of 50 streams broken ({streams.bytes / 1e6:.0f} MB hashed), "
        f"{len(tally.errors)} of {len(tally.errors) + len(tally.seconds)} connects failed"
    )
    return Shown(what, figures, "0 and 0" if wanted else "", not broken and not tally.errors if wanted else None)


def reloads(_means: Means) -> Iterator[Shown]:
    """Take the third server out and put it in again under 50 hashed streams and 100 connects a second."""
    with ExitStack() as stack:
        echoes = [stack.enter_context(Echo(name)) for name in ("one", "two", "three")]
        addresses = [echo.address for echo in echoes]
        whole: dict[str, Any] = {**one_proxy(echoes), "watch": False}
        p = whole["proxies"]["p"]
        with Daemon(whole) as daemon:

            def by_command(third: bool) -> None:
                daemon.rewrite({**whole, "proxies": {"p": {**p, "servers": addresses[: 3 if third else 2]}}})
                done = daemon.cli("reload")
                assert done.returncode == 0, done.stderr

            yield _reloads("20 times `lbproxy reload`", daemon.port, by_command, wanted=True)
        with NginxProxy(addresses) as nginx:

            def by_signal(third: bool) -> None:
                nginx.servers = addresses[: 3 if third else 2]
                nginx.reload()

            yield _reloads("20 times `nginx -s reload`, for comparison", nginx.port, by_signal, wanted=False)


async def _arrive(port: int, stop: threading.Event) -> tuple[int, list[str]]:
    """Ask etcd for its version over new connections at PACE until `stop`; return how many, and what failed."""
    errors: list[str] = []
    count = 0

    async def one() -> None:
        try:
            async with asyncio.timeout(10):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(b"GET /version HTTP/1.1\r\nHost: etcd\r\nConnection: close\r\n\r\n")
                answer = await reader.read()
                writer.close()
            if not answer.startswith(b"HTTP/1.1 200"):
                errors.append(repr(answer[:40]))
        except OSError as error:
            errors.append(repr(error))

    async with asyncio.TaskGroup() as tasks:
        while not stop.is_set():
            tasks.create_task(one())
            count += 1
            await asyncio.sleep(1 / PACE)
    return count, errors


def etcd(_means: Means) -> Iterator[Shown]:
    """Reload 50 times in a row, another member going in and out, beside `etcdctl watch` and 100 connects a second."""
    with Etcd() as cluster, ThreadPoolExecutor(1) as pool:
        whole: dict[str, Any] = {**one_proxy(cluster.members), "watch": False}
        p = whole["proxies"]["p"]
        with Daemon(whole) as daemon, Watch(address := f"127.0.0.1:{daemon.port}", "key") as watch:
            until(lambda: etcdctl(address, "put", "key", "first") and watch.saw("first"), "the watch has begun")
            until(lambda: len(daemon.conns()) == 1)
            (conn,) = daemon.conns()
            other = next(m.address for m in cluster.members if m.address != conn["server"])
            less = {**whole, "proxies": {"p": {**p, "servers": [s for s in p["servers"] if s != other]}}}
            stop = threading.Event()
            traffic = pool.submit(lambda: asyncio.run(_arrive(daemon.port, stop)))
            seen = 0
            for n in range(50):
                daemon.reload(whole if n % 2 else less)
                etcdctl(address, "put", "key", f"value {n}")
                seen += watch.saw(f"value {n}") or bool(until(lambda n=n: watch.saw(f"value {n}")))
            stop.set()
            count, errors = traffic.result()
            same = conn["client"] in {each["client"] for each in daemon.conns()}
            figures = (
                f"the watch {'is on its connection' if same else 'was cut'} and saw {seen} of 50 values, "
                f"{len(errors)} of {count} connects failed"
            )
            met = same and seen == 50 and not errors
            yield Shown("etcdctl watch through 50 reloads", figures, "not cut, 50, 0", met)


def descriptors(_means: Means) -> Iterator[Shown]:
    """Bring 200 clients to a proxy that may have 64 descriptors open, and see what it takes and when it is over."""
    with Echo("one") as echo, Daemon(one_proxy([echo]), nofile=64) as daemon:
        clients = [connect(daemon.port) for _ in range(200)]
        until(lambda: daemon.call("status"))
        time.sleep(1)
        before, began, served = daemon.cpu_seconds(), time.monotonic(), len(daemon.conns())
        time.sleep(10)
        share = (daemon.cpu_seconds() - before) / (time.monotonic() - began)
        for client in clients:
            client.close()
        began = time.monotonic()
        name = greeting(daemon.port)
        again = time.monotonic() - began
        figures = f"{served} at a time, {share:.1%} of a core while full, serves again after {again * 1e3:.0f} ms"
        met = share < 0.2 and again < 2 and name == "one"
        yield Shown("64 descriptors, 200 clients", figures, "< 20 %, < 2 s", met)


def admin(_means: Means) -> Iterator[Shown]:
    """Start with somebody else on the admin port."""
    with Echo("one") as echo, socket.create_server(("127.0.0.1", 0)) as taken:
        listen = "{}:{}".format(*taken.getsockname())
        with Daemon({**one_proxy([echo]), "admin": {"listen": listen}}) as daemon:
            tally = flood(daemon.port, 100)
            warned = next(line for line in daemon.log.splitlines() if "WARNING" in line)
        figures = f"{sum(tally.answers.values())} of 100 connections served; {warned.partition('WARNING')[2].strip()}"
        yield Shown("somebody else on the admin port", figures, "100", not tally.errors)


def _blocks(total: int) -> Iterator[memoryview]:
    """Return the stream of `pattern` up to `total` bytes, in large pieces of one buffer."""
    buffer = bytearray(pattern(0, 64 * BLOCK))
    view = memoryview(buffer)
    for offset in range(0, total, len(buffer)):
        for n in range(64):
            struct.pack_into("!Q", buffer, n * BLOCK, offset // BLOCK + n)
        yield view[: min(len(buffer), total - offset)]


def _send(sock: socket.socket, total: int, digests: dict[str, str], key: str) -> None:
    digest = hashlib.sha256()
    for piece in _blocks(total):
        digest.update(piece)
        sock.sendall(piece)
    sock.shutdown(socket.SHUT_WR)
    digests[key] = digest.hexdigest()


def _receive(sock: socket.socket, digests: dict[str, str], key: str) -> None:
    digest, size, buffer = hashlib.sha256(), 0, bytearray(4 * MIB)
    view = memoryview(buffer)
    while got := sock.recv_into(buffer):
        digest.update(view[:got])
        size += got
    digests[key] = f"{digest.hexdigest()} {size}"


def _both_ways(sock: socket.socket, total: int) -> dict[str, str]:
    """Send `total` bytes and receive what comes, at once; return the digest of each."""
    digests: dict[str, str] = {}
    sock.settimeout(None)
    threads = [
        threading.Thread(target=_send, args=(sock, total, digests, "sent")),
        threading.Thread(target=_receive, args=(sock, digests, "got")),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return digests


def serve_bulk(port: int, total: int) -> None:
    """Be the server of one such transfer, in a process of its own; prints the digests."""
    with socket.create_server(("127.0.0.1", port)) as listener:
        sock, _ = listener.accept()
        with sock:
            digests = _both_ways(sock, total)
    print(digests["sent"], digests["got"])


@contextmanager
def _highest(daemon: Daemon) -> Iterator[list[int]]:
    """Look at the daemon's resident size every 50 ms; the list's one element is the highest."""
    highest, stop = [daemon.rss()], threading.Event()

    def look() -> None:
        while not stop.wait(0.05):
            highest[0] = max(highest[0], daemon.rss())

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield highest
    finally:
        stop.set()
        thread.join()


def bulk(means: Means) -> Iterator[Shown]:
    """Send 10 GB each way at once over one connection."""
    total, port = int(means.gigabytes * 1e9), free_port()
    server = subprocess.Popen(
        [sys.executable, "-c", f"from bench.promises import serve_bulk; serve_bulk({port}, {total})"],
        stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1])  # fmt: skip
    with server, Echo("one") as echo, Daemon(one_proxy([echo])) as daemon:
        with connect(daemon.port) as client:
            receive_line(client)  # what is loaded with the first connection does not count
        config = one_proxy([f"127.0.0.1:{port}"], daemon.config["proxies"]["p"]["listen"][0])
        daemon.reload(config)
        until(lambda: not daemon.conns())
        before, cpu, began = daemon.rss(), daemon.cpu_seconds(), time.monotonic()
        with _highest(daemon) as highest, connect(daemon.port) as client:
            digests = _both_ways(client, total)
        seconds, cpu, after = time.monotonic() - began, daemon.cpu_seconds() - cpu, daemon.rss()
        assert server.stdout
        sent, got, size = server.stdout.read().split()
    equal = digests["got"] == f"{sent} {total}" and (got, size) == (digests["sent"], str(total))
    figures = (
        f"SHA-256 {'equal' if equal else 'DIFFERENT'}, {seconds:.0f} s, {cpu:.1f} CPU s, resident "
        f"{before / MIB:.1f} MiB before, {highest[0] / MIB:.1f} at most, {after / MIB:.1f} after"
    )
    yield Shown(f"{means.gigabytes:g} GB each way at once", figures, "equal, < 5 MB more",
                equal and highest[0] - before < 5_000_000)  # fmt: skip


PARTS: dict[str, Callable[[Means], Iterator[Shown]]] = {
    "stopped": stopped, "reloads": reloads, "etcd": etcd, "descriptors": descriptors, "admin": admin, "bulk": bulk,
}  # fmt: skip


def main() -> int:
    """Show what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m bench.promises", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="NAME", help=", ".join(PARTS))
    parser.add_argument("--gigabytes", type=float, default=10, metavar="N", help="each way in `bulk` (default 10)")
    args = parser.parse_args()
    missed = 0
    with tempfile.TemporaryDirectory(prefix="lbproxy-must-show-") as made:
        means = Means(certificates.make(Path(made)), args.gigabytes)
        for name in args.only:
            for shown in PARTS[name](means):
                verdict = {True: "met", False: "MISSED", None: "-"}[shown.met]
                wanted = f" [wanted {shown.wanted}]" if shown.wanted else ""
                print(f"{verdict:<7}{shown.what}: {shown.figures}{wanted}", flush=True)
                missed += shown.met is False
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
