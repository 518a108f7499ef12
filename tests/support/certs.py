"""A certificate authority of the tests' own."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

import trustme

NAMES = ("localhost", "127.0.0.1", "::1", "10.0.0.1", "10.0.0.2", "10.0.0.3")


@dataclass(frozen=True)
class Certs:
    """Files of a CA, of a server certificate for `NAMES` and of a client certificate (key and chain in one)."""

    ca: Path
    server: Path
    client: Path

    def server_context(self, alpn: list[str] | None = None) -> ssl.SSLContext:
        """Return what a TLS server needs."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.server)
        if alpn:
            context.set_alpn_protocols(alpn)
        return context

    def client_context(self, alpn: list[str] | None = None) -> ssl.SSLContext:
        """Return what a TLS client needs that trusts the CA and nobody else."""
        context = ssl.create_default_context(cafile=str(self.ca))
        if alpn:
            context.set_alpn_protocols(alpn)
        return context


def make(directory: Path) -> Certs:
    """Write a fresh CA and its certificates into `directory`."""
    authority = trustme.CA()
    certs = Certs(directory / "ca.pem", directory / "server.pem", directory / "client.pem")
    authority.cert_pem.write_to_path(str(certs.ca))
    authority.issue_cert(*NAMES).private_key_and_cert_chain_pem.write_to_path(str(certs.server))
    authority.issue_cert("client@lbproxy.test").private_key_and_cert_chain_pem.write_to_path(str(certs.client))
    return certs
