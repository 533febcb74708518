"""Making names: what is inherited, and what stays true if it fails."""

from __future__ import annotations

import errno
import os
import stat
from functools import partial
from pathlib import Path

import pytest

from tests.helpers import security
from tests.helpers.core_driver import CoreDriver
from tests.helpers.counting import count_calls
from tests.helpers.faults import without_exchange
from tests.helpers.layers import Layers
from tests.helpers.mounts import run
from tests.helpers.unions import core, errno_of, nodeid
from unionfs.core import owners
from unionfs.types import ROOT_NODEID, NodeId, SetAttr

ACL = security.acl(
    (security.USER_OBJ, 7),
    (security.USER, 5, 1234),
    (security.GROUP_OBJ, 5),
    (security.MASK, 7),
    (security.OTHER, 0),
)
WHITEOUT = pytest.mark.parametrize("over_whiteout", [False, True], ids=["new", "over-whiteout"])


def directory(layers: Layers, over_whiteout: bool) -> None:
    """Make `d` in the lower, where `over_whiteout` with names to be whited out first."""
    folder = layers.lowers[0] / "d"
    folder.mkdir()
    if over_whiteout:
        for name in ("file", "dir", "link", "fifo"):
            (folder / name).touch()


def make_all(tree: CoreDriver, held: NodeId) -> dict[str, tuple[int, int, int]]:
    """Make one of each kind as 11:22 with mode 0666 or 0777; return mode, uid and gid of each."""
    fs = tree.fs
    for name in (b"file", b"dir", b"link", b"fifo"):
        if fs.lookup(held, name) is not None:
            fs.unlink(held, name)
    file, fh = fs.create(held, b"file", 0o666, os.O_RDWR, 0o027, 11, 22)
    fs.release(fh)
    made = {
        "file": file,
        "dir": fs.mkdir(held, b"dir", 0o777, 0o027, 11, 22),
        "link": fs.symlink(held, b"link", b"to", 11, 22),
        "fifo": fs.mknod(held, b"fifo", stat.S_IFIFO | 0o666, 0, 0o027, 11, 22),
    }
    return {
        name: (stat.S_IMODE(attr.st.st_mode), attr.st_uid, attr.st_gid)
        for name, attr in made.items()
    }


@WHITEOUT
def test_owner_and_umask(tmp_path: Path, over_whiteout: bool) -> None:
    layers = Layers(tmp_path)
    directory(layers, over_whiteout)
    with layers.union(strict=False) as tree:
        assert make_all(tree, nodeid(tree, b"d")) == {
            "file": (0o640, 11, 22),
            "dir": (0o750, 11, 22),
            "link": (0o777, 11, 22),
            "fifo": (0o640, 11, 22),
        }


@WHITEOUT
def test_a_set_group_id_directory_hands_down_its_group(tmp_path: Path, over_whiteout: bool) -> None:
    layers = Layers(tmp_path)
    directory(layers, over_whiteout)
    os.chown(layers.lowers[0] / "d", 0, 33)
    os.chmod(layers.lowers[0] / "d", 0o2775)
    with layers.union(strict=False) as tree:
        made = make_all(tree, nodeid(tree, b"d"))
    assert {gid for _, _, gid in made.values()} == {33}
    assert {uid for _, uid, _ in made.values()} == {11}
    assert made["dir"][0] == 0o2750
    assert made["file"][0] == 0o640


@WHITEOUT
@pytest.mark.parametrize("sgid", [False, True])
def test_on_nfs_root_makes_what_is_given_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, over_whiteout: bool, sgid: bool
) -> None:
    """A server goes by the fsuid, and lets no user create in the workdir."""
    layers = Layers(tmp_path)
    directory(layers, over_whiteout)
    if sgid:
        os.chown(layers.lowers[0] / "d", 0, 33)
        os.chmod(layers.lowers[0] / "d", 0o2770)

    def refuse(uid: int, gid: int) -> None:
        raise AssertionError(f"created as {uid}:{gid}")

    monkeypatch.setattr(owners, "FsIds", refuse)
    gid = 33 if sgid else 22
    with without_exchange(), layers.union(strict=False) as tree:
        assert make_all(tree, nodeid(tree, b"d")) == {
            "file": (0o640, 11, gid),
            "dir": (0o2750 if sgid else 0o750, 11, gid),
            "link": (0o777, 11, gid),
            "fifo": (0o640, 11, gid),
        }
    assert os.listdir(layers.work / "work") == []


@WHITEOUT
def test_a_default_acl_is_inherited_and_replaces_the_umask(
    tmp_path: Path, over_whiteout: bool
) -> None:
    layers = Layers(tmp_path)
    directory(layers, over_whiteout)
    os.setxattr(layers.lowers[0] / "d", security.DEFAULT, ACL)
    with layers.union(strict=False) as tree:
        made = make_all(tree, nodeid(tree, b"d"))
        assert made["file"][0] == 0o660
        assert made["dir"][0] == 0o770
        assert tree.getxattr(b"d/dir", security.DEFAULT) == ACL
        inherited = security.parse_acl(tree.getxattr(b"d/file", security.ACCESS))
        assert (security.USER, 5, 1234) in inherited
        # And one level further, where nothing was whited out.
        held = nodeid(tree, b"d/dir")
        assert make_all(tree, held)["dir"][0] == 0o770
        tree.removexattr(b"d/dir", security.DEFAULT)
        tree.unlink(b"d/dir/file")
        assert make_all_again(tree, held) == 0o640


def make_all_again(tree: CoreDriver, held: NodeId) -> int:
    attr, fh = tree.fs.create(held, b"file", 0o666, os.O_RDWR, 0o027, 0, 0)
    tree.fs.release(fh)
    return stat.S_IMODE(attr.st.st_mode)


@pytest.mark.parametrize("sgid", [False, True])
@pytest.mark.parametrize("flags", [os.O_WRONLY, os.O_RDWR])
def test_files_of_the_daemon_itself_follow_the_same_rules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sgid: bool, flags: int
) -> None:
    with Layers(tmp_path).union(strict=False) as tree:
        tree.mkdir(b"d", 0o755)
        tree.chown(b"d", 0, 33)
        tree.chmod(b"d", 0o2755 if sgid else 0o755)
        held, fs = nodeid(tree, b"d"), tree.fs

        def made(name: bytes, mode: int = 0o6666) -> tuple[int, int, int]:
            attr, fh = fs.create(held, name, mode, flags, 0o027, os.geteuid(), os.getegid())
            fs.release(fh)
            return stat.S_IMODE(attr.st.st_mode), attr.st_uid, attr.st_gid

        gid = 33 if sgid else os.getegid()
        known = [made(b"first"), made(b"second")]
        assert known == [(0o6640, os.geteuid(), gid)] * 2
        calls = count_calls(monkeypatch, lambda: made(b"third", 0o666))
        assert calls == {"open": 1, "fstat": 1}  # of nothing else
        assert errno_of(lambda: made(b"third")) == errno.EEXIST
        assert errno_of(lambda: made(b"n" * 256)) == errno.ENAMETOOLONG
        assert errno_of(lambda: made(b".wh.file")) == errno.EPERM
        fs.setxattr(held, security.DEFAULT.encode(), ACL, 0)
        assert made(b"fourth", 0o666) == (0o660, os.geteuid(), gid)


def test_a_file_is_made_when_descriptors_can_be_spared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    really_open, failures = os.open, [errno.EMFILE, errno.ENOSPC]

    def fail_first(path: bytes, flags: int, *rest: int, dir_fd: int | None = None) -> int:
        if path == b"file" and failures:
            raise OSError(failures.pop(0), "cannot open")
        return really_open(path, flags, *rest, dir_fd=dir_fd)

    with Layers(tmp_path, {"d": {"low": ""}}).union() as tree:
        tree.create(b"first", 0o644)
        fh = tree.fs.open(nodeid(tree, b"first"), os.O_RDWR)
        assert tree.fs.lookup(nodeid(tree, b"d"), b"absent") is None  # which opens d
        monkeypatch.setattr(os, "open", fail_first)
        assert errno_of(lambda: tree.create(b"file", 0o644)) == errno.ENOSPC
        assert tree.fs.lookup(ROOT_NODEID, b"file") is None
        # Another thread may take, or still use, what was closed first.
        failures += [errno.EMFILE] * 3
        tree.create(b"file", 0o644)
        assert not failures
        monkeypatch.undo()
        tree.fs.release(fh)
        tree.unlink(b"first")
        assert names_of(tree) == {b"d", b"file"}


def names_of(tree: CoreDriver) -> set[bytes]:
    return {entry.name for entry in tree.listdir(b"")}


# -- files that lost their name --


def test_names_that_cannot_be(tmp_path: Path) -> None:
    with Layers(tmp_path).union() as tree:
        fs = tree.fs
        assert (
            errno_of(lambda: fs.mkdir(ROOT_NODEID, b"n" * 256, 0o700, 0, 0, 0))
            == errno.ENAMETOOLONG
        )
        tree.mkdir(b"n" * 255, 0o700)
        tree.rmdir(b"n" * 255)


def test_a_file_without_a_name_can_be_given_one(tmp_path: Path) -> None:
    layers = Layers(tmp_path)
    with layers.union() as tree:
        attr, fh = core(tree).tmpfile(ROOT_NODEID, 0o666, os.O_RDWR, 0o022, 3, 4)
        tree.lookups[attr.nodeid] += 1
        assert (attr.st_nlink, attr.st_uid, stat.S_IMODE(attr.st.st_mode)) == (0, 3, 0o644)
        tree.fs.write(fh, 0, b"data")
        tree.lookups[tree.fs.link(attr.nodeid, ROOT_NODEID, b"named").nodeid] += 1
        tree.fs.release(fh)
        assert nodeid(tree, b"named") == attr.nodeid
        assert tree.lstat(b"named").nlink == 1
    assert layers.look()[b"named"].content == b"data"


def test_a_failed_create_leaves_what_is_known_true(tmp_path: Path) -> None:
    layers = Layers(tmp_path, {"d": {"whited": "1", "low": "2"}})
    with layers.union() as tree:
        tree.unlink(b"d/whited")
        tree.create(b"d/new", 0o644)
        for name in (b"d/c", b"d/whited"):
            make = partial(tree.mknod, name, stat.S_IFCHR | 0o600, 0)
            assert errno_of(make) == errno.EPERM
        assert {entry.name for entry in tree.listdir(b"d")} == {b"low", b"new"}
        tree.create(b"d/whited", 0o644)
        assert tree.read(b"d/whited") == b""


# -- the times of a directory --


def _ctime(tree: CoreDriver, path: bytes) -> int:
    return core(tree).getattr(nodeid(tree, path)).st.st_ctime_ns


def test_a_copy_up_is_no_change_of_a_directory(tmp_path: Path) -> None:
    """tar said that a directory changed as it was read, when a file in it was opened to write."""
    layers = Layers(tmp_path, {"d": {"deep": {"file": "1", "other": "2"}, "gone": "3"}})
    paths = (b"", b"d", b"d/deep")
    with layers.union() as tree:
        before = [_ctime(tree, path) for path in paths]
        tree.append(b"d/deep/file", b"!")
        tree.append(b"d/deep/other", b"!")
        assert [_ctime(tree, path) for path in paths] == before
        assert core(tree).statx(nodeid(tree, b"d"), 0xFFF)[0].st.st_ctime_ns == before[1]
        tree.unlink(b"d/gone")
        tree.create(b"d/deep/new", 0o644)
        after = [_ctime(tree, path) for path in paths]
        assert after[0] == before[0]
        assert (after[1] > before[1], after[2] > before[2]) == (True, True)
        tree.chmod(b"", 0o711)
        assert _ctime(tree, b"") > before[0]


# -- attributes of the upper that forbid a change --


def test_an_append_only_file_takes_the_present_time_only(
    marked: tuple[Layers, list[Path]],
) -> None:
    layers, paths = marked
    with layers.union() as tree:
        tree.create(b"log", 0o644)
        paths.append(layers.upper / "log")
        run("chattr", "+a", paths[0])
        held = nodeid(tree, b"log")
        change = SetAttr(atime_ns=1, mtime_ns=1)
        assert errno_of(lambda: core(tree).setattr(held, change, None)) == errno.EPERM
        change.times_now = True
        assert core(tree).setattr(held, change, None).st.st_mtime > 1_000_000_000
