"""What an installation without a network takes, in one archive: wheels with their hashes, units, examples."""

from __future__ import annotations

import hashlib
import shutil
import tarfile
from pathlib import Path
from typing import Final

import lock
from wheel import BUILD, pip, repair, tag, venv

_INSTALL: Final = """\
lbproxy {version} for {name} on {machine}, for machines without a network. As root:

    {python} -m venv /opt/lbproxy
    /opt/lbproxy/bin/pip install --no-index --find-links wheels --require-hashes -r requirements.txt
    ln -s /opt/lbproxy/bin/lbproxy /usr/bin/lbproxy
    install -m 644 systemd/lbproxy.service systemd/lbproxy.socket systemd/lbproxy.slice /etc/systemd/system/
    install -m 644 systemd/lbproxy.sysusers /usr/lib/sysusers.d/lbproxy.conf && systemd-sysusers
    install -m 644 systemd/lbproxy.tmpfiles /usr/lib/tmpfiles.d/lbproxy.conf && systemd-tmpfiles --create lbproxy.conf
    install -D -m 644 config/minimal.yaml /etc/lbproxy/lbproxy.yaml     # then put your masters in
    lbproxy check && systemctl daemon-reload && systemctl enable --now lbproxy

Another version: the second line again, then `lbproxy upgrade`.
"""


def make(python: Path, wheel: Path, target: Path) -> Path:
    """Make the archive of `wheel`, built for `python`, in the directory `target`; returns its path."""
    version, machine = wheel.name.split("-")[1], wheel.stem.partition("linux_")[2]
    name = f"lbproxy-{version}-{tag(python)}-{machine}"
    root = BUILD / name
    shutil.rmtree(root, ignore_errors=True)
    wheels = root / "wheels"
    repair(wheel, wheels)
    pins = BUILD / "runtime.txt"
    pins.write_text(lock.runtime())
    interpreter = venv("installer", python, "") / "python"
    options = ("--no-deps", "--only-binary", ":all:", "--require-hashes")
    pip(interpreter, "download", *options, "--dest", wheels, "-r", pins)
    (root / "requirements.txt").write_text("".join(sorted(map(_pin, wheels.iterdir()))))
    for directory in ("systemd", "config"):
        shutil.copytree(lock.ROOT / directory, root / directory)
    words = {"version": version, "name": tag(python).replace("py", "Python "), "machine": machine, "python": python}
    (root / "INSTALL").write_text(_INSTALL.format(**words))
    archive = target / f"{name}.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(root, name)
    return archive


def _pin(wheel: Path) -> str:
    name, version = wheel.name.split("-")[:2]
    return f"{name}=={version} --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n"
