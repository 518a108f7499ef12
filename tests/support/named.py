"""A daemon with an /etc/hosts and name servers of its own, in a mount namespace."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.support.daemon import Daemon
from tests.support.need import need

MOUNT = 'for file in hosts nsswitch.conf resolv.conf; do mount --bind "$0/$file" "/etc/$file"; done; exec "$@"'


class Named(Daemon):
    """A daemon that sees other files in /etc: `hosts` by address, and `dns` as its only name server."""

    def __init__(self, config: Mapping[str, Any], hosts: Mapping[str, str], dns: str = "", ns: Any = None) -> None:
        super().__init__(config, ns)
        self._hosts = hosts
        self._dns = dns

    def prepare(self) -> None:
        """Run in a mount namespace of its own; the machine's files are not touched."""
        need("mounts", "unshare", "mount")
        super().prepare()
        self.write(self._hosts)
        (self.dir / "nsswitch.conf").write_text("hosts: files dns\n" if self._dns else "hosts: files\n")
        (self.dir / "resolv.conf").write_text(f"nameserver {self._dns}\n" if self._dns else "")
        self.command = ["unshare", "--mount", "sh", "-ec", MOUNT, str(self.dir), *self.command]

    def write(self, hosts: Mapping[str, str]) -> None:
        """Write /etc/hosts, in place, as a bind mount wants it: `hosts` are names by address."""
        (self.dir / "hosts").write_text("".join(f"{address} {name}\n" for address, name in hosts.items()))
