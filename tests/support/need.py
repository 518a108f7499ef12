"""What a test needs of the machine: missing, it is skipped here and fails in CI."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import NoReturn

import pytest

PACKAGES = {
    "curl": "curl",
    "etcd": "etcd-server",
    "etcdctl": "etcd-client",
    "haproxy": "haproxy",
    "ip": "iproute2",
    "nft": "nftables",
    "nginx": "nginx",
    "nginx-stream": "libnginx-mod-stream",
    "prlimit": "util-linux",
    "systemd-analyze": "systemd",
}
"""The Debian package that brings each program (.ci/packages lists them all)."""

STREAM_MODULE = Path("/usr/lib/nginx/modules/ngx_stream_module.so")

missing: set[str] = set()
"""Packages that would have run a skipped test; conftest prints them at the end."""


def need(*programs: str) -> None:
    """Skip the running test, or fail it in CI, unless every one of `programs` is there.

    Beside names of programs: `netns` (may make network namespaces) and `nginx-stream` (nginx' stream module).
    """
    for name in programs:
        if name == "netns":
            if not _may_unshare():
                _lacks("network namespaces need root (CAP_SYS_ADMIN)")
        elif not (STREAM_MODULE.exists() if name == "nginx-stream" else find(name)):
            package = PACKAGES.get(name, name)
            missing.add(package)
            _lacks(f"{name} is not installed (Debian package {package})")


def find(program: str) -> str | None:
    """Return the path of `program`, in /usr/sbin too, where a user's PATH does not look."""
    return shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


def _may_unshare() -> bool:
    unshare = find("unshare")
    return unshare is not None and subprocess.run([unshare, "--net", "true"], capture_output=True).returncode == 0


def _lacks(reason: str) -> NoReturn:
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI must have everything: {reason}")
    pytest.skip(reason)
