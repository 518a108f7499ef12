"""The commands of the documents, typed on a node: a systemd of its own, three masters at the addresses that are named.

What cannot be typed there is in ELSEWHERE, with the reason: it and what follows it in its block is held against the
parser, playbooks and units alone (tests/unit/test_documents.py).
"""

from __future__ import annotations

import asyncio
import re
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.certs import Certs
from tests.support.documents import PAGES, ROOT, Block, blocks, name
from tests.support.kubespray import nginx
from tests.support.need import MKDOCS, need
from tests.support.netns import Namespace
from tests.support.node import Node
from tests.support.packages import Packages
from tests.support.servers import Server
from tests.support.wait import FACTOR

MASTERS = {"cp1": "10.4.6.11", "cp2": "10.4.6.12", "cp3": "10.4.6.13"}
PORT = 6443
NEWER = "0.1.1"
CHECKOUT = "/srv/checkout"

BEFOREHAND = ("make deb", "make rpm")
"""What has been done by `make packages`."""
ELSEWHERE = {
    "make": "builds or tests for minutes: CI calls the targets",
    ".ci/": "is CI",
    "python3 -m venv": "takes a package index: the bundle is installed likewise, in test_package.py",
    "/opt/lbproxy/bin/pip": "likewise",
    "python ": "is the bench, which takes minutes and the machine for itself",
    "sudo python ": "likewise",
    "bench/out/load": "likewise",
    "perf": "likewise",
    "dnf": "needs an EL: test_package.py installs the .rpm by rpm, test_ansible.py by the role",
    "ansible-playbook": "is what test_ansible.py runs, with an inventory",
    "kubectl": "needs a cluster",
    "kubeadm": "needs a master",
}
"""How a line begins that is not typed, and why."""
BEFORE = {
    "systemctl start lbproxy                             #": "/usr/lib/lbproxy/switch back",
    "mv /etc/kubernetes/manifests.lbproxy/": "/usr/lib/lbproxy/switch to-lbproxy",
    "apt-get install --allow-downgrades": f"cp /srv/packages/*.deb dist && rm dist/*{NEWER}*",
}
"""How a line begins before which a reader has gone another way than the lines above it, and how he goes back."""
BROKEN = """\
proxies:
  kube-apiserver:
    listen: 127.0.0.1:6443
    servers:
      - 10.4.6.11:6443
      - address: 10.4.6.12:6443
        weight: x
"""

pytestmark = pytest.mark.timeout(240)


class Master(Server):
    """Says over TLS that it is ready, to whatever is asked."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer until the client has enough."""
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            await writer.drain()


class Reader:
    """Types the blocks of one page on `node`, one after the other."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.servers: list[Any] = [f"{host}:{PORT}" for host in MASTERS.values()]
        self.admin = False

    def configure(self) -> None:
        """Write the file as the page has it by now."""
        proxy = {"listen": ["127.0.0.1:6443"], "servers": self.servers, "health": {"type": "https"}}
        admin = {"admin": {"listen": "127.0.0.1:8081"}} if self.admin else {}
        self.node.configure({**admin, "proxies": {"kube-apiserver": proxy}})

    def read(self, block: Block) -> None:
        """Do what it says."""
        if block.language == "yaml" and set(yaml.safe_load(block.text)) == {"admin"}:
            self.admin = True
            self.configure()
        for line in typed(block):
            for begin, way in BEFORE.items():
                if line.startswith(begin):
                    self.type(way)
            said = self.type(line, fails=block.language == "console")
            if block.language == "console":
                assert f"$ {line}\n{said}" == block.text
            if "# then " in line:
                self.configure()

    def type(self, line: str, fails: bool = False) -> str:
        """Run a command line, and see whether it `fails`."""
        done = self.node.run("sh", "-c", f"cd {CHECKOUT} && {line}", check=False)
        said = done.stdout + done.stderr
        assert (done.returncode != 0) is fails, f"{line}: {done.returncode}\n{said}\n{self.node.log()}"
        return said


def typed(block: Block) -> Iterator[str]:
    """Yield the lines of a block that can be typed on a node, up to one that cannot."""
    for line in block.commands:
        if line.startswith(BEFOREHAND):
            continue
        if line.startswith(tuple(ELSEWHERE)):
            return
        yield line


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Packages:
    """Make the packages."""
    return Packages(tmp_path_factory.mktemp("packages"))


@pytest.fixture
def node(packages: Packages, certs: Certs) -> Iterator[Node]:
    """Boot a node with the documents' addresses and ports, which it shares with nobody."""
    need("netns", "ip", "box", "curl", "python3-apt")
    with ExitStack() as stack:
        network = Namespace()
        stack.callback(network.close)
        for host in MASTERS.values():
            network.ip("address", "add", f"{host}/32", "dev", "lo")
            stack.enter_context(Master(host, PORT, network, certs.server_context()))
        stack.enter_context(network.inside())
        packages.pack("deb", NEWER)
        packages.pack("deb")
        box = Node(packages, list(MASTERS.values()), PORT)
        box.port, box.health = PORT, 8081
        stack.enter_context(box)
        box.write("/etc/apt/apt.conf.d/90yes", 'APT::Get::Assume-Yes "true";\n')
        box.run("mkdir", "-p", f"{CHECKOUT}/dist")
        box.write(f"{CHECKOUT}/broken.yaml", BROKEN)
        yield box


def there(node: Node, packages: Packages) -> Reader:
    """Have lbproxy installed and running, with the newer package at hand."""
    node.run("sh", "-c", f"cp /srv/packages/lbproxy_*{NEWER}*.deb {CHECKOUT}/dist")
    reader = Reader(node)
    reader.admin = True
    reader.servers = [{"name": each, "address": f"{host}:{PORT}"} for each, host in MASTERS.items()]
    reader.configure()
    node.dpkg("-i", packages.pack("deb"))
    node.run("lbproxy", "status", "--wait", "30s")
    return reader


def absent(node: Node, packages: Packages) -> Reader:
    """Have nothing but the package at hand."""
    node.run("sh", "-c", f"cp {packages.pack('deb')} {CHECKOUT}/dist")
    return Reader(node)


def beside(node: Node, packages: Packages) -> Reader:
    """Have nginx-proxy, and lbproxy installed."""
    node.kubelet()
    node.write("/etc/nginx/nginx.conf", nginx([f"{host}:{PORT}" for host in MASTERS.values()]))
    node.run("mkdir", "-p", "/etc/lbproxy")
    node.dpkg("-i", packages.pack("deb"))
    return Reader(node)


STATES = {"README.md": absent, "docs/install.md": absent, "docs/replace-nginx-proxy.md": beside}
"""How the node is when the page begins, where lbproxy is not there already."""


@pytest.mark.parametrize(
    "page", [page for page in PAGES if any(list(typed(block)) for block in blocks(page))], ids=name
)
def test_what_a_page_says_can_be_done(page: Path, node: Node, packages: Packages) -> None:
    """From its first line to its last, letter by letter."""
    reader = STATES.get(name(page), there)(node, packages)
    for block in blocks(page):
        reader.read(block)


def test_what_is_not_typed_has_a_reason_that_is_still_one() -> None:
    """The list is as long as it must be."""
    lines = [line for page in PAGES for block in blocks(page) for line in block.commands]
    idle = [begin for begin in (*ELSEWHERE, *BEFORE, *BEFOREHAND) if not any(line.startswith(begin) for line in lines)]
    assert not idle


def test_the_site_is_built_without_a_warning_and_needs_nothing_from_the_network(tmp_path: Path) -> None:
    """Dead links and anchors are warnings; a font or a script from elsewhere would say who reads the runbook."""
    need("mkdocs")
    command = (MKDOCS / "mkdocs", "build", "--strict", "--site-dir", tmp_path)  # --quiet would hide them from --strict
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60 * FACTOR,
                          env={"PATH": "/usr/bin:/bin", "NO_MKDOCS_2_WARNING": "1"})  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stderr
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) > 15
    for page in pages:
        loaded = re.findall(r"<(?:script|link|img|iframe)\b[^>]*?(?:src|href)=\"?([^\" >]+)", page.read_text())
        assert not [each for each in loaded if "//" in each], page.name
    for style in tmp_path.rglob("*.css"):
        assert not re.search(r"url\(\"?(https?:)?//", style.read_text()), style.name
