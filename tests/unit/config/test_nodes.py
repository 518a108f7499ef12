"""YAML text to nodes with lines."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lbproxy.config import nodes
from lbproxy.config.nodes import MOST_BYTES, MOST_DEPTH, Block, Items, Node, Refused, Scalar, parse, peek
from lbproxy.config.report import Report


def read(text: str) -> tuple[Node | None, list[str]]:
    """Return the root and the problems of `text`."""
    report = Report("f")
    root = parse(text, report)
    return root, str(report.error()).splitlines()


def test_every_node_knows_its_line_and_scalars_are_their_text() -> None:
    """Nothing is turned into a number or a boolean."""
    assert read("a: off\nb:\n  - 010\n  - 'x'\nc: {d: }\n") == (
        Block(
            1,
            (
                (Scalar(1, "a", True), Scalar(1, "off", True)),
                (Scalar(2, "b", True), Items(3, (Scalar(3, "010", True), Scalar(4, "x", False)))),
                (Scalar(5, "c", True), Block(5, ((Scalar(5, "d", True), Scalar(5, "", True)),))),
            ),
        ),
        [],
    )


def test_null_and_nothing_are_empty_and_a_quoted_null_is_not() -> None:
    """A key without a value must not become the word null."""
    assert [Scalar(1, text, True).empty for text in ("", "~", "null", "0")] == [True, True, True, False]
    assert not Scalar(1, "null", plain=False).empty


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a: !!int 1", "f:1: a: a YAML tag (tag:yaml.org,2002:int) is not allowed"),
        ("a: ! 1", "f:1: a: a YAML tag (!) is not allowed"),
        ("!x {a: 1}", "f:1: a YAML tag (!x) is not allowed"),
        ("a: &x [1]", "f:1: a: a YAML anchor (&x) is not allowed"),
        ("a: *x", "f:1: a: a YAML alias (*x) is not allowed"),
        ("*x : 1", "f:1: a YAML alias (*x) is not allowed"),
        ("<<: {a: 1}", "f:1: a YAML merge key (<<) is not allowed"),
        ("a: 1\n'a': 2", "f:2: a: duplicate key, first given on line 1"),
        ("? [a]\n: 1", "f:1: a key must be a string"),
        ('a: "\\0"', "f:1: a: character U+0000 is not allowed"),
        ("a: 1\n\x07", "f:2: character U+0007 is not allowed in a text file"),
        ("a: \ud800", "f:1: character U+D800 is not allowed in a text file"),
        ("a: 1\n---\nb: 1", "f:2: only one YAML document is allowed"),
        ("", "f: is empty"),
        ("# x", "f: is empty"),
        ("---\n", "f: is empty"),
        ("~", "f: is empty"),
        ("x" * (MOST_BYTES + 1), "f: is larger than 256 KiB"),
        ("[" * 1000, f"f:1: is nested more than {MOST_DEPTH} levels deep"),
        ("- " * 1000, f"f:1: is nested more than {MOST_DEPTH} levels deep"),
    ],
)
def test_what_a_configuration_has_no_use_for_is_refused(text: str, why: str) -> None:
    """One line each, by both of PyYAML's parsers."""
    assert read(text)[1] == [why]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nodes, "_LOADER", yaml.SafeLoader)
        assert read(text)[1] == [why]


def test_what_is_refused_leaves_the_rest_readable() -> None:
    """So that all problems of a file are found at once."""
    root, problems = read("a: &x 1\nb: *x\nc: 2\nc: 3\n<<: *x\n")
    assert root == Block(
        1,
        (
            (Scalar(1, "a", True), Refused(1)),
            (Scalar(2, "b", True), Refused(2)),
            (Scalar(3, "c", True), Scalar(3, "2", True)),
        ),
    )
    assert [problem.split(":")[1] for problem in problems] == ["1", "2", "4", "5", "5"]


def test_a_quoted_merge_key_is_a_key() -> None:
    """Only YAML's own meaning is refused; what the key is worth is not decided here."""
    assert read('"<<": 1') == (Block(1, ((Scalar(1, "<<", False), Scalar(1, "1", True)),)), [])


@pytest.mark.parametrize("loader", [yaml.SafeLoader, getattr(yaml, "CSafeLoader", yaml.SafeLoader)])
@given(text=st.text(st.sampled_from(":-?![]{}&*#|>'\"%@`,\\ \n\t~<0aUx\x85\u2028é"), max_size=60) | st.text())
def test_no_text_raises(loader: type, text: str) -> None:
    """A text gives nodes, or problems of one line each, or both; with PyYAML's C parser and without."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nodes, "_LOADER", loader)
        report = Report("f")
        root = parse(text, report)
    error = report.error()
    assert root is not None or not report.clean
    assert len(str(error).splitlines()) == len(error.problems)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("control: /a\n", "/a"),
        ("workers: 9\ncontrol: '/a b' # here\nproxies: [\n", "/a b"),
        ("proxies: &x {p: [1, {control: /no}]}\ncontrol: /a\nb: 1\n\t", "/a"),
        ("workers: 1\n", ""),
        ("p: {control: /no}\n", ""),
        ("control:\n", ""),
        ("control: [/no]\n", ""),
        ("- control\n- /no\n", ""),
        ("control\n", ""),
        ("proxies: [\ncontrol: /no\n", None),
        ("\tcontrol: /no\n", None),
        (f"a: {'[' * 99}\ncontrol: /no\n", None),
        ("", None),
    ],
)
def test_a_key_is_found_before_the_place_where_a_file_is_broken(text: str, found: str | None) -> None:
    """Only on the top level; empty is what a whole file without it gives, None what nothing can be said of."""
    assert peek(text, "control") == found


@given(st.text(st.sampled_from("ab:[]{}-'\"#&*!\n\t \\\0"), max_size=30))
def test_peeking_at_anything_is_harmless(text: str) -> None:
    """It is done to files of which nothing is known but that they are broken."""
    assert isinstance(peek(text, "a"), str | None)


def test_peeking_ends_where_there_are_too_many_mistakes() -> None:
    """A file of something else altogether, which a command was told to read `control` of."""
    assert peek("a: 1\n" * 200, "control") is None
