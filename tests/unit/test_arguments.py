"""What is said of words that should not stand on the command line."""

from __future__ import annotations

import argparse

import pytest

from lbproxy.arguments import Parser, near


@pytest.mark.parametrize(
    ("word", "question"),
    [("mastr1", ", did you mean master1 or m1?"), ("m9", ", did you mean m2 or m1?"), ("zzz", ""), ("", "")],
)
def test_only_what_is_near_is_asked_for(word: str, question: str) -> None:
    """A list of everything helps nobody."""
    assert near(word, ["master1", "m1", "m2"]) == question


def test_other_mistakes_are_told_as_argparse_tells_them(capsys: pytest.CaptureFixture[str]) -> None:
    """A choice that is no command, too."""
    parser = Parser(prog="p")
    parser.add_argument("--sort", choices=["age", "idle"])
    with pytest.raises(SystemExit) as ended:
        parser.parse_args(["--sort", "size"])
    assert ended.value.code == 2
    assert "argument --sort: invalid choice: 'size'" in capsys.readouterr().err
    assert isinstance(parser, argparse.ArgumentParser)
