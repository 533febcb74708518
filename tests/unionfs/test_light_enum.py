"""Enumerations without enum behave as those of enum, in what is used of them."""

from __future__ import annotations

import copy
import enum
import pickle
from types import ModuleType

import pytest

from unionfs import light_enum

MODULES = (light_enum, enum)


class Colour(light_enum.Enum):
    """A docstring."""

    RED = light_enum.auto()
    BLUE = light_enum.auto()


def made(module: ModuleType) -> tuple[type[enum.Enum], type[enum.IntEnum]]:
    class Form(module.Enum):  # type: ignore[name-defined, misc]
        """A docstring."""

        ROUND = "round"
        OTHER = 2
        LONG = "long"

    class Number(module.IntEnum):  # type: ignore[name-defined, misc]
        ONE = 1
        FIVE = 5

    return Form, Number


@pytest.mark.parametrize("module", MODULES)
def test_members_have_a_name_and_a_value(module: ModuleType) -> None:
    form, number = made(module)
    assert [(one.name, one.value) for one in form] == [
        *(("ROUND", "round"), ("OTHER", 2), ("LONG", "long"))
    ]
    assert [(one.name, one.value) for one in number] == [("ONE", 1), ("FIVE", 5)]
    assert (len(form), form.__doc__) == (3, "A docstring.")
    assert form["ROUND"] is form("round") is form(form("round"))


@pytest.mark.parametrize("module", MODULES)
def test_a_value_without_a_member_is_refused(module: ModuleType) -> None:
    for kind, value in zip(made(module), ("square", 2), strict=True):
        with pytest.raises(ValueError, match=f"{value!r} is not a valid "):
            kind(value)


@pytest.mark.parametrize("module", MODULES)
def test_members_are_told_apart_and_integers_are_integers(module: ModuleType) -> None:
    form, number = made(module)
    assert len({*form}) == 3 and "round" not in {*form}
    assert number(5) == 5 and {5: "five"}[number(5)] == "five" and number(1) | number(5) == 5
    assert f"{number(5)}" == "5" and str(form("round")).endswith("Form.ROUND")
    assert isinstance(number(5), int) and isinstance(number(5), number)
    assert "Form.ROUND: 'round'>" in repr(form("round"))


def test_numbers_are_given_from_one_on() -> None:
    assert [one.value for one in Colour] == [1, 2]


def test_a_copy_is_the_member_itself() -> None:
    for one in Colour:
        assert copy.deepcopy(one) is copy.copy(one) is one
        assert pickle.loads(pickle.dumps(one)) is one


def test_a_member_stays_what_it_is() -> None:
    with pytest.raises(AttributeError):
        Colour.RED = Colour.BLUE  # type: ignore[misc, assignment]
    assert Colour.RED.name == "RED"
