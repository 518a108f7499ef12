"""Certificates for checks: read once for all servers, again when they change, and never waited for."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from lbproxy.checks.secure import Secure
from lbproxy.config.model import HealthConfig
from lbproxy.errors import LbproxyError
from tests.support.certs import Certs


@pytest.fixture
def health(certs: Certs, tmp_path: Path) -> HealthConfig:
    """Return settings with a CA of their own."""
    ca = tmp_path / "ca.crt"
    ca.write_bytes(certs.ca.read_bytes())
    return HealthConfig(verify=True, ca_file=str(ca))


def change(health: HealthConfig, content: str) -> None:
    """Have something else in the CA's file."""
    assert health.ca_file
    Path(health.ca_file).write_text(content)


def test_servers_with_the_same_settings_share_what_was_read(health: HealthConfig) -> None:
    """Reading takes two milliseconds; for four hundred servers the loop would stand still for one second."""
    one = Secure.of(health)
    assert Secure.of(replace(health)) is one
    assert Secure.of(replace(health, ca_file=None)) is not one


def test_a_configuration_is_refused_for_what_is_in_its_files_now(health: HealthConfig) -> None:
    """Also where checks go on with what they had read before, and again at the next attempt."""

    async def main() -> None:
        secure = await Secure.prepare(health)
        change(health, "no certificate")
        for _ in range(2):
            with pytest.raises(LbproxyError, match=r"health\.ca_file"):
                await Secure.prepare(health)
        assert Secure.of(health) is secure
        assert secure.generation == 1

    asyncio.run(main())


def test_what_cannot_be_used_is_told_once_until_it_is_read_again(
    health: HealthConfig, certs: Certs, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Every check looks, and a key may be there before its certificate."""
    monkeypatch.setattr("lbproxy.checks.secure._EVERY", 0.0)
    caplog.set_level("INFO")

    async def main() -> None:
        secure = Secure.of(health)
        change(health, "no certificate")
        for _ in range(3):
            await secure.renew()
        change(health, certs.ca.read_text())
        await secure.renew()
        assert secure.generation == 2

    asyncio.run(main())
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


def test_what_was_read_again_is_told_once_and_names_the_files_that_differ(certs: Certs, tmp_path: Path) -> None:
    """Whoever has renewed a certificate is told whether it is in force; also where a check was there first."""
    pem, ca = tmp_path / "client.pem", tmp_path / "ca.crt"
    pem.write_bytes(certs.client.read_bytes())
    ca.write_bytes(certs.ca.read_bytes())
    health = HealthConfig(ca_file=str(ca), cert_file=str(pem), key_file=str(pem))

    async def main() -> None:
        secure = await Secure.prepare(health)
        assert secure.news() == []
        pem.write_text("half a certif")
        with pytest.raises(LbproxyError):
            await Secure.prepare(health)
        assert secure.news() == []
        ca.write_bytes(certs.ca.read_bytes() + b"\n")
        with pytest.raises(LbproxyError):
            await Secure.prepare(health)
        pem.write_bytes(certs.client.read_bytes() + b"\n\n")
        await Secure.prepare(health)
        assert secure.news() == sorted([str(ca), str(pem)])
        assert secure.news() == []
        pem.write_bytes(certs.client.read_bytes())
        secure._look_again()
        await Secure.prepare(health)
        assert secure.news() == [str(pem)]

    asyncio.run(main())


def test_files_that_hang_hold_up_no_check(health: HealthConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """They lie on a mount whose server has gone: what was read before stays, and nobody looks again meanwhile."""
    answers = threading.Event()
    looks: list[str] = []

    def hang(file: str) -> tuple[int, int, int]:
        looks.append(file)
        answers.wait()
        return 0, 0, 0

    async def main() -> None:
        secure = Secure.of(health)
        monkeypatch.setattr("lbproxy.checks.secure._stamp", hang)
        monkeypatch.setattr("lbproxy.checks.secure._EVERY", 0.0)
        for _ in range(3):
            await secure.renew()
        assert (secure.generation, len(looks)) == (1, 1)
        answers.set()

    asyncio.run(main())
