"""What a running program needs of typing, without its import.

typing takes 3 ms of each start, and its NamedTuple 0.12 ms for each class: it compiles a
`__new__`.  A class of this one does that when it makes many tuples.  For a type checker all
names are those of typing.

Decided here and only here: what these names are at run time.  What only annotations use is
imported from typing under `if TYPE_CHECKING:`; annotations are not evaluated.

Source: `collections.namedtuple`, whose classes these behave as.
"""

from __future__ import annotations

TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import Generic, Literal, NamedTuple, NewType, Protocol, TypeVar, cast
else:
    from _collections import _tuplegetter

    # To compile takes as long as to make nine tuples; most classes of a start make fewer.
    _FEW = 8

    class Generic:
        """A base without effect, as `Generic[T]` and `Protocol` are; so is `Literal[...]`."""

        __slots__ = ()

        def __class_getitem__(cls, _):
            return cls

    Protocol = Literal = Generic

    def TypeVar(name, *_, **__):
        """Return what stands for the variable where a class is made of it."""
        return name

    def NewType(_, kind):
        """Return the type itself: of `int` it is as cheap as int."""
        return kind

    def cast(_, value):
        """Return `value`."""
        return value

    made_of = {}
    """How many tuples each class has made so far; it has no `__new__` of its own yet."""

    def _new(cls, /, *values, **named):
        """Make a tuple.  For one of many, make the `__new__` of the class, which is faster."""
        kind = next(each for each in cls.__mro__ if "_fields" in vars(each))
        made_of[kind] = many = made_of.get(kind, 0) + 1
        rest = kind._fields[len(values) :]
        if many <= _FEW and len(values) <= len(kind._fields) and named.keys() <= {*rest}:
            known = kind._field_defaults | named
            if known.keys() >= {*rest}:
                return tuple.__new__(cls, (*values, *(known[field] for field in rest)))
        return _with_own_new(kind)(cls, *values, **named)

    def _with_own_new(kind):
        """Give a class of named tuples its `__new__`, which raises its errors, and return it."""
        names = ", ".join(kind._fields)
        code = f"lambda _cls, {names}: _new(_cls, ({names}{',' if names else ''}))"
        made = eval(code, {"_new": tuple.__new__})
        made.__defaults__ = tuple(kind._field_defaults.values())
        made.__name__, made.__qualname__ = "__new__", f"{kind.__qualname__}.__new__"
        kind.__new__ = made
        made_of.pop(kind, None)
        return made

    class _Tuple(tuple):
        __slots__ = ()

        @classmethod
        def _make(cls, values):
            made = tuple.__new__(cls, values)
            if len(made) != len(cls._fields):
                raise TypeError(f"Expected {len(cls._fields)} arguments, got {len(made)}")
            return made

        def _replace(self, /, **changed):
            made = self._make(map(changed.pop, self._fields, self))
            if changed:
                raise ValueError(f"Got unexpected field names: {list(changed)!r}")
            return made

        def _asdict(self):
            return dict(zip(self._fields, self, strict=True))

        def __repr__(self):
            pairs = zip(self._fields, self, strict=True)
            return (
                f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in pairs)})"
            )

        def __getnewargs__(self):
            return tuple(self)

    class _Maker(type):
        """The class of NamedTuple: makes classes of named tuples of its subclasses."""

        def __new__(cls, name, _, namespace):
            fields = tuple(namespace.get("__annotations__", ()))
            defaults = {field: namespace.pop(field) for field in fields if field in namespace}
            if tuple(defaults) != fields[len(fields) - len(defaults) :]:
                raise TypeError(f"a field of {name} without default follows one with default")
            for at, field in enumerate(fields):
                namespace[field] = _tuplegetter(at, f"Alias for field number {at}")
            namespace |= {
                "__new__": _new,
                "__slots__": (),
                "__match_args__": fields,
                "_fields": fields,
                "_field_defaults": defaults,
            }
            return type(name, (_Tuple,), namespace)

    NamedTuple = type.__new__(_Maker, "NamedTuple", (), {})

__all__ = (
    "TYPE_CHECKING",
    "Generic",
    "Literal",
    "NamedTuple",
    "NewType",
    "Protocol",
    "TypeVar",
    "cast",
)
