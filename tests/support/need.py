"""What a test needs of the machine: missing, it is skipped here and fails in CI."""

from __future__ import annotations

import functools
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

PACKAGES = {
    "chromium": "chromium",
    "curl": "curl",
    "etcd": "etcd-server",
    "etcdctl": "etcd-client",
    "fish": "fish",
    "gcc": "gcc",
    "haproxy": "haproxy",
    "ip": "iproute2",
    "man": "man-db",
    "mount": "mount",
    "nft": "nftables",
    "nginx": "nginx",
    "nginx-stream": "libnginx-mod-stream",
    "nsenter": "util-linux",
    "openssl": "openssl",
    "promtool": "prometheus",
    "prlimit": "util-linux",
    "python3-apt": "python3-apt",
    "python3-dnf": "python3-dnf",
    "setpriv": "util-linux",
    "rpm": "rpm",
    "strace": "strace",
    "systemd-analyze": "systemd",
    "unshare": "util-linux",
    "zsh": "zsh",
}
"""The Debian package that brings each program (.ci/packages lists them all); nginx-stream is nginx' stream module."""

STREAM_MODULE = Path("/usr/lib/nginx/modules/ngx_stream_module.so")
_FILES = {
    "nginx-stream": STREAM_MODULE,
    "python3-apt": Path("/usr/lib/python3/dist-packages/apt"),
    "python3-dnf": Path("/usr/lib/python3/dist-packages/dnf"),
}
"""What is no program."""
ANSIBLE = Path(sys.prefix, "ansible/bin")
"""Where `make test` installs Ansible, apart from what lbproxy itself needs."""
MKDOCS = Path(sys.prefix, "docs/bin")
"""And mkdocs, likewise."""
BOX = Path(__file__).with_name("box.sh")

missing: set[str] = set()
"""Packages that would have run a skipped test; conftest prints them at the end."""


def need(*things: str) -> None:
    """Skip the running test, or fail it in CI, unless every one of `things` is there: keys of PACKAGES or of RIGHTS."""
    lacking = []
    for thing in things:
        if thing in RIGHTS:
            may, reason = RIGHTS[thing]
            if not may():
                lacking.append(reason)
        elif not (_FILES[thing].exists() if thing in _FILES else find(thing)):
            missing.add(PACKAGES[thing])
            lacking.append(f"{thing} is not installed (Debian package {PACKAGES[thing]})")
    if lacking and os.environ.get("CI") == "true":
        pytest.fail(f"CI must have everything: {'; '.join(lacking)}")
    if lacking:
        pytest.skip("; ".join(lacking))


def find(program: str) -> str | None:
    """Return the path of `program`, in /usr/sbin too, where a user's PATH does not look."""
    return shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


def _works(*command: str | Path) -> Callable[[], bool]:
    """Return what tells whether `command` exits with 0; it is run once."""

    @functools.cache
    def works() -> bool:
        return bool(find(str(command[0]))) and subprocess.run(command, capture_output=True).returncode == 0

    return works


@functools.cache
def _has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


@functools.cache
def _has_name() -> bool:
    try:
        return bool(socket.gethostbyname(socket.gethostname()))
    except OSError:
        return False


@functools.cache
def _has_terminals() -> bool:
    try:
        ours, theirs = os.openpty()
    except OSError:
        return False
    os.close(ours)
    os.close(theirs)
    return True


RIGHTS: dict[str, tuple[Callable[[], bool], str]] = {
    "ansible": ((ANSIBLE / "ansible-playbook").exists, "Ansible is not installed (make .venv/ansible/.installed)"),
    "box": (_works("bash", BOX, "can"), "a systemd of one's own needs root, overlayfs and cgroup2"),
    "hostname": (_has_name, "this machine's own name does not resolve"),
    "ipv6": (_has_ipv6, "there is no IPv6 on the loopback interface"),
    "mkdocs": ((MKDOCS / "mkdocs").exists, "mkdocs is not installed (make .venv/docs/.installed)"),
    "mounts": (_works("unshare", "--mount", "mount", "--bind", "/", "/"), "mounts need root (CAP_SYS_ADMIN)"),
    "netns": (_works("unshare", "--net", "true"), "network namespaces need root (CAP_SYS_ADMIN)"),
    "pty": (_has_terminals, "there are no pseudo terminals (/dev/ptmx)"),
}
"""What else a test may need: whether it is there, and what to say if it is not."""
