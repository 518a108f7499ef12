"""The watch against a server that behaves like an API server, and against hostile ones."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from lbproxy.config.model import Address
from lbproxy.sources import kubernetes
from lbproxy.sources.api import StatusError, get
from lbproxy.sources.kubeconfig import read
from tests.live.heard import Heard, follow, until
from tests.support.certs import Certs
from tests.support.kubernetes import ApiServer, Cluster, kubeconfig, slice_of
from tests.support.servers import Server


def watching(server: Server, file: str) -> Callable[[Heard], Coroutine[Any, Any, None]]:
    """Return the source that asks `server`."""
    return lambda heard: kubernetes.follow(file, [Address(server.host, server.port)], heard)


def test_a_watch_goes_on_where_it_was_cut_and_lists_again_only_after_410(certs: Certs, tmp_path: Path) -> None:
    """What happens meanwhile is not missed either way; a bookmark counts as heard."""
    cluster = Cluster("10.0.0.1:6443")
    with ApiServer(cluster, certs) as server:

        async def then(heard: Heard) -> None:
            await until(lambda: bool(cluster.asked) and cluster.asked[-1][0] == "watch")
            cluster.tell({"type": "BOOKMARK", "object": {}})
            cluster.put("10.0.0.1:6443", "10.0.0.2:6443")
            await until(lambda: ["10.0.0.1:6443", "10.0.0.2:6443"] in heard.told)
            server.cut()
            await until(lambda: cluster.asked[-1][:2] == ("watch", "3"))
            cluster.put("10.0.0.3:6443")
            await until(lambda: heard.told[-1] == ["10.0.0.3:6443"])
            cluster.forget()
            server.cut()
            await until(lambda: cluster.asked[-1][:2] == ("watch", "5"))

        heard = follow(watching(server, kubeconfig(tmp_path / "k", certs, token="t")), then)  # noqa: S106
        assert [kind for kind, *_ in cluster.asked] == ["list", "watch", "watch", "watch", "list", "watch"]
        assert [told for told in heard.told if isinstance(told, list)][-1] == ["10.0.0.3:6443"]


def test_who_asks_is_read_anew_for_each_connection(certs: Certs, tmp_path: Path) -> None:
    """A token is replaced every hour, a certificate every year; nobody tells."""
    cluster = Cluster("10.0.0.1:6443")
    token, chain = tmp_path / "token", tmp_path / "client.pem"
    token.write_text("one")
    chain.write_bytes(certs.server.read_bytes())
    file = kubeconfig(
        tmp_path / "k", certs, tokenFile="token", client_certificate="client.pem", client_key="client.pem"
    )
    with ApiServer(cluster, certs) as server:

        async def then(heard: Heard) -> None:
            await until(lambda: len(cluster.asked) == 2)
            token.write_text("two")
            chain.write_bytes(certs.client.read_bytes())
            server.cut()
            await until(lambda: len(cluster.asked) == 3)

        follow(watching(server, file), then)
        assert [who for _, _, *who in cluster.asked] == [["one", ""], ["one", ""], ["two", "client@lbproxy.test"]]


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500, 503])
def test_a_refusal_is_told_and_asked_again(certs: Certs, tmp_path: Path, status: int) -> None:
    """It names no server, and takes none away."""
    cluster = Cluster("10.0.0.1:6443")
    cluster.status = status
    with ApiServer(cluster, certs) as server:

        async def then(heard: Heard) -> None:
            await until(lambda: bool(heard.told))
            cluster.status = 200
            await until(lambda: len(heard.told) == 2 and cluster.asked[-1][0] == "watch")

        heard = follow(watching(server, kubeconfig(tmp_path / "k", certs, token="t")), then)  # noqa: S106
        assert heard.told == [f"the API server answers with status {status}", ["10.0.0.1:6443"]]


def listing(*addresses: str, **more: Any) -> bytes:
    """Return a list of one slice."""
    one = slice_of(addresses, 1, **more)
    return json.dumps({"metadata": {"resourceVersion": "1"}, "items": [one]}).encode()


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"", "not JSON"), (b"{", "not JSON"), (b"null", "lacks something"), (b"[" * 100_000, "not JSON"),
        (b'{"metadata": {"resourceVersion": "1"}, "items": {}}', "is none"),
        (b'{"items": "' + b"x" * (1 << 21) + b'"}', "more than 1 MiB"),
        (listing("10.0.0.1:0"), "port"), (listing("0.0.0.0:1"), "wildcard"),
        (listing(*(f"10.0.0.{n}:1" for n in range(1, 40))), "39 servers"),
    ],
    ids=["nothing", "broken", "null", "deep", "other", "huge", "port 0", "wildcard", "many"],
)  # fmt: skip
def test_a_hostile_list_is_refused_and_the_next_one_heard(
    certs: Certs, tmp_path: Path, answer: bytes, why: str
) -> None:
    """Whatever it is, it costs one line."""
    cluster = Cluster("10.0.0.1:6443")
    cluster.list = answer
    with ApiServer(cluster, certs) as server:

        async def then(heard: Heard) -> None:
            await until(lambda: bool(heard.told))
            cluster.list = None
            await until(lambda: len(heard.told) == 2 and cluster.asked[-1][0] == "watch")

        heard = follow(watching(server, kubeconfig(tmp_path / "k", certs, token="t")), then)  # noqa: S106
        assert why in heard.told[0]
        assert heard.told[1] == ["10.0.0.1:6443"]


def test_a_watch_of_garbage_is_ended_and_begun_with_a_list(certs: Certs, tmp_path: Path) -> None:
    """From where it was the same would come again."""
    cluster = Cluster("10.0.0.1:6443")
    with ApiServer(cluster, certs) as server:

        async def then(heard: Heard) -> None:
            await until(lambda: len(cluster.asked) == 2)
            cluster.tell({"type": "MODIFIED", "object": {"addressType": "IPv4", "endpoints": 5}})
            await until(lambda: len(cluster.asked) == 4)

        heard = follow(watching(server, kubeconfig(tmp_path / "k", certs, token="t")), then)  # noqa: S106
        assert [kind for kind, *_ in cluster.asked] == ["list", "watch", "list", "watch"]
        assert any("that is none" in told for told in heard.told)


class Says(Server):
    """Says the same to everybody, for ever if it is asked to."""

    def __init__(self, certs: Certs, what: bytes, more: bytes = b"") -> None:
        super().__init__(tls=certs.server_context())
        self._what = what
        self._more = more

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(self._what)
        while self._more and not writer.transport.is_closing():
            writer.write(self._more * 100)
            await writer.drain()
            await asyncio.sleep(0)


HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("what", "more"),
    [(HEAD, b"4\r\n    \r\n"), (b"HTTP/1.1 200 OK\r\nX: ", b"x" * 100), (b"no HTTP\r\n\r\n", b""), (b"", b""),
     (b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"), (HEAD + b"zz\r\n", b"")],
    ids=["endless body", "endless head", "no HTTP", "nothing", "endless continue", "no chunk"],
)  # fmt: skip
def test_an_answer_without_an_end_or_without_sense_ends(certs: Certs, tmp_path: Path, what: bytes, more: bytes) -> None:
    """In bytes, before it does in time."""
    with Says(certs, what, more) as server:

        async def then(heard: Heard) -> None:
            await until(lambda: bool(heard.told))

        heard = follow(watching(server, kubeconfig(tmp_path / "k", certs, token="t")), then)  # noqa: S106
        assert isinstance(heard.told[0], str)


def test_who_has_another_certificate_is_not_listened_to(certs: Certs, tmp_path: Path) -> None:
    """Servers behind a proxy are not checked for it; who names servers is."""
    cluster = Cluster("10.0.0.1:6443")
    file = Path(kubeconfig(tmp_path / "k", certs, token="t"))  # noqa: S106
    file.write_text(file.read_text().replace("server: https", "tls-server-name: elsewhere.test\n    server: https"))
    with ApiServer(cluster, certs) as server:

        async def then(heard: Heard) -> None:
            await until(lambda: bool(heard.told))

        heard = follow(watching(server, str(file)), then)
        assert "certificate" in heard.told[0]
        assert cluster.asked == []


def test_a_request_says_what_status_it_got(certs: Certs, tmp_path: Path) -> None:
    """As an error of its own, which has the number."""
    cluster = Cluster()
    cluster.status = 418
    credentials = read(kubeconfig(tmp_path / "k", certs, token="t"))  # noqa: S106
    with ApiServer(cluster, certs) as server:

        async def run() -> None:
            target = "/x?labelSelector=kubernetes.io/service-name=kubernetes"
            async with get((2, (server.host, server.port)), target, credentials):
                pass

        with pytest.raises(StatusError) as caught:
            asyncio.run(run())
        assert caught.value.status == 418
