"""Digests of sources: docker's own values, what counts, and that nothing stale is found."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from layerstore.build import source_digest
from layerstore.build.source_digest import Digester, SourceDigest, of_content, of_several
from layerstore.build.tree import Tree
from layerstore.db.build_table import FileKey
from layerstore.errors import StoreError
from tests.layerstore.build.mini_build import written


class Memo:
    """Remembers digests, and counts what it was asked."""

    def __init__(self) -> None:
        self.kept: dict[FileKey, bytes] = {}
        self.hits = 0

    def find(self, known: FileKey) -> bytes | None:
        found = self.kept.get(known)
        self.hits += found is not None
        return found

    def keep(self, known: FileKey, digest: bytes) -> None:
        self.kept[known] = digest


def digest(
    root: Path, path: str, memo: Memo | None = None, *, owners: bool = False
) -> SourceDigest:
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        tree = Tree(fd, owners=owners)
        digester = Digester(tree, memo)
        found = tree.find(path)
        assert found is not None
        if os.path.isdir(root / found.path):
            return digester.directory(tree.walk(found.path))
        return digester.file(found.path, found.st)
    finally:
        os.close(fd)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The context of which docker 20.10 wrote the digests below."""
    written(tmp_path, {"a.txt": "hi\n", "d/f": "x\n", "d/e": None, "l": "->a.txt"})
    for path, mode in (("a.txt", 0o640), ("d", 0o700), ("d/e", 0o755), ("d/f", 0o644)):
        os.chmod(tmp_path / path, mode)
    return tmp_path


FILE = "file:532b0b578fab2204164694e1ea1b2b83b147e5b4d63d79f2c32938ba9724050f"
DIRECTORY = "dir:6f9fefe95888f4ccc49d0e25730fdc45222b28080a27f202755bf4cc751a7c15"


def test_digests_are_dockers(root: Path) -> None:
    assert digest(root, "a.txt").docker == FILE
    assert digest(root, "l").docker == FILE  # of what the link leads to
    assert digest(root, "d").docker == DIRECTORY
    assert of_several([FILE, DIRECTORY]) == (
        "multi:14000d41ddac28b64bf3a627264cbc867db365a02d1d13309dc1830d6a9e2176"
    )
    assert of_several([FILE]) == FILE


def test_a_stage_has_owners(tmp_path: Path) -> None:
    written(tmp_path, {"s/a.txt": "a"})
    os.chmod(tmp_path / "s/a.txt", 0o640)
    found = digest(tmp_path, "s/a.txt", owners=True).docker
    assert found != digest(tmp_path, "s/a.txt").docker
    if os.geteuid() == 0:
        # As docker wrote it.
        assert found == "file:cce624dee67858ca11ae3f8b8a98a91e2b6297f2b198a189fea565e2c69ed273"


def test_content_that_is_in_no_tree(root: Path) -> None:
    assert of_content("a.txt", b"hi\n", 0o640).docker == FILE


def change(root: Path, how: str) -> None:
    match how:
        case "content":
            (root / "d/f").write_text("y\n")
        case "mode":
            os.chmod(root / "d/f", 0o600)
        case "mode of a directory":
            os.chmod(root / "d/e", 0o700)
        case "name":
            os.rename(root / "d/f", root / "d/g")
        case "new file":
            (root / "d/n").write_text("")
        case "removed":
            (root / "d/f").unlink()
        case "type":
            (root / "d/f").unlink()
            (root / "d/f").mkdir()
        case "new link":
            (root / "d/l").symlink_to("f")
        case _:
            raise AssertionError(how)


CHANGES = [
    "content",
    "mode",
    "mode of a directory",
    "name",
    "new file",
    "removed",
    "type",
    "new link",
]


@pytest.mark.parametrize("how", CHANGES)
def test_a_change_changes_both_digests(root: Path, how: str) -> None:
    before = digest(root, "d")
    change(root, how)
    after = digest(root, "d")
    assert before.key != after.key
    assert before.docker != after.docker


def test_the_target_of_a_link_counts_for_the_cache(root: Path) -> None:
    (root / "d/l").symlink_to("f")
    before = digest(root, "d")
    (root / "d/l").unlink()
    (root / "d/l").symlink_to("./f")
    assert digest(root, "d").key != before.key


def test_times_and_owners_of_a_context_do_not_count(root: Path) -> None:
    before = digest(root, "d")
    os.utime(root / "d/f", (1, 1))
    os.utime(root / "d", (1, 1))
    if os.geteuid() == 0:
        os.chown(root / "d/f", 5, 6)
    after = digest(root, "d")
    assert (before.docker, before.key) == (after.docker, after.key)
    assert before.seen != after.seen


def age(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let files that were just made count as old."""
    later = time.time_ns() + 3600 * 10**9
    monkeypatch.setattr(time, "time_ns", lambda: later)


def test_a_known_file_is_not_read_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    age(monkeypatch)
    memo = Memo()
    first = digest(root, "d", memo)
    assert memo.hits == 0
    monkeypatch.setattr(os, "read", None)
    assert digest(root, "d", memo) == first
    assert memo.hits == 1


@pytest.mark.parametrize("how", CHANGES)
def test_nothing_stale_is_found(root: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    age(monkeypatch)
    memo = Memo()
    digest(root, "d", memo)
    change(root, how)
    assert digest(root, "d", memo) == digest(root, "d")


def test_content_of_the_same_size_and_mtime_is_not_taken_for_the_old(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    age(monkeypatch)
    memo = Memo()
    before = digest(root, "d", memo)
    times = os.stat(root / "d/f")
    (root / "d/f").write_text("z\n")
    os.utime(root / "d/f", ns=(times.st_atime_ns, times.st_mtime_ns))
    assert digest(root, "d", memo).key != before.key


def test_a_file_that_was_just_written_is_read_each_time(root: Path) -> None:
    memo = Memo()
    digest(root, "d", memo)
    assert memo.kept == {}


def test_two_names_of_a_file_have_digests_of_their_own(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    age(monkeypatch)
    os.link(root / "a.txt", root / "b.txt")
    memo = Memo()
    assert digest(root, "a.txt", memo).docker != digest(root, "b.txt", memo).docker
    assert digest(root, "a.txt", memo).docker == FILE


def test_a_file_that_changes_while_it_is_read_is_named(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.read

    def read(fd: int, size: int) -> bytes:
        data = real(fd, size)
        if os.readlink(f"/proc/self/fd/{fd}").endswith("d/f"):
            (root / "d/f").write_text("longer than it was")
        return data

    monkeypatch.setattr(os, "read", read)
    with pytest.raises(StoreError, match="d/f changed while it was read: it was written to"):
        digest(root, "d")


def test_a_file_that_cannot_be_opened_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open

    def refuse(path: str, *args: int, **kwargs: int) -> int:
        if path == "f":
            raise PermissionError(13, "Permission denied")
        return real(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(StoreError, match="d/f cannot be read: Permission denied"):
        digest(root, "d")


def test_fifos_count_and_are_not_opened(root: Path) -> None:
    before = digest(root, "d")
    os.mkfifo(root / "d/fifo")
    assert digest(root, "d").key != before.key


def test_after_many_files_it_says_how_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_digest, "MANY", 2)
    written(tmp_path, {f"d/{number}": "x" for number in range(4)})
    counts: list[int] = []
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        tree = Tree(fd)
        digester = Digester(tree, tick=counts.append)
        for _ in range(2):  # the directory counts too
            digester.directory(tree.walk("d"))
    finally:
        os.close(fd)
    assert counts == [2, 4, 6, 8, 10]
