"""What a start and a rest cost, without a clock: what is imported before the port listens, and the memory."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.request
from pathlib import Path

import yaml

from tests.support.daemon import Daemon, one_proxy
from tests.support.ports import free_port, listening
from tests.support.wait import FACTOR, until

WHOLE = {"health": {"type": "https"}}
"""Of a proxy, what the README's configuration has."""
NEEDED = """uvloop, ssl, yaml, array, bisect, dataclasses, fcntl, hashlib, importlib.util, itertools, json, mmap,
    random, resource, socket, stat, struct, termios, zlib"""
"""What lbproxy imports itself before its ports listen; whatever these import in turn is theirs."""
LATER = {
    *("arguments", "change", "look", "whereabouts", "check", "demo"),
    *("sources.found", "sources.kept", "sources.kubernetes", "sources.dns", "sources.files"),
    *("checks.checker", "checks.probe", "process.supervisor", "process.worker", "proxy.proxy_protocol"),
    *(
        f"status.{name}"
        for name in ("admin", "commands", "http", "metrics", "page", "pages", "render", "shapes", "text")
    ),
}
"""What is wanted by nobody before the ports listen."""
_AT_BIND = """
import json, os, sys
def hook(event, arguments):
    if event == "socket.bind" and arguments[1][1:2] == (int(sys.argv[1]),):
        print(json.dumps(sorted(sys.modules)), flush=True)
        os._exit(0)
sys.addaudithook(hook)
from lbproxy.cli import main
main(["run", "-c", sys.argv[2], "--control", sys.argv[2] + ".sock"])
"""
_MIB = 1024


def modules(code: str, *arguments: str) -> set[str]:
    """Return the names that `code` prints."""
    command = [sys.executable, "-P", "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30 * FACTOR, check=True)
    return set(json.loads(done.stdout))


def test_no_more_is_imported_before_the_port_listens_than_that_takes(tmp_path: Path) -> None:
    """Each module is a part of every restart's pause."""
    config = one_proxy(["127.0.0.1:1"], **WHOLE) | {"admin": {"listen": f"127.0.0.1:{free_port()}"}}
    file = tmp_path / "lbproxy.yaml"
    file.write_text(yaml.safe_dump(config))
    port = config["proxies"]["p"]["listen"][0].rpartition(":")[2]
    found = modules(_AT_BIND, port, str(file))
    ours = {name.removeprefix("lbproxy.") for name in found if name.startswith("lbproxy.")}
    assert ours & LATER == set()
    needed = modules(f"import json, sys, {NEEDED.replace(chr(10), '')}; print(json.dumps(sorted(sys.modules)))")
    assert {name for name in found - needed if not name.startswith(("lbproxy", "__mypyc", "_"))} == set()


def anonymous(pid: int | str) -> int:
    """Return the memory, in KiB, that a process has by itself alone: what it maps of files is shared, or may go."""
    found = re.search(r"^Anonymous: +(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    assert found
    return int(found[1])


def test_checks_admin_and_watch_take_little_beside_the_interpreter() -> None:
    """Python with uvloop and ssl has 10 MiB; the rest is lbproxy's, and a library's once /metrics is asked for."""
    code = "import uvloop, ssl; input(open('/proc/self/smaps_rollup').read())"
    bare = subprocess.run([sys.executable, "-P", "-c", code], input="\n", capture_output=True, text=True, check=True)
    alone = int(re.findall(r"Anonymous: +(\d+) kB", bare.stdout)[0])
    admin = free_port()
    config = one_proxy(["127.0.0.1:1"] * 1, **WHOLE) | {"admin": {"listen": f"127.0.0.1:{admin}"}, "watch": True}
    with Daemon(config) as daemon:
        until(lambda: admin in listening(daemon.pid))
        assert anonymous(daemon.pid) - alone <= 9 * _MIB
        with urllib.request.urlopen(f"http://127.0.0.1:{admin}/metrics", timeout=30 * FACTOR) as page:
            page.read()
        assert anonymous(daemon.pid) - alone <= 13 * _MIB
