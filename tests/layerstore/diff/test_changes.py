"""What counts as a change, and that every form of deletion is seen as one."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from layerstore.diff.changes import changes
from tests.helpers.descriptors import few_descriptors, make_deep
from tests.helpers.layers import Layers

SPACE = "trusted.overlay." if os.geteuid() == 0 else "user.overlay."


@pytest.fixture
def layers(tmp_path: Path) -> Layers:
    return Layers(tmp_path, {}, {})


def found(layers: Layers) -> list[str]:
    lowers = [os.fsencode(lower) for lower in layers.lowers]
    return [
        f"{change.kind} {os.fsdecode(change.path)}"
        for change in changes(os.fsencode(layers.upper), lowers)
    ]


def put(path: Path, content: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def mark(path: Path, name: str, value: bytes) -> None:
    os.setxattr(path, SPACE + name, value, follow_symlinks=False)


def char_whiteout(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    os.mknod(path, stat.S_IFCHR, os.makedev(0, 0))


def xattr_whiteout(path: Path) -> None:
    put(path)
    mark(path, "whiteout", b"y")
    mark(path.parent, "opaque", b"x")


def aufs_whiteout(path: Path) -> None:
    put(path.with_name(".wh." + path.name))


def test_empty_upper_changes_nothing(layers: Layers) -> None:
    put(layers.lowers[1] / "etc/motd")
    assert found(layers) == []


def test_new_is_added_and_copied_up_is_changed(layers: Layers) -> None:
    put(layers.lowers[1] / "etc/motd")
    put(layers.lowers[0] / "etc/hosts")
    put(layers.lowers[1] / "usr/share/doc")
    put(layers.upper / "etc/motd", "changed")
    put(layers.upper / "etc/hosts")
    put(layers.upper / "srv/www/index", "new")
    assert found(layers) == [
        "C /etc",
        "C /etc/hosts",
        "C /etc/motd",
        "A /srv",
        "A /srv/www",
        "A /srv/www/index",
    ]


@pytest.mark.parametrize("delete", [char_whiteout, xattr_whiteout, aufs_whiteout])
def test_whiteout_deletes(layers: Layers, delete: Callable[[Path], None]) -> None:
    put(layers.lowers[1] / "etc/motd")
    put(layers.lowers[1] / "etc/hosts")
    delete(layers.upper / "etc/motd")
    assert found(layers) == ["C /etc", "D /etc/motd"]


def test_deleted_directory_is_one_line(layers: Layers) -> None:
    put(layers.lowers[1] / "usr/share/doc/a")
    char_whiteout(layers.upper / "usr")
    assert found(layers) == ["D /usr"]


def test_whiteout_of_nothing_is_no_change(layers: Layers) -> None:
    put(layers.lowers[1] / "etc/motd")
    char_whiteout(layers.upper / "etc/absent")
    char_whiteout(layers.lowers[0] / "etc/motd")
    char_whiteout(layers.upper / "etc/motd")
    assert found(layers) == ["C /etc"]


def test_what_a_lower_whiteout_hides_was_not_there(layers: Layers) -> None:
    put(layers.lowers[1] / "etc/motd")
    char_whiteout(layers.lowers[0] / "etc/motd")
    put(layers.upper / "etc/motd")
    assert found(layers) == ["C /etc", "A /etc/motd"]


def test_opaque_directory_deletes_what_it_hides(layers: Layers) -> None:
    put(layers.lowers[1] / "etc/hidden/deep")
    put(layers.lowers[1] / "etc/motd")
    put(layers.upper / "etc/motd")
    put(layers.upper / "etc/new")
    mark(layers.upper / "etc", "opaque", b"y")
    assert found(layers) == ["C /etc", "D /etc/hidden", "C /etc/motd", "A /etc/new"]


def test_renamed_directory_is_deleted_there_and_added_here(layers: Layers) -> None:
    put(layers.lowers[1] / "srv/old/deep/file")
    char_whiteout(layers.upper / "srv/old")
    (layers.upper / "srv/new").mkdir()
    mark(layers.upper / "srv/new", "redirect", b"old")
    assert found(layers) == [
        "C /srv",
        "A /srv/new",
        "A /srv/new/deep",
        "A /srv/new/deep/file",
        "D /srv/old",
    ]


def test_directory_and_file_replace_each_other(layers: Layers) -> None:
    put(layers.lowers[1] / "was-dir/file")
    put(layers.lowers[1] / "was-file")
    put(layers.upper / "was-dir")
    put(layers.upper / "was-file/file")
    mark(layers.upper / "was-file", "opaque", b"y")
    assert found(layers) == ["C /was-dir", "C /was-file", "A /was-file/file"]


def test_symlinks_are_not_followed(layers: Layers) -> None:
    put(layers.lowers[1] / "etc/motd")
    (layers.upper / "away").symlink_to("/etc")
    (layers.upper / "etc").symlink_to("/usr")
    assert found(layers) == ["A /away", "C /etc"]


def test_names_are_bytes(layers: Layers) -> None:
    put(layers.upper / os.fsdecode(b"caf\xe9\n"))
    assert found(layers) == ["A /" + os.fsdecode(b"caf\xe9\n")]


def test_a_tree_deeper_than_there_are_descriptors(layers: Layers) -> None:
    levels = 400
    for layer in (layers.upper, layers.lowers[1]):
        make_deep(layer, b"d", levels)
    (layers.upper / "d/z").write_text("beside what lies deep")
    with few_descriptors(400):
        said = found(layers)
    assert len(said) == levels + 2
    assert said[levels:] == ["C /" + "d/" * levels + "end", "A /d/z"]
