"""Values with named fields: `dataclass`, and no code written and compiled anew for every class.

A start makes some fifty of them before a port listens. With the library's decorator that is 0.3 ms for each, which it
spends on the source of seven functions, and together it was a quarter of a start. Here all share a few functions, and
the library keeps the fields: its `fields`, `replace` and `asdict` work, and type checkers see its own decorator. An
instance takes 3 us to make in place of 1. The modules that mypyc compiles have named tuples instead, since it knows the
library's decorator alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__all__ = ["dataclass"]

if TYPE_CHECKING:
    from dataclasses import dataclass
else:
    import dataclasses
    from operator import attrgetter

    def dataclass(*, frozen=False, slots=False, kw_only=False):
        """Return a decorator like `dataclasses.dataclass` with the same options."""

        def decorate(cls):
            # __init__, __repr__ and __eq__ (and what comes with frozen) are what it would write code for
            made = dataclasses.dataclass(init=False, repr=False, eq=False, slots=slots, kw_only=kw_only)(cls)
            for function in _functions(made, frozen):
                if function.__name__ not in cls.__dict__:
                    function.__qualname__ = f"{cls.__qualname__}.{function.__name__}"
                    setattr(made, function.__name__, function)
            return made

        return decorate

    def _functions(cls, frozen):
        """Return the methods of `cls`."""
        get = _getter(cls)

        def __repr__(self):
            shown = ", ".join(f"{each.name}={getattr(self, each.name)!r}" for each in dataclasses.fields(cls))
            return f"{self.__class__.__qualname__}({shown})"

        def __eq__(self, other):
            return get(self) == get(other) if other.__class__ is self.__class__ else NotImplemented

        def __hash__(self):
            return hash(get(self))

        def __setattr__(self, name, value):
            raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")

        def __delattr__(self, name):
            raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")

        if not frozen:
            cls.__hash__ = None  # as for every class with an __eq__
            return _init(cls), __repr__, __eq__
        return _init(cls), __repr__, __eq__, __hash__, __setattr__, __delattr__, *_state(cls, get)

    def _getter(cls):
        """Return what takes the values out of an instance, as a tuple."""
        names = [each.name for each in dataclasses.fields(cls)]
        get = attrgetter(*names) if names else None
        match len(names):
            case 0:
                return lambda self: ()
            case 1:
                return lambda self: (get(self),)
        return get

    def _init(cls):
        every = {each.name: each for each in dataclasses.fields(cls)}
        positional = [each.name for each in every.values() if not each.kw_only]
        put = object.__setattr__
        post = hasattr(cls, "__post_init__")

        def __init__(self, *args, **given):
            if args:
                named = dict(zip(positional, args, strict=False))
                if len(named) < len(args) or named.keys() & given.keys():
                    raise TypeError(f"{cls.__qualname__} takes {', '.join(positional)}, each once")
                given = named | given
            for name, field in every.items():
                if name in given:
                    put(self, name, given[name])
                elif field.default is not dataclasses.MISSING:
                    put(self, name, field.default)
                elif field.default_factory is not dataclasses.MISSING:
                    put(self, name, field.default_factory())
                else:
                    raise TypeError(f"{cls.__qualname__} lacks {name}")
            if not every.keys() >= given.keys():
                raise TypeError(f"{cls.__qualname__} has no {', '.join(given.keys() - every.keys())}")
            if post:
                self.__post_init__()

        return __init__

    def _state(cls, get):
        """Return how pickle and copy take a frozen one apart and put it together."""

        def __getstate__(self):
            return get(self)

        def __setstate__(self, state):
            for each, value in zip(dataclasses.fields(cls), state, strict=True):
                object.__setattr__(self, each.name, value)

        return __getstate__, __setstate__
