"""Imports of small files, whose places are those of a file `f`."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from lbproxy.config.load import loads
from lbproxy.config.model import Config, ProxyConfig
from lbproxy.errors import ConfigError
from lbproxy.importer.convert import convert


def imported(text: str | bytes, program: str | None = None) -> tuple[str, list[str]]:
    """Import a file that says `text`: what comes out, which lbproxy takes, and what is left out."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "f")
        file.write_bytes(text.encode() if isinstance(text, str) else text)
        found = convert(str(file), program)
    loads(found.text, "lbproxy.yaml")
    return found.text.replace(f"{directory}/", ""), [str(each).replace(f"{directory}/", "") for each in found.left]


def refused(text: str | bytes, program: str | None = None) -> list[str]:
    """Return why a file is not imported, line by line."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "f")
        file.write_bytes(text.encode() if isinstance(text, str) else text)
        with pytest.raises(ConfigError) as caught:
            convert(str(file), program)
    return str(caught.value).replace(f"{directory}/", "").splitlines()


def config_of(text: str) -> Config:
    """Return the configuration that a file becomes."""
    return loads(imported(text)[0], "lbproxy.yaml")


def proxy_of(text: str) -> ProxyConfig:
    """Return the only proxy that a file becomes."""
    (proxy,) = config_of(text).proxies.values()
    return proxy


def left(text: str) -> list[str]:
    """Return what of a file is left out."""
    return imported(text)[1]
