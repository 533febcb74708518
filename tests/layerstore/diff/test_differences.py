"""Two stacks of layers, compared by what they show."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import pytest

from layerstore.diff.differences import differences
from layerstore.diff.union import UnionFiles
from unionfs.types import NodeId

Tree = dict[str, str | None]

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="makes whiteouts as device nodes")


def layer(path: Path, tree: Tree, *, mtime_ns: int = 1_000_000_000) -> Path:
    """Make a layer: None is a whiteout, a name that ends with / a directory."""
    path.mkdir()
    for name, content in tree.items():
        file = path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            os.mknod(file, stat.S_IFCHR, os.makedev(0, 0))
        elif name.endswith("/"):
            file.mkdir(exist_ok=True)
        else:
            file.write_text(content)
            os.utime(file, ns=(mtime_ns, mtime_ns))
    return path


def found(before: list[Path], after: list[Path], *, content: bool) -> list[str]:
    return [f"{kind} {path.decode()}" for kind, path in differences(before, after, content=content)]


def test_a_container_over_its_image(tmp_path: Path) -> None:
    base = layer(tmp_path / "base", {"etc/motd": "a", "etc/x": "x", "bin/sh": "s", "old/f": ""})
    frozen = layer(tmp_path / "frozen", {"etc/x": "x", "a/b/c": ""})
    upper = layer(tmp_path / "upper", {"etc/motd": None, "etc/new": "n", "old": None})
    assert found([base], [upper, frozen, base], content=False) == [
        "A /a",
        "A /a/b",
        "A /a/b/c",
        "C /etc",
        "D /etc/motd",
        "A /etc/new",
        "C /etc/x",
        "D /old",
    ]
    assert found([base], [base], content=False) == []


def test_images_that_share_nothing_are_compared_by_content(tmp_path: Path) -> None:
    tree: Tree = {"etc/same": "s", "etc/longer": "l", "etc/other": "1", "dir/deep/f": "f", "e/": ""}
    one = layer(tmp_path / "one", tree)
    other = layer(tmp_path / "other", {**tree, "etc/longer": "ll", "etc/other": "2", "e/f": ""})
    assert found([one], [other], content=True) == [
        "C /e",
        "A /e/f",
        "C /etc",
        "C /etc/longer",
        "C /etc/other",
    ]
    assert found([one], [layer(tmp_path / "same", tree)], content=True) == []


def test_attributes_count(tmp_path: Path) -> None:
    tree: Tree = {"mode": "", "time": "", "dir/f": "", "attr": "", "kind": ""}
    one, other = layer(tmp_path / "one", tree), layer(tmp_path / "other", tree)
    os.chmod(other / "mode", 0o700)
    os.utime(other / "time", ns=(5, 5))
    os.chmod(other / "dir", 0o700)
    os.setxattr(other / "attr", "user.x", b"1")
    os.unlink(other / "kind")
    os.symlink("x", other / "kind")
    assert found([one], [other], content=True) == [
        "C /attr",
        "C /dir",
        "C /kind",
        "C /mode",
        "C /time",
    ]


def test_a_directory_in_place_of_a_file_is_new_beneath(tmp_path: Path) -> None:
    one = layer(tmp_path / "one", {"x": "", "y/f": ""})
    other = layer(tmp_path / "other", {"x/f/g": "", "y": ""})
    assert found([one], [other], content=True) == ["C /x", "A /x/f", "A /x/f/g", "C /y"]


def test_stacks_without_layers(tmp_path: Path) -> None:
    one = layer(tmp_path / "one", {"d/f": ""})
    assert found([], [one], content=True) == ["A /d", "A /d/f"]
    assert found([one], [], content=True) == ["D /d"]


@pytest.mark.parametrize("content", [False, True])
def test_what_vanishes_from_a_container_that_runs(tmp_path: Path, content: bool) -> None:
    base = layer(tmp_path / "base", {"e/f": "1", "g/f": "1", "h/i/f": "1"})
    changed: Tree = {"a/x": "", "b/x": "", "c/x": "", "e/f": "2", "g/f": "2", "h/i/f": "2"}
    upper = layer(tmp_path / "upper", changed)
    walk = differences([base], [upper, base], content=content, live=True)
    assert next(walk) == ("A", b"/a")
    shutil.rmtree(upper / "a")
    shutil.rmtree(upper / "b")
    (upper / "c").rename(upper / "d")
    os.unlink(upper / "e" / "f")
    (upper / "e").rename(upper / "a")
    shutil.rmtree(upper / "g")
    (upper / "g").write_text("a file now")
    assert set(walk) >= {("C", b"/h"), ("C", b"/h/i"), ("C", b"/h/i/f")}


def test_a_file_that_vanishes_when_its_content_is_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = layer(tmp_path / "base", {"f": "1", "g": "1"})
    upper = layer(tmp_path / "upper", {"f": "1", "g": "2"})
    xattrs = UnionFiles.xattrs

    def removed_first(files: UnionFiles, nodeid: NodeId) -> list[tuple[bytes, bytes]]:
        (upper / "f").unlink(missing_ok=True)
        return xattrs(files, nodeid)

    monkeypatch.setattr(UnionFiles, "xattrs", removed_first)
    found = list(differences([base], [upper, base], content=True, live=True))
    assert found[-1] == ("C", b"/g")


def test_depth_is_no_limit(tmp_path: Path) -> None:
    depth = 900
    for name in ("one", "other"):
        os.mkdir(tmp_path / name)
        fd = os.open(tmp_path / name, os.O_RDONLY)
        for _ in range(depth):
            os.mkdir("d", dir_fd=fd)
            below = os.open("d", os.O_RDONLY, dir_fd=fd)
            os.close(fd)
            fd = below
        os.close(os.open("f" if name == "one" else "g", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
        os.close(fd)
    lines = found([tmp_path / "one"], [tmp_path / "other"], content=True)
    assert len(lines) == depth + 2
    assert lines[-2:] == [f"D {'/d' * depth}/f", f"A {'/d' * depth}/g"]
