"""The error of a Containerfile names the place and shows the line."""

from __future__ import annotations

import pytest

from layerstore.containerfile.errors import ContainerfileError, Location, located
from layerstore.errors import StoreError


def test_place_and_line_are_in_the_text() -> None:
    error = ContainerfileError(Location("dir/f", 3, 4, "RUN a   b"), "it is wrong")
    assert str(error) == "dir/f:3: it is wrong\n  RUN a   b"
    assert error.reason == "it is wrong"
    assert error.exit_code == 1


def test_a_line_cannot_write_to_the_terminal() -> None:
    error = ContainerfileError(Location("f", 1, 1, "RUN \x1b[2J" + "x" * 500), "no")
    assert "\x1b" not in str(error)
    assert len(str(error)) < 300


def test_an_error_of_the_whole_file_has_no_line() -> None:
    assert str(ContainerfileError(None, "f: file with no instructions")) == (
        "f: file with no instructions"
    )


def test_an_error_within_is_located_once() -> None:
    place = Location("f", 3, 3, "FROM x")
    with pytest.raises(ContainerfileError, match=r"^f:3: gone\n  FROM x$"), located(place):
        raise StoreError("gone")
    inner = ContainerfileError(Location("f", 5, 5, "RUN y"), "no")
    with pytest.raises(ContainerfileError) as caught, located(place):
        raise inner
    assert caught.value is inner
