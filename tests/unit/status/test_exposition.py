"""How families of series are written."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from lbproxy.balance.histogram import Histogram
from lbproxy.status.exposition import by, counter, gauge, histogram, labelled


def test_labels_are_escaped() -> None:
    """Quotes, backslashes and line breaks in a label come back as they were."""
    name = 'a"b\\c\nd'
    (family,) = text_string_to_metric_families("".join(gauge("up", "help", [(labelled(server=name), 1)])))
    assert [sample.labels for sample in family.samples] == [{"server": name}]


def test_a_family_comes_in_pieces_of_whole_lines_and_is_named_once() -> None:
    """Bytes move in between; a second head would be an error."""
    pieces = list(counter("n_total", "help", by("each", {str(n): n for n in range(95)}, labelled(proxy="p"))))
    assert len(pieces) == 10
    assert all(piece.endswith("\n") for piece in pieces)
    (family,) = text_string_to_metric_families("".join(pieces))
    assert [sample.value for sample in family.samples] == list(range(95))


def test_a_family_without_series_says_what_it_is() -> None:
    """Certificates, where no check uses TLS: who looks for the name finds it."""
    assert "".join(gauge("up", "Whether.", [])) == "# HELP up Whether.\n# TYPE up gauge\n"


def test_each_bucket_of_a_histogram_holds_those_below_it() -> None:
    """Counted is per bucket; the last one is the count."""
    (family,) = text_string_to_metric_families(
        "".join(histogram("took_seconds", "help", (0.5, 2.0), [({}, Histogram((1, 2, 4), 9.5))]))
    )
    got = {(sample.name, sample.labels.get("le")): sample.value for sample in family.samples}
    assert got == {
        ("took_seconds_bucket", "0.5"): 1,
        ("took_seconds_bucket", "2.0"): 3,
        ("took_seconds_bucket", "+Inf"): 7,
        ("took_seconds_count", None): 7,
        ("took_seconds_sum", None): 9.5,
    }
