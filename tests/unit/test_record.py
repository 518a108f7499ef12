"""Records: what the library's dataclasses do, without their cost."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from typing import Any

import pytest

from lbproxy import record


def _made(dataclass: Any) -> list[type[Any]]:
    @dataclass(frozen=True, slots=True)
    class Frozen:
        """Frozen."""

        a: int
        b: str = "b"
        c: list[int] = dataclasses.field(default_factory=list)

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Named:
        """By name alone; `b` follows from `a`."""

        a: int = 1
        b: str = ""

        def __post_init__(self) -> None:
            object.__setattr__(self, "b", self.b or str(self.a))

    @dataclass(slots=True)
    class Loose:
        """May be written to, and says itself how it looks."""

        a: int

        def __repr__(self) -> str:
            return f"<{self.a}>"

    @dataclass(frozen=True, slots=True)
    class Nothing:
        """Without a field."""

    return [Frozen, Named, Loose, Nothing]


OURS = _made(vars(record)["dataclass"])
THEIRS = _made(dataclasses.dataclass)


def outcome(do: Any, *with_: Any) -> object:
    """Return what comes of it as words, or the kind of error."""
    try:
        return repr(do(*with_))
    except (TypeError, AttributeError) as error:
        return type(error)


@pytest.mark.parametrize(
    "do",
    [
        lambda frozen, *_: frozen(1),
        lambda frozen, *_: frozen(1, "x", [2]),
        lambda frozen, *_: frozen(b="x", a=1),
        lambda frozen, *_: frozen(1, a=1),
        lambda frozen, *_: frozen(1, "x", [2], 3),
        lambda frozen, *_: frozen(1, d=2),
        lambda frozen, *_: frozen(),
        lambda frozen, *_: (frozen(1) == frozen(1), frozen(1) == frozen(2), frozen(1) == (1, "b", [])),
        lambda frozen, *_: frozen(1).c is frozen(1).c,
        lambda frozen, *_: setattr(frozen(1), "a", 2),
        lambda frozen, *_: delattr(frozen(1), "a"),
        lambda frozen, *_: hash(frozen(1, "x", ())) == hash((1, "x", ())),
        lambda frozen, *_: hash(frozen(1)),
        lambda frozen, *_: copy.deepcopy(frozen(1, "x", [2])),
        lambda frozen, *_: dataclasses.replace(frozen(1), b="y"),
        lambda frozen, *_: dataclasses.asdict(frozen(1)),
        lambda frozen, *_: (frozen.__match_args__, frozen.__slots__, frozen.__init__.__qualname__),
        lambda _, named, *__: (named(), named(a=2), named(b="x")),
        lambda _, named, *__: named(1),
        lambda _, named, *__: (hash(named()) == hash((1, "1")), named.__match_args__),
        lambda _, __, loose, ___: loose(1),
        lambda _, __, loose, ___: hash(loose(1)),
        lambda _, __, loose, ___: setattr(loose(1), "a", 2),
        lambda _, __, loose, ___: setattr(loose(1), "z", 2),
        lambda _, __, loose, ___: copy.copy(loose(1)) == loose(1),
        lambda *classes: (classes[3](), classes[3]() == classes[3](), hash(classes[3]()) == hash(())),
    ],
)
def test_a_record_is_a_dataclass(do: Any) -> None:
    """Whatever is done with it, the library's own would have come out the same."""
    assert outcome(do, *OURS) == outcome(do, *THEIRS)


def test_a_record_is_sent_to_another_process() -> None:
    """As the workers' views are."""
    from lbproxy.config.model import Address

    assert pickle.loads(pickle.dumps(Address("::1", 6443))) == Address("::1", 6443)  # noqa: S301 (our own)
