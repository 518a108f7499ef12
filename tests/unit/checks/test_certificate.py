"""When a certificate ends, as it stands in its DER form."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from lbproxy.checks.certificate import expiry


def issued(until: datetime) -> bytes:
    """Return a certificate that ends then."""
    pem = trustme.CA().issue_cert("localhost", not_before=datetime(2001, 1, 1, tzinfo=UTC), not_after=until)
    return ssl.PEM_cert_to_DER_cert(pem.cert_chain_pems[0].bytes().decode())


@pytest.mark.parametrize("year", [2001, 2027, 2049, 2050, 9999])
def test_the_end_of_a_certificate_is_read_in_both_forms_of_time(year: int) -> None:
    """Two digits for the year until 2049, four after that."""
    until = datetime(year, 12, 31, 23, 59, 58, tzinfo=UTC)
    assert expiry(issued(until)) == until.timestamp()


def test_what_is_cut_short_anywhere_has_no_end() -> None:
    """A check must not fail for the sake of a figure."""
    whole = issued(datetime(2030, 1, 1, tzinfo=UTC))
    assert {expiry(whole[:length]) for length in range(100)} == {0.0}


@given(st.binary(max_size=200))
def test_whatever_it_is_there_is_an_answer(der: bytes) -> None:
    """Servers may show anything."""
    assert isinstance(expiry(der), float)
