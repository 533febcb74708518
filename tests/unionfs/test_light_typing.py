"""Named tuples without typing behave as typing's."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import typing

import pytest

from tests.helpers.mounts import DEADLINE
from unionfs import light_typing
from unionfs.light_typing import Generic, NamedTuple, NewType, Protocol, TypeVar, cast

T = TypeVar("T")
Number = NewType("Number", int)


class Theirs(typing.NamedTuple):
    """The same as `Ours`, by typing."""

    one: int
    two: str = "b"
    three: tuple[int, ...] = ()

    def both(self) -> str:
        return f"{self.one}{self.two}"


class Ours(NamedTuple):
    """One, two, three."""

    one: int
    two: str = "b"
    three: tuple[int, ...] = ()

    def both(self) -> str:
        return f"{self.one}{self.two}"


class Derived(Ours):
    """A class of its own, with a `__dict__`."""


class Nothing(NamedTuple):
    pass


class Held(NamedTuple, Generic[T]):
    value: T


def test_the_names_are_those_of_typing() -> None:
    assert {name for name in light_typing.__all__ if not hasattr(typing, name)} == set()


@pytest.mark.parametrize("given", [{"one": 1}, {"one": 1, "two": "c", "three": (1, 2)}])
def test_a_tuple_is_what_typing_makes(given: dict[str, typing.Any]) -> None:
    ours, theirs = Ours(**given), Theirs(**given)
    assert (
        tuple(ours) == tuple(theirs) and hash(ours) == hash(theirs) and ours.both() == theirs.both()
    )
    assert (ours.one, ours.two, ours.three) == (theirs.one, theirs.two, theirs.three)
    assert repr(ours) == repr(theirs).replace("Theirs", "Ours")
    assert ours._asdict() == theirs._asdict()
    assert tuple(ours._replace(two="z")) == tuple(theirs._replace(two="z"))
    assert type(ours._replace(two="z")) is Ours
    assert Ours._fields == Theirs._fields and Ours._field_defaults == Theirs._field_defaults
    assert Ours._make(theirs) == ours
    assert Ours.__doc__ == "One, two, three." and Ours.__module__ == __name__
    match ours:
        case Ours(one, two):
            assert (one, two) == theirs[:2]


def test_a_tuple_is_copied_and_pickled() -> None:
    ours = Ours(1)
    assert copy.deepcopy(ours) == ours == pickle.loads(pickle.dumps(ours))
    assert type(copy.copy(ours)) is Ours


def test_a_tuple_cannot_be_changed() -> None:
    ours = Ours(1)
    with pytest.raises(AttributeError):
        ours.one = 2  # type: ignore[misc]
    with pytest.raises(AttributeError):
        ours.four = 2  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", [Ours, Theirs])
@pytest.mark.parametrize(
    ("values", "named"), [((), {}), ((1, "b", (), 4), {}), ((1,), {"one": 1}), ((1,), {"four": 4})]
)
def test_wrong_fields_are_refused(
    kind: type, values: tuple[object, ...], named: dict[str, object]
) -> None:
    for _ in range(2):  # the first call makes the `__new__`
        with pytest.raises(TypeError, match=r"__new__\(\) "):
            kind(*values, **named)


def test_wrong_changes_are_refused() -> None:
    with pytest.raises(ValueError, match="four"):
        Ours(1)._replace(four=4)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="Expected 3"):
        Ours._make([1])


def test_a_class_of_a_class() -> None:
    made = Derived(1)
    assert made == (1, "b", ()) and type(made) is Derived and type(made._replace(one=2)) is Derived
    assert type(Ours(1)) is Ours


def test_a_class_without_fields_and_a_generic_one() -> None:
    assert Nothing() == () and Held("x").value == "x"
    with pytest.raises(TypeError):
        Nothing(1)  # type: ignore[call-arg]


def test_a_field_without_default_comes_first() -> None:
    with pytest.raises(TypeError, match="without default"):

        class Bad(NamedTuple):
            a: int = 1
            b: int  # type: ignore[misc]


def test_the_rest_is_plain() -> None:
    class Quacks(Protocol):
        def quack(self) -> str: ...

    class Duck(Quacks):
        def quack(self) -> str:
            return "quack"

    assert Duck().quack() == "quack" and Number(5) == 5
    assert cast(object, "x") == "x"


def test_typing_is_not_imported() -> None:
    code = "import sys, unionfs.light_typing; sys.exit('typing' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=DEADLINE).returncode == 0


def test_the_first_tuples_are_as_those_after_them() -> None:
    class Fresh(NamedTuple):
        one: int
        two: str = "b"

    class Beneath(Fresh):
        def __new__(cls, one: int) -> Beneath:
            return super().__new__(cls, one, two="c")

    for number in range(50):
        assert Fresh(number) == (number, "b")
        assert Fresh(two="x", one=number) == Fresh(number, "x") == (number, "x")
        made = Beneath(number)
        assert made == (number, "c") and type(made) is Beneath


@pytest.mark.parametrize("before", [0, 50])
@pytest.mark.parametrize(
    ("values", "named"), [((), {}), ((1, "b", 3), {}), ((1,), {"one": 1}), ((1,), {"three": 3})]
)
def test_wrong_arguments_are_refused(
    values: tuple[typing.Any, ...], named: dict[str, typing.Any], before: int
) -> None:
    class Fresh(NamedTuple):
        one: int
        two: str = "b"

    for number in range(before):
        Fresh(number)
    with pytest.raises(TypeError, match=r"Fresh\.__new__\(\)"):
        Fresh(*values, **named)
    assert Fresh(1) == (1, "b")


def test_a_class_is_not_compiled_for_its_first_tuples() -> None:
    class Rare(NamedTuple):
        one: int

    before = Rare.__new__
    assert Rare(1) == Rare(one=1) and Rare.__new__ is before
    assert len({Rare(number) for number in range(50)}) == 50 and Rare.__new__ is not before
