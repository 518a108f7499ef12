"""A node as kubespray leaves it: nginx-proxy in a manifest, and a stand-in for the kubelet that runs it."""

from __future__ import annotations

from typing import Any, Self

from tests.support.kubespray import nginx
from tests.support.need import STREAM_MODULE, need
from tests.support.packages import Packaged, Packages
from tests.support.ports import free_port
from tests.support.wait import until

MANIFEST = "/etc/kubernetes/manifests/nginx-proxy.yml"
ASIDE = "/etc/kubernetes/manifests.lbproxy/nginx-proxy.yml"
SWITCH = "/usr/lib/lbproxy/switch"
LAST = "/run/last"
"""What the kubelet runs, if it is there, before it ends nginx-proxy."""

_KUBELET = f"""#!/bin/sh
while :; do
    if [ -e {MANIFEST} ]; then
        nginx -e stderr -p /run/nginx-proxy -c /etc/nginx-proxy.conf &
        while [ -e {MANIFEST} ] && kill -0 $!; do sleep 0.05; done
        [ -e {MANIFEST} ] || {{ [ ! -e {LAST} ] || sh {LAST}; kill -QUIT $!; }}
        wait
    fi
    sleep 0.05
done
"""
# what its image says
_IMAGE = f"load_module {STREAM_MODULE};\ndaemon off;\npid /run/nginx-proxy/pid;\n"


class Node(Packaged):
    """A box in which a free port is to lead to the masters, hosts with `master_port`; lbproxy is not installed."""

    def __init__(self, packages: Packages, masters: list[str], master_port: int) -> None:
        super().__init__(packages)
        self.port = free_port()
        self.health = free_port()
        self._servers = [f"{host}:{master_port}" for host in masters]

    def __enter__(self) -> Self:
        super().__enter__()
        # Else apt reads the lists of all packages, and its trigger all man pages of this machine.
        self.run("sh", "-c", "rm -rf /var/lib/man-db/auto-update /var/cache/apt/*.bin /var/lib/apt/lists/*_*")
        return self

    @property
    def variables(self) -> dict[str, Any]:
        """What stands of it in the inventory."""
        return {
            "ansible_connection": "box",
            "ansible_become": False,
            "ansible_python_interpreter": "/usr/bin/python3",
            "box": self._state,
            "loadbalancer_apiserver_port": self.port,
            "loadbalancer_apiserver_healthcheck_port": self.health,
        }

    def kubelet(self) -> None:
        """Have a kubelet with nginx-proxy, and wait until that listens."""
        need("nginx", "nginx-stream", "ip")
        self.run("mkdir", "-p", "/etc/kubernetes/manifests", "/run/nginx-proxy")
        self.write("/etc/nginx-proxy.conf", _IMAGE + nginx(self._servers, port=self.port, health=self.health))
        self.write("/usr/local/bin/kubelet", _KUBELET)
        self.run("chmod", "755", "/usr/local/bin/kubelet")
        self.run("touch", MANIFEST)
        self.run("systemd-run", "--unit=kubelet", "/usr/local/bin/kubelet")
        until(lambda: self.holder() == "nginx", "nginx-proxy listens", 20)

    def holder(self) -> str:
        """Return the name of the program that listens on the port, empty if none does."""
        found = self.run("ss", "-Hltnp", f"src 127.0.0.1 and sport = {self.port}").stdout
        return found.partition('(("')[2].partition('"')[0]

    def there(self, path: str) -> bool:
        """Whether a file is there."""
        return self.run("test", "-e", path, check=False).returncode == 0

    def active(self) -> str:
        """Return how lbproxy's unit is, and whether a boot starts it."""
        return f"{self.show('ActiveState')} {self.show('UnitFileState')}"
