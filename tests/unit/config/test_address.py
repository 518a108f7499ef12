"""`host:port` and what people write instead."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbproxy.config.address import read_address
from lbproxy.config.model import Address
from tests.unit.config.strategies import addresses


@given(addresses)
def test_an_address_is_read_as_it_is_printed(address: Address) -> None:
    """`str` and `read_address` are inverse."""
    assert read_address(str(address), bound=False) == address


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("[FD00:0::0:11]:1", Address("fd00::11", 1)),
        ("[::ffff:10.0.0.1]:1", Address("10.0.0.1", 1)),
        ("Master1.Example:1", Address("master1.example", 1)),
        ("master1.example.:65535", Address("master1.example.", 65535)),
        ("3com.example:1", Address("3com.example", 1)),
    ],
)
def test_addresses_come_in_one_spelling(text: str, same: Address) -> None:
    """So that equal ones are found to be equal."""
    assert str(read_address(text, bound=False)) == str(read_address(str(same), bound=False))
    assert read_address(text, bound=False).port == same.port


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("10.4.6.11", "must be HOST:PORT, such as 10.4.6.11:6443 or [fd00::11]:6443"),
        ("", "must be HOST:PORT, such as 10.4.6.11:6443 or [fd00::11]:6443"),
        ("[::1]", "must be HOST:PORT, such as 10.4.6.11:6443 or [fd00::11]:6443"),
        (":6443", "the host must be a host name or an IP address"),
        ("a..b:1", "the host must be a host name or an IP address"),
        ("a_b:1", "the host must be a host name or an IP address"),
        ("mäster:1", "the host must be a host name or an IP address"),
        ("a-:1", "the host must be a host name or an IP address"),
        ("a" * 64 + ":1", "the host must be a host name or an IP address"),
        (".".join(["a" * 60] * 5) + ":1", "the host must be a host name or an IP address"),
        ("10.4.6:1", "the host looks like an IPv4 address and is none"),
        ("010.4.6.11:1", "the host looks like an IPv4 address and is none"),
        ("10.4.6.256:1", "the host looks like an IPv4 address and is none"),
        ("fd00::11:6443", "an IPv6 address is written in brackets, such as [fd00::11]:6443"),
        ("[fd00::g]:1", "what is in brackets must be an IPv6 address"),
        ("[10.4.6.11]:1", "what is in brackets must be an IPv6 address"),
        ("[fe80::1%eth0]:1", "an IPv6 zone (%...) is not supported"),
        ("https://10.4.6.11:1", "must be HOST:PORT without a scheme such as https://"),
        ("10.4.6.11:0", "the port must be a whole number from 1 to 65535"),
        ("10.4.6.11:65536", "the port must be a whole number from 1 to 65535"),
        ("10.4.6.11:06443", "the port must be a whole number from 1 to 65535"),
        ("10.4.6.11:", "the port must be a whole number from 1 to 65535"),
        ("0.0.0.0:1", "the host must be an address to connect to and not the wildcard"),
        ("[::]:1", "the host must be an address to connect to and not the wildcard"),
    ],
)
def test_what_is_wrong_with_an_address_is_said(text: str, why: str) -> None:
    """One reason each, with the text at the end."""
    with pytest.raises(ValueError, match=re.escape(why)) as caught:
        read_address(text, bound=False)
    assert str(caught.value).startswith(f"{why}, got '{text[:70]}")


def test_only_an_ip_address_can_be_listened_on() -> None:
    """The wildcard too, but no name: it would have to be resolved before anything runs."""
    assert read_address("0.0.0.0:1", bound=True) == Address("0.0.0.0", 1)
    assert read_address("[::]:1", bound=True) == Address("::", 1)
    with pytest.raises(
        ValueError, match="the host must be an IP address to listen on and not a name, got 'localhost:1'"
    ):
        read_address("localhost:1", bound=True)
    with pytest.raises(ValueError, match=r"must be IP:PORT, such as .*, got '\*'"):
        read_address("*", bound=True)


@given(st.text())
def test_no_text_gives_anything_but_an_address_or_a_reason(text: str) -> None:
    """The reason is one line."""
    for bound in (False, True):
        assert len(_outcome(text, bound).splitlines()) == 1


def _outcome(text: str, bound: bool) -> str:
    try:
        return str(read_address(text, bound=bound))
    except ValueError as error:
        return str(error)
