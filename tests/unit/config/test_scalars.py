"""One value to text and back."""

from __future__ import annotations

from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbproxy.config.model import Config, Duration, ProxyConfig, ServerConfig, Text, Whole
from lbproxy.config.scalars import constraint, duration, expects, members, read, required, write

HOUR = Annotated[float, Duration(0.1, 3600)]
HOUR_OR_OFF = Annotated[float, Duration(0.1, 3600, zero=True)]
SMALL = Annotated[int, Whole(1, 10)]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("250ms", 0.25), ("1s", 1), ("10m", 600), ("1h", 3600), ("5", 5), ("1.5", 1.5), ("0.5m", 30), ("100ms", 0.1)],
)
def test_a_duration_is_a_number_with_a_unit_or_of_seconds(text: str, seconds: float) -> None:
    """The four units of the contract, and none."""
    assert read(HOUR, text) == seconds


@pytest.mark.parametrize(
    "text", ["", "0", "99ms", "3601", "1h30m", "1 s", "-1", "+1", "1e3", "010", ".5", "1d", "1S", "٣", "nan"]
)
def test_anything_else_is_no_duration(text: str) -> None:
    """Signs, exponents, compounds, leading zeros (octal in YAML 1.1), other units and other digits are refused."""
    with pytest.raises(ValueError, match="must be a duration from 100ms to 1h, got"):
        read(HOUR, text)


@pytest.mark.parametrize("text", ["0", "0s", "0ms", "0.0h"])
def test_zero_is_a_duration_where_it_switches_something_off(text: str) -> None:
    """Only with `zero`, and the lower limit still holds for the rest."""
    assert read(HOUR_OR_OFF, text) == 0
    with pytest.raises(ValueError, match="must be 0 or a duration from 100ms to 1h, got '50ms'"):
        read(HOUR_OR_OFF, "50ms")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0"),
        (0.25, "250ms"),
        (1.5, "1500ms"),
        (90, "90s"),
        (600, "10m"),
        (5400, "90m"),
        (7200, "2h"),
        (0.0105, "0.0105s"),
    ],
)
def test_a_duration_is_written_in_the_largest_whole_unit(seconds: float, text: str) -> None:
    """As nginx writes them."""
    assert duration(seconds) == text


@given(st.integers(100, 3_600_000))
def test_every_millisecond_survives_being_written(thousandths: int) -> None:
    """`read` undoes `write`."""
    assert read(HOUR, write(thousandths / 1000)) == thousandths / 1000


@pytest.mark.parametrize("text", ["0", "11", "x", "1.0", "01", "1_0", "0x1", "-1", " 1", "1\n", "9" * 10_000])
def test_a_whole_number_is_decimal_digits_within_its_limits(text: str) -> None:
    """No other base, no separators, and no number that takes long to read."""
    with pytest.raises(ValueError, match="must be a whole number from 1 to 10, got"):
        read(SMALL, text)
    assert read(SMALL, "10") == 10


def test_yes_and_no_are_what_yaml_1_1_says() -> None:
    """In any case of letters."""
    for text in ("true", "yes", "on", "On", "TRUE"):
        assert read(bool, text) is True
    for text in ("false", "no", "off", "Off", "FALSE"):
        assert read(bool, text) is False
    with pytest.raises(ValueError, match="must be true or false, got '1'"):
        read(bool, "1")


def test_a_choice_names_all_choices() -> None:
    """And `off` is a word where it is one of them."""
    assert read(Literal["off", "v1"], "off") == "off"
    with pytest.raises(ValueError, match=r"^must be one of off, v1, got 'OFF'$"):
        read(Literal["off", "v1"], "OFF")


def test_an_alternative_is_taken_when_it_fits() -> None:
    """`workers` is a number or `auto`."""
    hint = members(Config)["workers"]
    assert (read(hint, "auto"), read(hint, "4")) == ("auto", 4)
    assert expects(hint) == "a whole number from 1 to 256 or auto"


def test_a_text_must_match_its_pattern_whole() -> None:
    """A newline at the end is not overlooked."""
    hint = Annotated[str, Text("letters", "[a-z]+")]
    assert read(hint, "abc") == "abc"
    for text in ("", "abc\n", "abc1"):
        with pytest.raises(ValueError, match="must be letters, got"):
            read(hint, text)


def test_optional_keys_are_read_as_what_they_hold() -> None:
    """`None` is the absence of the key and never a value of it."""
    hint = members(ProxyConfig)["health"]
    assert required(hint).__name__ == "HealthConfig"
    assert required(members(ServerConfig)["name"]) == members(ServerConfig)["name"]


def test_a_kind_that_no_text_stands_for_is_a_bug() -> None:
    """A new kind of field must be taught to this module."""
    assert constraint(dict) is dict
    with pytest.raises(TypeError, match="no text can stand for"):
        read(dict, "x")


def test_values_are_written_as_they_would_stand_in_the_file() -> None:
    """For the lines of a reload."""
    assert [write(v) for v in (None, True, False, 3, "x", 600.0)] == ["none", "true", "false", "3", "x", "10m"]
