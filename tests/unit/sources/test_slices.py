"""EndpointSlices: what of an answer is believed."""

from __future__ import annotations

from typing import Any

import pytest

from lbproxy.sources.slices import GoneError, Slices
from tests.support.kubernetes import slice_of


def listed(*items: Any, version: str = "7") -> Slices:
    """Return the slices of a list."""
    slices = Slices()
    slices.listed({"metadata": {"resourceVersion": version}, "items": list(items)})
    return slices


def places(slices: Slices) -> list[str]:
    """Return the addresses as text."""
    return list(map(str, slices.addresses()))


def event(kind: str, subject: Any) -> dict[str, Any]:
    """Return an event of a watch."""
    return {"type": kind, "object": subject}


def test_all_slices_of_the_service_count_and_each_address_once() -> None:
    """A cluster of two address families has two; while a slice is replaced there are two that say the same."""
    six = slice_of([], 1, addressType="IPv6", endpoints=[{"addresses": ["fd00:0::1"]}], metadata={"name": "six"})
    six["ports"] = [{"port": 6443}]
    slices = listed(slice_of(["10.0.0.1:6443", "10.0.0.2:6443", "10.0.0.1:6443"], 1), six)
    assert places(slices) == ["10.0.0.1:6443", "10.0.0.2:6443", "[fd00::1]:6443"]
    assert slices.version == "7"


def test_a_place_that_is_not_ready_is_none() -> None:
    """One whose readiness is not told is to be taken for ready."""
    one = slice_of(["10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1"], 1)
    one["endpoints"][0]["conditions"] = {"ready": False}
    one["endpoints"][1]["conditions"] = {}
    one["endpoints"][2]["conditions"] = None
    assert places(listed(one)) == ["10.0.0.2:1", "10.0.0.3:1"]


def test_the_port_called_https_is_the_one() -> None:
    """Else the first for TCP."""
    one = slice_of(["10.0.0.1:1"], 1)
    one["ports"] = [{"port": 5, "protocol": "UDP"}, {"port": 6}, {"name": "https", "port": 7}]
    assert places(listed(one)) == ["10.0.0.1:7"]
    del one["ports"][2]
    assert places(listed(one)) == ["10.0.0.1:6"]


def test_a_slice_without_endpoints_needs_no_port() -> None:
    """So it is written when the last API server goes."""
    assert places(listed({"metadata": {"name": "kubernetes"}, "addressType": "IPv4", "endpoints": None})) == []


def test_a_watch_adds_changes_and_deletes_slices_and_moves_the_version_on() -> None:
    """A bookmark moves nothing but the version."""
    slices = listed(slice_of(["10.0.0.1:1"], 1))
    assert slices.changed(event("MODIFIED", slice_of(["10.0.0.2:1"], 8)))
    assert (places(slices), slices.version) == (["10.0.0.2:1"], "8")
    other = slice_of(["10.0.0.3:1"], 9) | {"metadata": {"name": "other", "resourceVersion": "9"}}
    assert slices.changed(event("ADDED", other))
    assert places(slices) == ["10.0.0.2:1", "10.0.0.3:1"]
    assert slices.changed(event("DELETED", other | {"metadata": {"name": "other", "resourceVersion": "10"}}))
    assert not slices.changed(event("BOOKMARK", {"metadata": {"resourceVersion": "11"}}))
    assert (places(slices), slices.version) == (["10.0.0.2:1"], "11")


def test_410_is_told_from_other_errors() -> None:
    """The one is answered by a list, the other is told."""
    slices = listed()
    with pytest.raises(GoneError):
        slices.changed(event("ERROR", {"kind": "Status", "code": 410}))
    with pytest.raises(ValueError, match="too busy"):
        slices.changed(event("ERROR", {"kind": "Status", "code": 500, "message": "too busy"}))


@pytest.mark.parametrize(
    "change",
    [
        {"ports": [{"port": 0}]}, {"ports": [{"port": 70000}]}, {"ports": [{"port": "6443"}]}, {"ports": None},
        {"ports": [{"port": True}]}, {"ports": "6443"}, {"ports": {}},
        {"endpoints": [{"addresses": ["0.0.0.0"]}]}, {"endpoints": [{"addresses": ["10.0.0.256"]}]},
        {"endpoints": [{"addresses": ["master1"]}]}, {"endpoints": [{"addresses": ["10.0.0.1:1"]}]},
        {"endpoints": [{"addresses": [17]}]}, {"endpoints": [17]}, {"endpoints": "10.0.0.1"}, {"endpoints": {"a": 1}},
        {"endpoints": [{"addresses": ["10.0.0.1\n"]}]}, {"endpoints": [{"addresses": ["fe80::1%eth0"]}]},
        {"metadata": {}}, {"metadata": {"name": 3}}, {"metadata": []},
    ],
    ids=repr,
)  # fmt: skip
def test_an_answer_with_something_in_it_that_cannot_be_is_refused_whole(change: dict[str, Any]) -> None:
    """What was known stays, and so does the version."""
    slices = listed(slice_of(["10.0.0.1:1"], 1))
    good = slice_of(["10.0.0.2:1"], 2)
    with pytest.raises(ValueError, match=r"."):
        slices.listed({"metadata": {"resourceVersion": "9"}, "items": [good, good | change]})
    assert (places(slices), slices.version) == (["10.0.0.1:1"], "7")


@pytest.mark.parametrize("answer", [None, [], 5, "", {}, {"items": []}, {"metadata": {"resourceVersion": 4}}], ids=repr)
def test_what_is_no_list_is_refused(answer: Any) -> None:
    """Any JSON may come."""
    with pytest.raises(ValueError, match="an answer that"):
        Slices().listed(answer)


def test_the_words_of_an_error_are_cut_and_fit_to_print() -> None:
    """They go to the log, and may be a mebibyte of anything."""
    with pytest.raises(ValueError, match=r"^an error in the watch: no\?{1,118}$"):
        listed().changed(event("ERROR", {"message": "no" + "\x1b" * 100_000}))
