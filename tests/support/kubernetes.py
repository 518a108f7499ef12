"""What an API server says of the API servers: EndpointSlices, listed and watched, over TLS."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

from tests.support.certs import Certs
from tests.support.servers import Server


class Cluster:
    """What all API servers know: where they are, and what has changed since which version.

    `asked` is who has asked for what: list or watch, its resourceVersion, the token and the certificate's name.
    """

    def __init__(self, *addresses: str) -> None:
        self.asked: list[tuple[str, str, str, str]] = []
        self.version = 1
        self.oldest = 0
        """The version from which on changes are known still."""
        self.events: list[tuple[int, dict[str, Any]]] = []
        self.list: bytes | None = None
        """What is answered to a list instead of the truth: the body of an HTTP answer."""
        self.status = 200
        """Of each answer."""
        self._slice = slice_of(addresses, 1)

    def whole(self) -> bytes:
        """Return the answer to a list."""
        if self.list is not None:
            return self.list
        items = [self._slice] if self._slice else []
        return json.dumps({"metadata": {"resourceVersion": str(self.version)}, "items": items}).encode()

    def tell(self, event: Mapping[str, Any]) -> None:
        """Send an event to all who watch."""
        self.version += 1
        event["object"].setdefault("metadata", {})["resourceVersion"] = str(self.version)
        self.events.append((self.version, dict(event)))

    def put(self, *addresses: str) -> None:
        """Have the API servers at these places."""
        self._slice = slice_of(addresses, self.version + 1)
        self.tell({"type": "MODIFIED", "object": self._slice})

    def forget(self) -> None:
        """Compact: whoever asks for what was before now has to list."""
        self.version += 1
        self.oldest = self.version


def slice_of(addresses: Iterable[str], version: int, **more: Any) -> dict[str, Any]:
    """Return an EndpointSlice of the addresses, which have one port."""
    pairs = [address.rpartition(":") for address in addresses]
    return {
        "metadata": {"name": "kubernetes", "resourceVersion": str(version)},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [host], "conditions": {"ready": True}} for host, _, _ in pairs],
        "ports": [{"name": "https", "protocol": "TCP", "port": int(port)} for port in {port for _, _, port in pairs}],
        **more,
    }


class ApiServer(Server):
    """Answers /readyz and tells what the `cluster` knows."""

    def __init__(self, cluster: Cluster, certs: Certs, host: str = "127.0.0.1", port: int = 0) -> None:
        context = certs.server_context()
        context.verify_mode = ssl.CERT_OPTIONAL
        context.load_verify_locations(certs.ca)
        super().__init__(host, port, tls=context)
        self.cluster = cluster
        self.ready = True
        self.clients = 0
        """Requests that were no checks."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve requests, one after another."""
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            target = urlsplit(head.split(" ")[1])
            if target.path == "/readyz":
                status = b"200 OK" if self.ready else b"500 Internal Server Error"
                writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 2\r\n\r\nok")
                continue
            self.clients += 1
            query = {key: values[0] for key, values in parse_qs(target.query).items()}
            assert query["labelSelector"] == "kubernetes.io/service-name=kubernetes"
            token = next((line[22:] for line in head.split("\r\n") if line.startswith("Authorization: Bearer ")), "")
            certificate = writer.get_extra_info("peercert") or {}
            names = [value for kind, value in certificate.get("subjectAltName", ()) if kind == "email"]
            kind, since = "watch" if "watch" in query else "list", query.get("resourceVersion", "")
            self.cluster.asked.append((kind, since, token, "".join(names)))
            if self.cluster.status != 200:
                writer.write(f"HTTP/1.1 {self.cluster.status} No\r\nContent-Length: 0\r\n\r\n".encode())
            elif kind == "list":
                body = self.cluster.whole()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            else:
                await self._watch(writer, int(since), asyncio.get_running_loop().time() + int(query["timeoutSeconds"]))

    async def _watch(self, writer: asyncio.StreamWriter, since: int, ends: float) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        if since < self.cluster.oldest:
            _line(writer, {"type": "ERROR", "object": {"kind": "Status", "code": 410}})
            ends = 0.0
        while asyncio.get_running_loop().time() < ends and not writer.transport.is_closing():
            for version, event in list(self.cluster.events):
                if version > since:
                    since = version
                    _line(writer, event)
            await writer.drain()
            await asyncio.sleep(0.01)
        writer.write(b"0\r\n\r\n")


def _line(writer: asyncio.StreamWriter, event: Mapping[str, Any]) -> None:
    data = json.dumps(event).encode() + b"\n"
    writer.write(b"%x\r\n" % len(data) + data + b"\r\n")


def kubeconfig(path: Path, certs: Certs, **user: str) -> str:
    """Write a kubeconfig of that `user` (keys as a kubeconfig has them, _ for -) and return its name."""
    cluster = {"server": "https://localhost:6443", "certificate-authority": str(certs.ca)}
    keys = {key.replace("_", "-"): value for key, value in user.items()}
    path.write_text(
        yaml.safe_dump({
            "apiVersion": "v1", "kind": "Config", "current-context": "c", "preferences": {},
            "clusters": [{"name": "k", "cluster": cluster}],
            "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
            "users": [{"name": "u", "user": keys}],
        })
    )  # fmt: skip
    return str(path)
