"""Enumerations without the import of enum, which takes 0.8 ms of each start, and 0.1 ms a class.

For a type checker all names are those of enum.  Decided here and only here: what these names are
at run time.  A member is a constant of its class with `name` and `value`; the class iterates over
its members, and called with a value returns the member, or raises ValueError.  There are no
aliases, no flags and no methods: nobody here needs them.

Source: the standard library's `enum.py`, whose classes these behave as.
"""

from __future__ import annotations

from unionfs.light_typing import TYPE_CHECKING

if TYPE_CHECKING:
    from enum import Enum, IntEnum, auto
else:

    class auto:
        """The value of a member that gets the next number, from 1 on."""

    class _Kind(type):
        def __new__(meta, name, bases, space):
            given = {key: value for key, value in space.items() if not key.startswith("__")}
            rest = {key: value for key, value in space.items() if key not in given}
            kind = super().__new__(meta, name, bases, rest)
            kind.by_value = {}
            number = int in kind.__mro__
            for key, value in given.items():
                if isinstance(value, auto):
                    value = len(kind.by_value) + 1
                member = int.__new__(kind, value) if number else object.__new__(kind)
                member.name, member.value = key, value
                kind.by_value[value] = member
                type.__setattr__(kind, key, member)
            return kind

        def __call__(cls, value):
            member = value if isinstance(value, cls) else cls.by_value.get(value)
            if member is None:
                raise ValueError(f"{value!r} is not a valid {cls.__qualname__}")
            return member

        def __getitem__(cls, name):
            return next(member for member in cls if member.name == name)

        def __iter__(cls):
            return iter(cls.by_value.values())

        def __len__(cls):
            return len(cls.by_value)

        def __setattr__(cls, name, value):
            if isinstance(vars(cls).get(name), cls):
                raise AttributeError(f"cannot reassign member {name!r}")
            type.__setattr__(cls, name, value)

    class Enum(metaclass=_Kind):
        """The base of enumerations."""

        def __repr__(self):
            return f"<{type(self).__qualname__}.{self.name}: {self.value!r}>"

        def __str__(self):
            return f"{type(self).__qualname__}.{self.name}"

        def __reduce_ex__(self, _):
            return type(self), (self.value,)  # a copy is the member itself

    class IntEnum(int, Enum):
        """The base of enumerations whose members are integers."""

        __str__ = int.__repr__


__all__ = ["Enum", "IntEnum", "auto"]
