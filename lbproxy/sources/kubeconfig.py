"""Who asks Kubernetes, and whom it trusts: a kubeconfig, read anew for each connection.

So certificates and tokens that were rotated are used without anybody's word. What `kubectl` would start a program for
(exec) cannot be used here: a service that guards a node starts none.
"""

from __future__ import annotations

import os
import ssl
from base64 import b64decode
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from lbproxy.checks.answer import plain
from lbproxy.config.load import regular_file
from lbproxy.config.nodes import Block, Items, Node, Scalar, parse
from lbproxy.config.report import EnoughError, Report
from lbproxy.errors import LbproxyError

_CANNOT: Final = ("exec", "auth-provider", "username", "password")


class Credentials(NamedTuple):
    """What a connection needs. `name` is the one that the certificate must have, `host` what HTTP calls the server."""

    context: ssl.SSLContext
    name: str
    host: str
    token: str


def read(file: str) -> Credentials:
    """Read the kubeconfig `file` and the files that it names. Raises LbproxyError, which says what is wrong."""
    try:
        return _credentials(file)
    except OSError as error:
        raise LbproxyError(f"{file}: {plain(error)}") from None
    except ValueError as error:
        raise LbproxyError(f"{file}: {error}") from None


def _credentials(file: str) -> Credentials:
    report = Report(file)
    root = None
    try:
        root = parse(regular_file(file).decode(), report)
    except EnoughError:
        pass
    if root is None or not report.clean:
        raise ValueError(report.error().problems[0].why)
    context = _named(root, "contexts", _text(root, "current-context") or "", "context")
    cluster = _named(root, "clusters", _text(context, "cluster") or "", "cluster")
    user = _named(root, "users", _text(context, "user") or "", "user")
    if used := [key for key in _CANNOT if _at(user, key) is not None]:
        raise ValueError(f"a user with {used[0]} cannot be used: give it a certificate, a token or a tokenFile")
    where = urlsplit(_text(cluster, "server") or "")
    if where.scheme != "https" or not where.hostname:
        raise ValueError("the cluster has no server that begins with https://")
    place = os.path.dirname(file)
    token = _text(user, "token") or ""
    if token_file := _text(user, "tokenFile"):
        token = regular_file(os.path.join(place, token_file)).decode().strip()
    if not token.isprintable() or not token.isascii():
        raise ValueError("the token is none")
    name = _text(cluster, "tls-server-name") or where.hostname
    return Credentials(_context(cluster, user, place), name, where.netloc.rpartition("@")[2], token)


def _context(cluster: Node, user: Node, place: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if _text(cluster, "insecure-skip-tls-verify") == "true":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif ca := _content(cluster, "certificate-authority", place):
        context.load_verify_locations(cadata=ca.decode())
    else:
        context.load_default_certs()
    chain, key = _content(user, "client-certificate", place), _content(user, "client-key", place)
    if chain:
        fd = os.memfd_create("lbproxy", os.MFD_CLOEXEC)  # the ssl module takes a certificate from a file alone
        try:
            os.write(fd, chain + b"\n" + (key or b""))
            context.load_cert_chain(f"/proc/self/fd/{fd}", password="")  # else OpenSSL asks for it
        finally:
            os.close(fd)
    return context


def _content(node: Node, key: str, place: str) -> bytes | None:
    """Return what is given inline (`key`-data), else in the file at `key`."""
    if (inline := _text(node, f"{key}-data")) is not None:
        return b64decode(inline, validate=True)
    file = _text(node, key)
    return regular_file(os.path.join(place, file)) if file else None


def _named(root: Node, kind: str, name: str, key: str) -> Node:
    """Return what the list `kind` has under `name`."""
    entries = _at(root, kind)
    for each in entries.items if isinstance(entries, Items) else ():
        if _text(each, "name") == name and (found := _at(each, key)) is not None:
            return found
    raise ValueError(f"there is no {key} {name!r} in it")


def _at(node: Node | None, key: str) -> Node | None:
    return next((value for name, value in node.entries if name.text == key), None) if isinstance(node, Block) else None


def _text(node: Node | None, key: str) -> str | None:
    found = _at(node, key)
    return found.text if isinstance(found, Scalar) and not found.empty else None
