"""The types of instructions: all of the reference, immutable, each with its place."""

from __future__ import annotations

from typing import get_args

import pytest

from layerstore.containerfile.errors import Location
from layerstore.containerfile.instructions import Instruction, User

REFERENCE = (
    "ADD ARG CMD COPY ENTRYPOINT ENV EXPOSE FROM HEALTHCHECK LABEL MAINTAINER ONBUILD RUN SHELL"
    " STOPSIGNAL USER VOLUME WORKDIR"
)


def test_every_instruction_of_the_reference_has_a_type() -> None:
    assert sorted(kind.__name__.upper() for kind in get_args(Instruction)) == REFERENCE.split()


def test_an_instruction_does_not_change() -> None:
    user = User(Location("f", 1, 1, "USER me"), "me")
    with pytest.raises(AttributeError):
        user.user = "you"  # type: ignore[misc]
    assert all(kind._fields[0] == "at" for kind in get_args(Instruction))
