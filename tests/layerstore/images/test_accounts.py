"""The users and groups of an image; more hostile files are in test_user of the containers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from layerstore.errors import StoreError
from layerstore.images.accounts import groups, id_number, is_number, users


def rows(root: Path) -> tuple[list[list[str]], list[list[str]]]:
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return users(fd), groups(fd)
    finally:
        os.close(fd)


def test_lines_that_are_none_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("me:x:1:2::/h:/s\nshort:x:1\nme:x:one:2::/:\n")
    (tmp_path / "etc/group").write_text("g:x:3:me\n")
    assert rows(tmp_path) == ([["me", "x", "1", "2", "", "/h", "/s"]], [["g", "x", "3", "me"]])


def test_a_missing_file_has_no_lines(tmp_path: Path) -> None:
    assert rows(tmp_path) == ([], [])


def test_a_link_is_followed_within_the_image(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").symlink_to("/other")
    (tmp_path / "other").write_text("in:x:1:2:::\n")
    assert rows(tmp_path)[0][0][0] == "in"


def test_a_fifo_does_not_hang(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    os.mkfifo(tmp_path / "etc/passwd")
    assert rows(tmp_path)[0] == []


def test_numbers() -> None:
    assert is_number("12")
    assert not is_number("٣")
    assert id_number("2147483647") == 2147483647
    with pytest.raises(StoreError, match="must be in range"):
        id_number("2147483648")


def test_a_directory_in_its_place_has_no_lines(tmp_path: Path) -> None:
    (tmp_path / "etc/passwd").mkdir(parents=True)
    before = os.listdir("/proc/self/fd")
    assert rows(tmp_path) == ([], [])
    assert os.listdir("/proc/self/fd") == before
