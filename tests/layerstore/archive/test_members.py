"""Names of an archive become bytes, and lead nowhere else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from layerstore.archive.members import (
    DirectoryMembers,
    Section,
    TarMembers,
    open_members,
    read_document,
)
from layerstore.errors import InvalidImage, LimitExceeded, NotATar, StoreError
from layerstore.limits import Limits
from layerstore.oci.json_values import DOCUMENT_LIMIT
from tests.layerstore.archives import file, folder, hardlink, symlink, whole


def members_of(tmp_path: Path, *parts: bytes, limits: Limits | None = None) -> TarMembers:
    path = tmp_path / "a.tar"
    path.write_bytes(whole(*parts))
    return TarMembers(path.open("rb"), limits or Limits())


def content(members: TarMembers | DirectoryMembers, name: str) -> bytes | None:
    section = members.open(name)
    return None if section is None else section.readall()


def test_a_member_is_read_where_it_lies_and_more_than_once(tmp_path: Path) -> None:
    members = members_of(tmp_path, file(b"a", b"one"), folder(b"d"), file(b"./d/b", b"two"))
    for _ in range(2):
        assert content(members, "a") == b"one"
        assert content(members, "d/../d/./b") == b"two"
    assert [content(members, name) for name in ("d", "none", "a/x", "../a")] == [None] * 4
    members.close()


def test_links_are_followed_within_the_archive(tmp_path: Path) -> None:
    members = members_of(
        tmp_path,
        file(b"d/real", b"x"),
        symlink(b"up", b"../../../d/real"),
        hardlink(b"hard", b"d/real"),
        symlink(b"d/beside", b"real"),
        symlink(b"out", b"/etc/hostname"),
        symlink(b"round", b"round"),
    )
    for name in ("up", "hard", "d/beside"):
        assert content(members, name) == b"x"
    assert content(members, "out") is None
    with pytest.raises(InvalidImage, match="in circles"):
        members.open("round")
    members.close()


def test_the_last_of_equal_names_counts(tmp_path: Path) -> None:
    members = members_of(tmp_path, file(b"a", b"old"), file(b"a", b"new"))
    assert content(members, "a") == b"new"
    members.close()


def test_documents_have_a_limit_each_and_together(tmp_path: Path) -> None:
    members = members_of(tmp_path, file(b"a", b"12345"), limits=Limits(documents=9))
    assert read_document(members, "a") == b"12345"
    with pytest.raises(LimitExceeded, match="together"):
        read_document(members, "a")
    members.close()
    (tmp_path / "large").write_bytes(bytes(DOCUMENT_LIMIT + 1))
    there = DirectoryMembers(tmp_path)
    with pytest.raises(LimitExceeded, match="larger than 8 MiB"):
        read_document(there, "large")
    there.close()


def test_a_directory_is_not_left_and_never_waited_for(tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    (tmp_path / "secret").write_text("secret")
    (inside / "a").write_text("a")
    (inside / "up").symlink_to("../secret")
    (inside / "absolute").symlink_to(tmp_path / "secret")
    (inside / "good").symlink_to("/a")
    os.mkfifo(inside / "fifo")
    there = DirectoryMembers(inside)
    assert content(there, "a") == content(there, "good") == b"a"
    assert [content(there, name) for name in ("up", "absolute", "fifo", "../secret", ".")] == (
        [None] * 5
    )
    there.close()


def test_a_section_ends_where_it_ends(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"0123456789")
    section = Section(os.open(tmp_path / "f", os.O_RDONLY), 2, 5, owned=True)
    assert (section.read(3), section.read(9), section.read(9)) == (b"234", b"56", b"")
    section.close()


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(
        StoreError, match=r"the archive .*/none cannot be read: No such file or directory$"
    ):
        open_members(tmp_path / "none", tmp_path)
    (tmp_path / "text").write_bytes(b"x" * 1000)
    with pytest.raises(NotATar, match="this is no tar archive of images"):
        open_members(tmp_path / "text", tmp_path)
