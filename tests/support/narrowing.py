"""Finds where the compiled form would trust what mypy has narrowed, after a call that may have changed it.

mypy goes on believing `if self.link is not None` after a call, though the call may have set it to None. Plain Python
looks again and finds None; mypyc has left the look out and casts, and the cast raises TypeError in the middle of the
data path. So, in what is compiled: an attribute that may be None is taken into a local variable, or looked at anew
through a method, whenever a call lies between the look and the use.

The scan knows no types. It takes as an attribute that may be None each name that some class declares so, follows each
function in the order of evaluation, and reports every read of a narrowed attribute behind a call.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

HARMLESS = {
    "abs", "bool", "bytes", "dict", "float", "frozenset", "int", "isinstance", "len", "list", "max", "min", "range",
    "round", "set", "sorted", "str", "sum", "tuple", "zip",
}  # fmt: skip
"""Functions of the language that run nothing of ours."""
ENDS = (ast.Return, ast.Raise, ast.Continue, ast.Break)
Look = tuple[str, bool]
"""The text of an attribute (`self.link`), and whether it was seen to be None."""
Narrowed = dict[Look, bool]
"""What is narrowed here, and whether a call has come since."""


@dataclass(frozen=True, slots=True)
class Place:
    """One read that the compiled form may trip over."""

    file: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.text} was narrowed before a call: take it into a local variable"


def optional_names(files: Iterable[Path]) -> set[str]:
    """Return the names of the attributes and properties that some class in `files` declares to be None at times."""
    return {name for file in files for node in ast.walk(ast.parse(file.read_text())) for name in _declared(node)}


def _declared(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.AnnAssign) and _may_be_none(node.annotation):
        if isinstance(node.target, ast.Attribute):
            yield node.target.attr
    elif isinstance(node, ast.ClassDef):
        for each in node.body:
            if isinstance(each, ast.AnnAssign) and _may_be_none(each.annotation) and isinstance(each.target, ast.Name):
                yield each.target.id
            decorators = [ast.unparse(one) for one in getattr(each, "decorator_list", ())]
            if isinstance(each, ast.FunctionDef) and "property" in decorators and _may_be_none(each.returns):
                yield each.name


def _may_be_none(annotation: ast.expr | None) -> bool:
    return annotation is not None and "None" in ast.unparse(annotation).replace("Callable", "").split(" | ")


def scan(text: str, file: str, optional: set[str]) -> list[Place]:
    """Return the places in one module."""
    found: dict[tuple[int, str], Place] = {}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            walk = _Walk(file, optional, found)
            walk.block(node.body)
    return sorted(found.values(), key=lambda place: place.line)


@dataclass(slots=True)
class _Walk:
    """One function, in the order of evaluation."""

    file: str
    optional: set[str]
    found: dict[tuple[int, str], Place]
    narrowed: Narrowed = field(default_factory=dict)

    def block(self, statements: list[ast.stmt]) -> bool:
        """Follow statements; returns whether the end is never reached."""
        return any(map(self.statement, statements))  # no further than that

    def statement(self, node: ast.stmt) -> bool:
        """Follow one; returns whether what comes behind it is never reached."""
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                return False  # looked at by itself: mypy forgets what it has narrowed there
            case ast.If():
                return self._branch(node)
            case ast.While():
                self._loop(node.test, node.body)
                self.narrowed |= dict.fromkeys(self._if_false(node.test), False)
                return self.block(node.orelse)
            case ast.For() | ast.AsyncFor():
                self.read(node.iter)
                self._loop(None, node.body)
                return self.block(node.orelse)
            case ast.Try():
                self._try(node)
                return False
            case ast.With() | ast.AsyncWith():
                for each in node.items:
                    self.read(each.context_expr)
                return self.block(node.body)
            case ast.Assign() | ast.AnnAssign() | ast.AugAssign():
                self._assign(node)
                return False
        for child in ast.iter_child_nodes(node):
            self.read(child)
        return isinstance(node, ENDS)

    def _branch(self, node: ast.If) -> bool:
        self.read(node.test)
        before = dict(self.narrowed)
        self.narrowed = before | dict.fromkeys(self._if_true(node.test), False)
        ended = self.block(node.body)
        after = self.narrowed
        self.narrowed = before | dict.fromkeys(self._if_false(node.test), False)
        other_ended = self.block(node.orelse)
        if other_ended:
            self.narrowed = after
        elif not ended:
            both = after.keys() & self.narrowed.keys()
            self.narrowed = {key: after[key] or self.narrowed[key] for key in both}
        return ended and other_ended

    def _loop(self, test: ast.expr | None, body: list[ast.stmt]) -> None:
        before = dict(self.narrowed)
        for _ in range(2):  # what a call in the first round has changed is read in the second
            if test is not None:
                self.read(test)
                self.narrowed |= dict.fromkeys(self._if_true(test), False)
            self.block(body)
            self.narrowed = {key: stale or self.narrowed.get(key, True) for key, stale in before.items()}

    def _try(self, node: ast.Try) -> None:
        before = dict(self.narrowed)
        ended = self.block(node.body) or self.block(node.orelse)
        after = None if ended else self.narrowed
        for handler in node.handlers:
            self.narrowed = dict.fromkeys(before, True)
            if not self.block(handler.body):
                kept = self.narrowed
                after = kept if after is None else dict.fromkeys(after.keys() & kept.keys(), True)
        self.narrowed = after or {}
        self.block(node.finalbody)

    def _assign(self, node: ast.Assign | ast.AnnAssign | ast.AugAssign) -> None:
        if node.value is not None:
            self.read(node.value)
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        for target in (one for each in targets for one in (each.elts if isinstance(each, ast.Tuple) else [each])):
            self._forget(ast.unparse(target))
            if isinstance(target, ast.Attribute) and target.attr in self.optional and _narrows(node.value):
                none = isinstance(node.value, ast.Constant) and node.value.value is None
                self.narrowed[ast.unparse(target), none] = False

    def _forget(self, text: str) -> None:
        gone = [look for look in self.narrowed if look[0] == text or look[0].startswith(f"{text}.")]
        for look in gone:
            del self.narrowed[look]

    def read(self, node: ast.AST) -> None:
        """Follow an expression."""
        match node:
            case ast.Lambda() | ast.FunctionDef():
                return
            case ast.BoolOp():
                before = dict(self.narrowed)
                for value in node.values:
                    self.read(value)
                    told = self._if_true(value) if isinstance(node.op, ast.And) else self._if_false(value)
                    self.narrowed |= dict.fromkeys(told, False)
                self.narrowed = {key: stale or self.narrowed.get(key, True) for key, stale in before.items()}
            case ast.IfExp():
                self.read(node.test)
                before = dict(self.narrowed)
                self.narrowed = before | dict.fromkeys(self._if_true(node.test), False)
                self.read(node.body)
                after = self.narrowed
                self.narrowed = before | dict.fromkeys(self._if_false(node.test), False)
                self.read(node.orelse)
                self.narrowed = {key: after.get(key, True) or self.narrowed.get(key, True) for key in before}
            case ast.Call():
                for child in ast.iter_child_nodes(node):
                    self.read(child)
                if not (isinstance(node.func, ast.Name) and node.func.id in HARMLESS):
                    self.narrowed = dict.fromkeys(self.narrowed, True)
            case ast.Attribute():
                self.read(node.value)
                text = ast.unparse(node)
                if self.narrowed.get((text, True)) or self.narrowed.get((text, False)):
                    self.found[node.lineno, text] = Place(self.file, node.lineno, text)
            case _:
                for child in ast.iter_child_nodes(node):
                    self.read(child)

    def _if_true(self, test: ast.expr) -> set[Look]:
        match test:
            case ast.Compare(left=left, ops=[ast.Is() | ast.IsNot() as how], comparators=[ast.Constant(value=None)]):
                return self._named(left, isinstance(how, ast.Is))
            case ast.BoolOp(op=ast.And(), values=values):
                return set().union(*map(self._if_true, values))
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return self._if_false(operand)
            case ast.Call(func=ast.Name(id="isinstance"), args=[first, _]):
                return self._named(first, False)
        return self._named(test, False)

    def _if_false(self, test: ast.expr) -> set[Look]:
        match test:
            case ast.Compare(left=left, ops=[ast.Is() | ast.IsNot() as how], comparators=[ast.Constant(value=None)]):
                return self._named(left, isinstance(how, ast.IsNot))
            case ast.BoolOp(op=ast.Or(), values=values):
                return set().union(*map(self._if_false, values))
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return self._if_true(operand)
        return set()

    def _named(self, node: ast.expr, none: bool) -> set[Look]:
        if isinstance(node, ast.Attribute) and node.attr in self.optional:
            return {(ast.unparse(node), none)}
        return set()


def _narrows(value: ast.expr | None) -> bool:
    """Whether an assignment may tell mypy that it is None, or that it is not."""
    if isinstance(value, ast.Constant | ast.Name):
        return True
    return isinstance(value, ast.Call) and ast.unparse(value.func).rpartition(".")[2][:1].isupper()
