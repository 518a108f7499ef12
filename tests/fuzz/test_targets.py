"""Each target with every run of the tests, on a few hundred inputs; `make fuzz` shows it millions."""

from __future__ import annotations

import ast
from typing import Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.target import Target, show
from tests.fuzz.targets import TARGETS
from tests.unit.test_imports import MODULES

EXAMPLES: Final = 100
READING: Final = {
    "loads",
    "unpack",
    "unpack_from",
    "from_bytes",
    "b64decode",
    "decompress",
    "decompressobj",
    "Connection",
}
"""Calls that make something of bytes, of json, pickle, struct, base64, zlib and h11; and yaml.parse."""
NOT_FOREIGN: Final = {
    "check": "what a child of its own has said",
    "net.tcpinfo": "the kernel's numbers of a connection",
    "balance.rotation": "a hash that it has made itself",
    "handover.marks": "numbers in memory, any of which may stand there",
}
"""Modules that read bytes which nobody else writes, or which may be any."""


def inputs(target: Target) -> st.SearchStrategy[bytes]:
    """Return a strategy for seeds with something cut out, put in or changed, and for bytes of any kind."""
    bits = st.binary(max_size=8) | st.sampled_from([*target.words, b""])

    @st.composite
    def changed(draw: st.DrawFn) -> bytes:
        data = draw(st.sampled_from(target.seeds))
        for _ in range(draw(st.integers(0, 4))):
            start = draw(st.integers(0, len(data)))
            end = draw(st.sampled_from([start, start + 1, start + 7, len(data)]))
            data = data[:start] + draw(bits) + data[end:]
        return data

    return changed() | st.lists(bits, max_size=12).map(b"".join)


@pytest.mark.parametrize("name", TARGETS)
def test_whatever_comes_is_read_or_refused_as_documented(name: str) -> None:
    """What is found by `make fuzz`, or here, becomes a test of its own where it is mended."""
    target = TARGETS[name]
    with target.begin() as run:
        for seed in target.seeds:
            show(target, run, seed)

        @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(inputs(target))
        def shown(data: bytes) -> None:
            show(target, run, data)

        shown()


def test_whoever_reads_bytes_from_outside_is_fuzzed() -> None:
    """A parser that is forgotten is one that a stranger tries first."""
    read = {module for target in TARGETS.values() for module in target.reads}
    assert read <= MODULES.keys()
    reading = {
        name
        for name, path in MODULES.items()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(called := node.func, ast.Attribute)
        and (called.attr in READING or ast.unparse(called) == "yaml.parse")
    }
    assert reading - read == NOT_FOREIGN.keys()
