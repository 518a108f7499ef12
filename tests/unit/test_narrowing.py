"""What is compiled trusts no attribute across a call: see tests/support/narrowing.py for why."""

from __future__ import annotations

import textwrap

import pytest

from tests.support.narrowing import optional_names, scan
from tests.unit.test_imports import MODULES

COMPILED = [name for name in MODULES if name.partition(".")[0] in {"balance", "net", "relay", "proxy"}]
PENDING: set[str] = set()
"""To be mended."""
OPTIONAL = {"link", "_dial", "_pipe", "server"}


def found(body: str) -> list[str]:
    """Return what the scan reports of one function, as `line text`."""
    text = "def f(self, pipe):\n" + textwrap.indent(textwrap.dedent(body).strip(), "    ")
    return [f"{place.line - 1} {place.text}" for place in scan(text, "f.py", OPTIONAL)]


TRUSTED = {
    "assigned, called, compared: a master that is slow was reset": (
        """
        self._dial = dial = Dial(self)
        dial.start()
        if self._dial is not None:
            self.at(1)
        """,
        ["3 self._dial"],
    ),
    "assigned from a variable, called, compared: splice that is refused": (
        """
        self._pipe = pipe
        size = self._spill(pipe)
        return IDLE if self._pipe is not None else MORE
        """,
        ["3 self._pipe"],
    ),
    "looked at, called, used": (
        """
        if self.link is not None:
            self.harden()
            return self.link.idle()
        """,
        ["3 self.link"],
    ),
    "returned on None, called, used": (
        """
        if self.link is None:
            return
        self.harden()
        self.link.idle()
        """,
        ["4 self.link"],
    ),
    "used as an argument of the call that comes second": (
        "return self.link is not None and self.harden() and self.ask(self.link)",
        ["1 self.link"],
    ),
    "called in the first round of a loop, used in the second": (
        """
        if self.server is not None:
            for each in many:
                self.server.cut(each)
        """,
        ["3 self.server"],
    ),
    "in a condition and its branch": ("return self.ask(self.link.fd()) if self.link else self.link", []),
    "another's attribute": (
        """
        if wait.server is not None:
            self.harden(wait.server)
            wait.server.close()
        """,
        ["3 wait.server"],
    ),
}
SAFE = {
    "taken into a local variable": (
        """
        link = self.link
        if link is not None:
            self.harden()
            link.idle()
        """
    ),
    "used by the first call itself": "return self.link.idle() if self.link is not None else 0",
    "looked at again behind the call": (
        """
        if self.link is not None:
            self.link.idle()
        self.harden()
        if self.link is not None:
            self.link.idle()
        """
    ),
    "called in a branch that ends": (
        """
        if self.link is not None:
            if self.old:
                return self.harden()
            self.link.idle()
        """
    ),
    "only functions of the language between": (
        """
        if self.link is not None:
            count = len(self.all)
            self.link.idle(max(count, 1))
        """
    ),
    "assigned anew behind the call": (
        """
        if self.link is not None:
            self.harden()
            self.link = make()
        """
    ),
}


@pytest.mark.parametrize(("body", "places"), TRUSTED.values(), ids=TRUSTED)
def test_a_read_behind_a_call_is_found(body: str, places: list[str]) -> None:
    """The first two are what the field met: `Dial object expected; got None` in the compiled form alone."""
    assert found(body) == places


@pytest.mark.parametrize("body", SAFE.values(), ids=SAFE)
def test_a_look_that_still_holds_is_left_alone(body: str) -> None:
    """A guard that cries at what is right would be switched off."""
    assert found(body) == []


def test_names_that_may_be_none_are_those_declared_so() -> None:
    """As an attribute in `__init__`, as a field, or as a property."""
    names = optional_names(MODULES[name] for name in COMPILED)
    assert {"link", "lease", "server"} <= names


@pytest.mark.parametrize("module", sorted(set(COMPILED) - PENDING))
def test_no_attribute_is_trusted_across_a_call(module: str) -> None:
    """The two forms behave alike only if neither depends on what the other has forgotten."""
    optional = optional_names(MODULES[name] for name in COMPILED)
    places = scan(MODULES[module].read_text(), str(MODULES[module]), optional)
    assert not places, "\n".join(map(str, places))
