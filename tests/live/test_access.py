"""Rules of how operators reach the daemon: the data plane needs none of it."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from lbproxy.config.load import loads
from lbproxy.errors import ControlError
from lbproxy.process import access
from lbproxy.process.access import Access
from lbproxy.status.snapshot import Snapshot
from lbproxy.tasks import Tasks
from tests.support.ports import free_port, listening


class Nobody:
    """Has nothing to tell."""

    async def snapshot(self) -> Snapshot:
        raise NotImplementedError


CONFIG = "admin: {listen: '127.0.0.1:%s'}\nproxies: {p: {listen: ['127.0.0.1:1'], servers: ['127.0.0.1:2']}}\n"


def test_a_control_socket_that_cannot_take_the_others_place_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is too late to refuse: the proxies serve, the log says what is missing, and when it is there."""
    monkeypatch.setattr(access, "_AGAIN", 0.01)
    caplog.set_level(logging.INFO)

    async def scene() -> None:
        tasks = Tasks()
        reached = Access(str(tmp_path / "c.sock"), {}, Nobody(), tasks)
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


def test_a_start_that_cannot_have_a_control_socket_fails(tmp_path: Path) -> None:
    """Nobody depends on it yet, and whoever starts it is there to read why."""
    (tmp_path / "c.sock").mkdir()
    with pytest.raises(ControlError):
        Access(str(tmp_path / "c.sock"), {}, Nobody(), Tasks()).bind()


def test_the_admin_endpoint_is_where_the_configuration_says(tmp_path: Path) -> None:
    """It is given up for another process, and taken back."""

    async def scene() -> None:
        tasks = Tasks()
        reached = Access(str(tmp_path / "c.sock"), {}, Nobody(), tasks)
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
