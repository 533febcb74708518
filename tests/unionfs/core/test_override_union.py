"""Owners and modes in attributes: a union behaves as a directory that has them in its inodes."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import stat
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.helpers import calls
from tests.helpers.drivers import OsDriver
from tests.helpers.io_uring import io_uring_enabled
from tests.helpers.layers import Layers
from tests.helpers.mounts import mounted, require_fuse
from tests.helpers.trees import assert_same, snapshot

_CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")
_OLD_NS = 10**18


def _lower(root: Path) -> None:
    for name in ("given", "suid", "capable", "linked", "moded", "cut", "both"):
        (root / name).write_text(f"this is {name}")
    (root / "folder/deep").mkdir(parents=True)
    (root / "folder/deep/file").write_text("deep")
    (root / "link").symlink_to("given")
    os.link(root / "linked", root / "other-name")
    (root / "both").chmod(0o6755)
    for name in ("bound", "unbound", "both"):
        (root / name).write_text("with a capability from the layer")
        os.setxattr(root / name, "security.capability", _CAPABILITY)
    (root / "nothing").write_text("")
    (root / "nothing").chmod(0o6755)
    for path in [*root.rglob("*"), root]:
        os.utime(path, ns=(_OLD_NS, _OLD_NS), follow_symlinks=False)


def _as_user(script: str, cwd: Path) -> None:
    user = ("setpriv", "--reuid=1000", "--regid=1000", "--clear-groups")
    subprocess.run([*user, "sh", "-ec", script], cwd=cwd, check=True)


def _use(root: Path, transport: str) -> None:
    """Do all that depends on an owner or a mode, or changes one."""
    if transport != "pyfuse3":  # which does not tell who writes
        with open(root / "both", "a") as file:
            file.write(", which root's write takes away, but not suid and sgid")
    root.chmod(0o777)
    os.chown(root / "given", 3, 4)
    os.chmod(root / "suid", 0o6777)
    os.setxattr(root / "capable", "security.capability", _CAPABILITY)
    os.chmod(root / "moded", 0o4755)
    os.chown(root / "moded", 5, -1)  # which takes suid away
    os.chmod(root / "cut", 0o6777)
    os.chmod(root / "bound", 0o750)
    os.chown(root / "unbound", 5, 5)
    before = (root / "nothing").stat().st_ctime_ns
    os.chown(root / "nothing", -1, -1)  # which takes suid and sgid away all the same
    assert (root / "nothing").stat().st_ctime_ns > before
    os.lchown(root / "link", 7, 8)
    os.chown(root / "linked", 9, 10)
    os.chown(root / "folder/deep", 11, 12)
    os.chmod(root / "folder/deep", 0o2775)
    os.mkdir(root / "folder/deep/inherits", 0o755)
    (root / "folder/deep/inherits/too").write_text("too")
    (root / "folder/deep/link").symlink_to("too")
    os.mknod(root / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.chown(root / "null", 13, 14)
    os.mkfifo(root / "fifo", 0o600)
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(os.fspath(root / "socket"))
    _as_user("echo more >> suid; : > cut; echo mine > mine; mkdir theirs; chmod 700 theirs", root)
    (root / "written").write_text("with a capability")
    os.setxattr(root / "written", "security.capability", _CAPABILITY)
    with open(root / "written", "a") as file:
        file.write(", until it is written")
    _make_nameless(root)
    (root / "whiteout").write_text("")
    (root / "whiteout").unlink()
    (root / "whiteout").mkdir(0o701)
    for path in [*root.rglob("*"), root]:
        os.utime(path, ns=(_OLD_NS, _OLD_NS), follow_symlinks=False)


def _make_nameless(root: Path) -> None:
    """Make a file that gets its name last, or at once where libfuse cannot do that."""
    try:
        fd = os.open(root, os.O_TMPFILE | os.O_RDWR, 0o640)
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
        fd = os.open(root / "nameless", os.O_CREAT | os.O_RDWR, 0o640)
    try:
        os.fchown(fd, 15, 16)
        if not (root / "nameless").exists():
            calls.link_fd(fd, root / "nameless")
    finally:
        os.close(fd)


@contextmanager
def _union(layers: Layers, transport: str, override: str) -> Iterator[Path]:
    options = [f"xattr_permissions={override}"]
    with ExitStack() as stack:
        if transport == "io_uring":
            stack.enter_context(io_uring_enabled())
            options.append("io_uring=on")
        else:
            options.append(f"transport={transport}")
        yield stack.enter_context(mounted(layers.lowers, layers.upper, layers.work, options))


@pytest.mark.parametrize("override", ["1", "2"])
@pytest.mark.parametrize("transport", ["dev_fuse", "io_uring", "pyfuse3"])
def test_as_a_plain_directory(transport: str, override: str, tmp_path: Path) -> None:
    require_fuse()
    if transport == "pyfuse3":
        pytest.importorskip("pyfuse3")
    tmp_path.chmod(0o755)
    plain = tmp_path / "plain"
    plain.mkdir()
    layers = Layers(tmp_path, {})
    for root in (plain, layers.lowers[0]):
        _lower(root)
        shutil.chown(root, 0, 0)
    _use(plain, transport)
    wanted = snapshot(OsDriver(plain))
    with _union(layers, transport, override) as root:
        _use(root, transport)
        assert_same(wanted, snapshot(OsDriver(root)), "where it was done")
    for path in layers.upper.rglob("*"):
        if not path.is_symlink() and not stat.S_ISCHR(path.lstat().st_mode):
            assert path.lstat().st_uid == 0 and not path.lstat().st_mode & 0o7000, path
    with _union(layers, transport, override) as root:
        assert_same(wanted, snapshot(OsDriver(root)), "after a remount")
    options = [f"xattr_permissions={override}"]
    with mounted([layers.upper, *layers.lowers], options=options) as root:
        found = snapshot(OsDriver(root))
    # Without the index of the workdir it is not known that this is a name of a changed file.
    for tree in (wanted, found):
        del tree[b"other-name"]
    assert_same(wanted, found, "as a lower", skip=("nlink", "names"))


def test_layers_on_a_filesystem_that_may_not_answer(tmp_path: Path) -> None:
    """As those of a home on a network; every call may hang, and has a thread of its own."""
    require_fuse()
    tmp_path.chmod(0o755)
    outer = Layers(tmp_path / "outer", {})
    plain = tmp_path / "plain"
    plain.mkdir()
    with mounted(outer.lowers, outer.upper, outer.work) as far:
        far.chmod(0o755)
        layers = Layers(far / "inner", {})
        for root in (plain, layers.lowers[0]):
            _lower(root)
            (root / "other-name").unlink()  # FUSE has no handles, which keep links together
        _use(plain, "dev_fuse")
        with _union(layers, "dev_fuse", "2") as root:
            _use(root, "dev_fuse")
            assert_same(snapshot(OsDriver(plain)), snapshot(OsDriver(root)))
