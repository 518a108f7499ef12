"""Rules of how operators reach the daemon: the data plane needs none of it."""

from __future__ import annotations

import asyncio
import logging
import stat
from collections.abc import Mapping
from pathlib import Path

import pytest

from lbproxy.config.load import loads
from lbproxy.errors import ControlError, OccupiedError
from lbproxy.process import access
from lbproxy.process.access import Access
from lbproxy.status.client import call
from lbproxy.status.shapes import Event
from lbproxy.status.snapshot import ConnectionView, Snapshot
from lbproxy.tasks import Tasks
from tests.support.ports import free_port, listening


class Nobody:
    """Has nothing to tell."""

    async def snapshot(self) -> Snapshot:
        raise NotImplementedError

    async def connections(self) -> list[ConnectionView]:
        raise NotImplementedError

    def events(self) -> list[Event]:
        raise NotImplementedError


PROXY = "proxies: {p: {listen: ['127.0.0.1:1'], servers: ['127.0.0.1:2']}}\n"
CONFIG = "admin: {listen: '127.0.0.1:%s'}\n" + PROXY
ADMIN = "admin: %s\n" + PROXY
LIVEZ = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"


def test_a_control_socket_that_cannot_take_the_others_place_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is too late to refuse: the proxies serve, the log says what is missing, and when it is there."""
    monkeypatch.setattr(access, "_AGAIN", 0.01)
    caplog.set_level(logging.INFO)

    async def scene() -> None:
        tasks = Tasks()
        reached = Access(str(tmp_path / "c.sock"), dict, Nobody(), tasks)
        reached.bind(take_over=True)
        (tmp_path / "c.sock").mkdir()
        await reached.answer()
        assert "no command is answered" in caplog.text
        assert not (tmp_path / "c.sock.new").exists()
        (tmp_path / "c.sock").rmdir()
        async with asyncio.timeout(10):
            while "commands are answered again" not in caplog.text:
                await asyncio.sleep(0.01)
        assert (tmp_path / "c.sock").is_socket()
        await reached.close()
        assert not (tmp_path / "c.sock").exists()
        await tasks.cancel()

    asyncio.run(scene())


def test_a_second_daemon_is_told_so_unless_it_has_connections(tmp_path: Path) -> None:
    """Nobody depends on it yet, and whoever starts it is there to read why."""

    async def scene() -> None:
        tasks = Tasks()
        first, second = (Access(str(tmp_path / "c.sock"), dict, Nobody(), tasks) for _ in range(2))
        await first.insist()
        with pytest.raises(OccupiedError):
            await second.insist()
        await second.insist(anyhow=True)
        await second.close()
        assert (tmp_path / "c.sock").is_socket()
        await first.close()
        await tasks.cancel()

    asyncio.run(scene())


def test_those_who_may_only_look_have_a_socket_of_their_own(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It answers what changes nothing, is made again when it has gone, and goes over to the next daemon."""
    (tmp_path / "run").mkdir()
    place = tmp_path / "run-status"
    place.mkdir()
    place.chmod(0o2750)
    looks = place / "c.sock"

    async def ask(path: Path, command: str) -> object:
        return await asyncio.to_thread(call, str(path), command, {})

    async def answer(_: Mapping[str, object]) -> object:
        return {"did": True}

    async def scene() -> None:
        tasks = Tasks()
        every = dict.fromkeys(("status", "conns", "events", "drain", "reload"), answer)
        old, new = (Access(str(tmp_path / "run/c.sock"), lambda: every, Nobody(), tasks) for _ in range(2))
        await old.insist()
        assert stat.S_IMODE(looks.stat().st_mode) == 0o660
        assert [await ask(looks, name) for name in ("status", "conns", "events")] == [{"did": True}] * 3
        for name in ("drain", "reload"):
            with pytest.raises(ControlError, match=f"no command '{name}' in this daemon, only conns, events, status"):
                await ask(looks, name)
            assert await ask(tmp_path / "run/c.sock", name) == {"did": True}
        looks.unlink()
        await old.look()
        assert await ask(looks, "status") == {"did": True}
        new.bind(take_over=True)
        await new.answer()
        await old.close()
        assert await ask(looks, "status") == {"did": True}
        await new.close()
        assert list(place.iterdir()) == []
        looks.mkdir()
        await new.insist()
        assert "nobody but root and the owner can ask for status" in caplog.text
        assert await ask(tmp_path / "run/c.sock", "drain") == {"did": True}
        await new.close()
        await tasks.cancel()

    asyncio.run(scene())


@pytest.mark.parametrize("what", ["socket", "directory", "in the way"])
def test_a_control_socket_that_has_gone_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    """By a tidy cron job, say; and who is being answered is not cut off."""
    monkeypatch.setattr(access, "_AGAIN", 0.01)
    path = tmp_path / "run" / "c.sock"
    held = asyncio.Event()

    async def hold(_: Mapping[str, object]) -> object:
        await held.wait()
        return {}

    async def quick(_: Mapping[str, object]) -> object:
        return {}

    async def scene() -> None:
        tasks = Tasks()
        reached = Access(str(path), lambda: {"hold": hold, "quick": quick}, Nobody(), tasks)
        await reached.insist()
        await reached.look()
        waiting = asyncio.create_task(asyncio.to_thread(call, str(path), "hold", {}))
        await asyncio.sleep(0.1)
        path.unlink()
        if what == "directory":
            path.parent.rmdir()
        if what == "in the way":
            path.mkdir()
        await reached.look()
        if what == "in the way":
            path.rmdir()
            async with asyncio.timeout(10):
                while not path.is_socket():
                    await asyncio.sleep(0.01)
        assert await asyncio.to_thread(call, str(path), "quick", {}) == {}
        if what != "in the way":
            held.set()
            assert await waiting == {}
        await reached.look()
        await reached.close()
        await asyncio.gather(waiting, return_exceptions=True)
        await tasks.cancel()

    asyncio.run(scene())
    assert caplog.text.count("the control socket is gone, and made again") == 1


def test_a_reload_moves_the_admin_endpoint_and_leaves_what_stays(tmp_path: Path) -> None:
    """The connections of an address that stays go on, those of one that goes are closed; with none there is none."""

    async def scene() -> None:
        tasks = Tasks()
        reached = Access(str(tmp_path / "c.sock"), dict, Nobody(), tasks)
        first, second, third = free_port(), free_port(), free_port()
        text = "{listen: ['127.0.0.1:%d', '127.0.0.1:%d']}"
        await reached.move_admin(loads(ADMIN % (text % (first, second)), "x"))
        kept, gone = [await asyncio.open_connection("127.0.0.1", port) for port in (first, second)]
        await reached.move_admin(loads(ADMIN % (text % (first, third)), "x"))
        assert await gone[0].read() == b""
        assert {first, second, third} & set(listening()) == {first, third}
        kept[1].write(LIVEZ)
        assert b"200" in await kept[0].readline()
        await reached.move_admin(loads(PROXY, "x"))
        assert {first, second, third}.isdisjoint(listening())
        for _, writer in (kept, gone):
            writer.close()
        await reached.close()
        await tasks.cancel()

    asyncio.run(scene())


def test_probes_are_all_that_their_address_answers(tmp_path: Path) -> None:
    """It may be open to the network: whether this node is well, and nothing of the cluster."""

    async def scene() -> dict[str, int]:
        tasks = Tasks()
        reached = Access(str(tmp_path / "c.sock"), dict, Nobody(), tasks)
        admin, probes = free_port(), free_port()
        both = f"{{listen: '127.0.0.1:{admin}', probes: '127.0.0.1:{probes}'}}"
        await reached.move_admin(loads(ADMIN % both, "x"))
        found = {}
        for path in ("/livez", "/healthz", "/status", "/metrics", "/"):
            reader, writer = await asyncio.open_connection("127.0.0.1", probes)
            writer.write(b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % path.encode())
            found[path] = int((await reader.readline()).split()[1])
            writer.close()
        await reached.close()
        await tasks.cancel()
        return found

    assert asyncio.run(scene()) == {"/livez": 200, "/healthz": 200, "/status": 404, "/metrics": 404, "/": 404}


def test_the_admin_endpoint_is_where_the_configuration_says(tmp_path: Path) -> None:
    """It is given up for another process, and taken back."""

    async def scene() -> None:
        tasks = Tasks()
        reached = Access(str(tmp_path / "c.sock"), dict, Nobody(), tasks)
        port = free_port()
        config = loads(CONFIG % port, "x")
        for _ in range(2):
            await reached.move_admin(config)
            assert port in listening()
            await reached.release_admin()
            assert port not in listening()
        await reached.close()
        await tasks.cancel()

    asyncio.run(scene())
