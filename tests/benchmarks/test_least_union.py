"""The least union in Python is a union: what it writes is what overlayfs reads.

And its copies are on disk before they have their names.
"""

from __future__ import annotations

import os
import stat
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from benchmarks.floor_python.ahead import LARGEST, RUN, TOGETHER
from benchmarks.floor_python.inode import Node
from benchmarks.floor_python.listings import ROOT
from benchmarks.floor_python.union import KEPT, SHARED, Union
from benchmarks.layers import Stack
from benchmarks.subjects import BY_NAME, Place, mounted
from tests.helpers.mounts import require_fuse, require_root, wait_until

PATIENCE = 60
SUBJECT = BY_NAME["least-union-dev"]

# Each changes what one or both layers have; `made` is in neither.
CHANGES = """
set -e
rm file && echo again > file
rm gone && ! cat gone
mkdir made && echo 1 > made/one && mkdir made/inner && mv made/inner made/moved
ln made/one made/two && rm made/one && echo more >> made/two
ln -s nowhere made/link && mkfifo made/fifo && chown -h 12 made/link
mv moved made/elsewhere
mv renamed made/from-below && echo x > renamed-too && mv renamed-too renamed
echo 2 > taken && mv taken over
rm -r directory && mkdir directory && echo new > directory/new
rm -r emptied/* && rmdir emptied
rm hidden/base && mkdir made/becomes && mv made/becomes hidden/base
chmod 600 changed && chown 12:13 changed && touch -d @1000000000 changed
: > truncated && echo appended >> appended && chown -h 34 link
mv -T made/moved hollow && mkdir hollow/deep
ln linked linked-too && truncate -s 3 linked
chmod 700 both && rm -r both/inner && touch -d @5 both
"""

ATTRIBUTES = r"%P %y %m %U %G %l"


def make_layers(where: Path) -> Stack:
    """Make two layers with what overlayfs knows: whiteouts and an opaque directory."""
    upper, lower = where / "0", where / "1"
    for layer in (upper, lower):
        for name in ("both/inner", "opaque", "hidden", "directory"):
            (layer / name).mkdir(parents=True)
        for name in ("file", "both/file", "both/inner/file", "opaque/file"):
            (layer / name).write_text(f"{layer.name} {name}\n")
    (lower / "opaque" / "below").write_text("not to be seen")
    (lower / "emptied").mkdir()
    (lower / "hollow").mkdir()
    names = ("gone", "moved", "renamed", "over", "changed", "truncated", "appended", "linked")
    for name in (*names, "whited-out", "directory/a", "emptied/b", "hidden/base"):
        (lower / name).write_text(f"{name}\n" * 3)
    (lower / "link").symlink_to("target")
    os.setxattr(upper / "opaque", "trusted.overlay.opaque", b"y")
    os.mknod(upper / "whited-out", stat.S_IFCHR, 0)
    return Stack(where, ("0", "1"), 0)


def run(script: str, there: Path) -> str:
    words = ["sh", "-c", script]
    done = subprocess.run(words, cwd=there, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    return done.stdout


def seen(there: Path, attributes: str = ATTRIBUTES) -> list[str]:
    """Return the attributes of each inode of a tree, and the content of each file."""
    found = run(f"find . -printf '{attributes}\\n'; find . -type f -exec sha256sum {{}} +", there)
    return sorted(found.splitlines())


def place_of(stack: Stack, here: Path, work: str = "work") -> Place:
    places = [here / name for name in ("upper", work, "merged")]
    for place in places:
        place.mkdir(parents=True, exist_ok=True)
    upper, workdir, merged = places
    return Place(stack, upper=upper, work=workdir, merged=merged, log=here / "log")


def test_changes_are_those_of_a_directory_and_overlayfs_sees_them(tmp_path: Path) -> None:
    require_fuse()
    require_root()
    stack = make_layers(tmp_path / "layers")
    before, place = stack.fingerprint(), place_of(stack, tmp_path)
    with mounted(BY_NAME["overlayfs"], place_of(stack, tmp_path / "plain")) as plain:
        merged = seen(plain.root)
        run(CHANGES, plain.root)
        wanted = seen(plain.root)
    with mounted(SUBJECT, place) as mount:
        assert seen(mount.root) == merged
        run(CHANGES, mount.root)
        assert seen(mount.root) == wanted
        with_times = seen(mount.root, f"{ATTRIBUTES} %T@")
    with mounted(BY_NAME["overlayfs"], place_of(stack, tmp_path, "again")) as mount:
        assert seen(mount.root, f"{ATTRIBUTES} %T@") == with_times
    with mounted(SUBJECT, place) as mount:
        assert seen(mount.root, f"{ATTRIBUTES} %T@") == with_times
    assert stack.fingerprint() == before


def test_directory_keeps_its_times_when_a_file_in_it_is_copied_up(tmp_path: Path) -> None:
    require_fuse()
    require_root()
    stack = make_layers(tmp_path / "layers")
    for directory in ("both", "both/inner"):
        os.utime(tmp_path / "layers" / "0" / directory, (7, 7))
    with mounted(SUBJECT, place_of(stack, tmp_path)) as mount:
        run("chmod 600 both/inner/file", mount.root)
        assert run("stat -c %Y both both/inner", mount.root) == "7\n7\n"


class Disk:
    """Notes what is written to disk, and when names are given."""

    def __init__(self, union: Union, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun: list[int] = []  # how many at a time
        self.safe: set[int] = set()  # inode numbers
        syncs, begin = union.ahead.syncs, union.ahead.syncs.begin
        self._files: dict[int, int] = {}

        def note_begin(files: list[tuple[int, int]]) -> int:
            self.begun.append(len(files))
            self._files |= {number: os.fstat(fd).st_ino for fd, number in files}
            return begin(files)

        ended = syncs.ended

        def note_ended(least: int) -> list[tuple[int, int]]:
            found = ended(least)
            self.safe |= {self._files[number] for number, _ in found}
            return found

        monkeypatch.setattr(syncs, "begin", note_begin)
        monkeypatch.setattr(syncs, "ended", note_ended)


def flat_union(where: Path, files: int, directories: int = 1) -> Union:
    for number in range(directories):
        directory = where / "lower" / f"{number}"
        directory.mkdir(parents=True)
        for count in range(files):
            (directory / f"{count}").write_text("data")
    for name in ("upper", "work"):
        (where / name).mkdir()
    return Union([str(where / "lower")], str(where / "upper"), str(where / "work"))


def files_of(union: Union, directory: str = "0") -> list[Node]:
    parent = union.names(union.nodes[ROOT])[directory.encode() + b"\0"]
    return list(union.names(parent).values())


def test_copies_are_on_disk_before_their_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_root()
    count = 3 * TOGETHER
    union = flat_union(tmp_path, count)
    disk = Disk(union, monkeypatch)
    for node in files_of(union):
        union.copy_up(node)
        assert os.fstat(node.fd).st_ino in disk.safe
        union.settle(node)
    assert disk.begun[: RUN + 1] == [1] * RUN + [1 + TOGETHER]
    assert sum(disk.begun) == count and len(disk.begun) <= RUN + 1 + 3
    assert len(os.listdir(tmp_path / "upper" / "0")) == count


def test_copies_that_nobody_asked_for_are_removed(tmp_path: Path) -> None:
    require_root()
    union = flat_union(tmp_path, 2 * TOGETHER, directories=2)
    for node in files_of(union)[: RUN + 2]:
        union.copy_up(node)
    assert len(os.listdir(union.work)) > 1
    union.copy_up(files_of(union, "1")[-1])
    assert os.listdir(union.work) == [SHARED.decode()]


def test_large_file_is_not_copied_ahead(tmp_path: Path) -> None:
    require_root()
    union = flat_union(tmp_path, 2 * TOGETHER)
    nodes = files_of(union)
    large = tmp_path / "lower" / "0" / nodes[RUN + 1].name.decode()
    large.write_bytes(bytes(LARGEST + 1))
    for node in nodes[: RUN + 1]:
        union.copy_up(node)
    assert large.stat().st_size not in [
        os.stat(name, dir_fd=union.work).st_size for name in os.listdir(union.work)
    ]
    union.copy_up(nodes[RUN + 1])
    assert (tmp_path / "upper" / "0" / large.name).read_bytes() == large.read_bytes()


def test_files_without_a_name_are_freed_when_they_are_forgotten(tmp_path: Path) -> None:
    require_root()
    union = flat_union(tmp_path, 3 * KEPT)
    nodes = files_of(union)
    for node in nodes:
        union.copy_up(node)
        union.settle(node)
        union.unlink(node.parent, node.name + b"\0")
        node.refresh()
        assert os.fstat(node.fd).st_nlink == 0
    kept = [f"/proc/self/fd/{node.fd}" for node in nodes]
    inodes = [os.stat(path).st_ino for path in kept]
    for node in nodes:
        union.forget(node.number)
    wait_until(lambda: still_there(kept, inodes) < KEPT, "the freeing of most files")


def still_there(paths: list[str], inodes: list[int]) -> int:
    """Return how many of the fds are still those of the inodes."""
    found = 0
    for path, inode in zip(paths, inodes, strict=True):
        with suppress(FileNotFoundError):
            found += os.stat(path).st_ino == inode
    return found


def test_error_of_the_disk_is_that_of_the_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_root()
    union = flat_union(tmp_path, 1)
    ended = union.ahead.syncs.ended

    def fail(least: int) -> list[tuple[int, int]]:
        return [(number, 5) for number, _ in ended(least)]

    monkeypatch.setattr(union.ahead.syncs, "ended", fail)
    (node,) = files_of(union)
    with pytest.raises(OSError, match="Input/output error"):
        union.copy_up(node)
    assert os.listdir(tmp_path / "upper") == []
