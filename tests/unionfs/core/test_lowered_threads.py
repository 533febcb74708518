"""Threads without CAP_FSETID serve root as threads with it do: suid and sgid stay.

`unionfs.syscalls.lowered` takes the capability from threads that register files for the
kernel to write to.  Each case is something that needs it.
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.core_driver import CoreDriver
from tests.helpers.layers import Layers
from tests.helpers.security import ACCESS, DEFAULT, acl
from tests.helpers.unions import core, nodeid
from unionfs.credentials import Credentials
from unionfs.syscalls.lowered import lower_thread
from unionfs.types import ROOT_NODEID, SetAttr

GROUP = 77  # the daemon is not a member
SUID_SGID = 0o6755
LOCKS = 0o2666  # chown(2) drops sgid only where the group may execute the file

Case = Callable[[CoreDriver], int]


def mode_of(tree: CoreDriver, path: bytes) -> int:
    return stat.S_IMODE(tree.get(path).st.st_mode)


def in_upper(tree: CoreDriver, path: bytes = b"upper", mode: int = SUID_SGID) -> bytes:
    """Make an upper file of a foreign group."""
    tree.create(path, 0o600)
    tree.write(path, 0, b"x" * 9000)
    tree.chown(path, 0, GROUP)
    tree.chmod(path, mode)
    return path


def chmod(tree: CoreDriver) -> int:
    return mode_of(tree, in_upper(tree))


def chmod_of_a_lower(tree: CoreDriver) -> int:
    tree.chmod(b"plain", SUID_SGID)
    return mode_of(tree, b"plain")


def chmod_of_an_unlinked(tree: CoreDriver) -> int:
    fs, path = core(tree), in_upper(tree)
    file = nodeid(tree, path)
    tree.unlink(path)
    fs.setattr(file, SetAttr(mode=SUID_SGID), None)
    return stat.S_IMODE(fs.getattr(file).st.st_mode)


def chmod_of_a_directory(tree: CoreDriver) -> int:
    tree.mkdir(b"d", 0o755)
    tree.chown(b"d", 0, GROUP)
    tree.chmod(b"d", 0o2755)
    return mode_of(tree, b"d")


def chown(tree: CoreDriver) -> int:
    path = in_upper(tree, mode=LOCKS)
    tree.chown(path, 5, GROUP)
    return mode_of(tree, path)


def chown_of_an_unlinked(tree: CoreDriver) -> int:
    fs, path = core(tree), in_upper(tree, mode=LOCKS)
    file = nodeid(tree, path)
    tree.unlink(path)
    fs.setattr(file, SetAttr(uid=5), None)
    return stat.S_IMODE(fs.getattr(file).st.st_mode)


def copy_up(tree: CoreDriver) -> int:
    tree.close(tree.open(b"lower", os.O_RDWR, 0))
    return mode_of(tree, b"lower")


def copy_up_of_a_directory(tree: CoreDriver) -> int:
    tree.create(b"shared/new", 0o644)
    return mode_of(tree, b"shared")


def completion_of_a_metacopy(tree: CoreDriver) -> int:
    tree.utimens(b"lower", 1, 2)
    tree.close(tree.open(b"lower", os.O_RDWR, 0))
    return mode_of(tree, b"lower")


def create(tree: CoreDriver) -> int:
    attr, fh = core(tree).create(nodeid(tree, b"shared"), b"new", SUID_SGID, os.O_WRONLY, 0, 0, 0)
    core(tree).release(fh)
    core(tree).forget(attr.nodeid, 1)
    return mode_of(tree, b"shared/new")


def create_for_another_user(tree: CoreDriver) -> int:
    attr, fh = core(tree).create(nodeid(tree, b"shared"), b"new", SUID_SGID, os.O_WRONLY, 0, 5, 6)
    core(tree).release(fh)
    core(tree).forget(attr.nodeid, 1)
    return mode_of(tree, b"shared/new")


def create_over_a_whiteout(tree: CoreDriver) -> int:
    tree.unlink(b"shared/old")
    tree.mknod(b"shared/old", stat.S_IFREG | SUID_SGID, 0)
    assert tree.get(b"shared/old").st_gid == GROUP
    return mode_of(tree, b"shared/old")


def create_over_a_whiteout_with_an_acl(tree: CoreDriver) -> int:
    default = acl((1, 7), (4, 7), (32, 5))
    core(tree).setxattr(nodeid(tree, b"shared"), DEFAULT.encode(), default, 0)
    return create_over_a_whiteout(tree)


def mknod(tree: CoreDriver) -> int:
    tree.mknod(b"shared/new", stat.S_IFREG | SUID_SGID, 0)
    return mode_of(tree, b"shared/new")


def make_nameless(tree: CoreDriver) -> int:
    attr, fh = core(tree).tmpfile(nodeid(tree, b"shared"), SUID_SGID, os.O_RDWR, 0, 0, 0)
    core(tree).release(fh)
    core(tree).forget(attr.nodeid, 1)
    return stat.S_IMODE(attr.st.st_mode)


def write(tree: CoreDriver) -> int:
    tree.write(in_upper(tree), 0, b"root")
    return mode_of(tree, b"upper")


def truncate(tree: CoreDriver) -> int:
    core(tree).setattr(nodeid(tree, in_upper(tree)), SetAttr(size=5), None)
    return mode_of(tree, b"upper")


def truncate_of_a_lower(tree: CoreDriver) -> int:
    core(tree).setattr(nodeid(tree, b"lower"), SetAttr(size=5), None)
    return mode_of(tree, b"lower")


def truncate_at_open(tree: CoreDriver) -> int:
    fs = core(tree)
    fs.release(fs.open(nodeid(tree, in_upper(tree)), os.O_WRONLY | os.O_TRUNC))
    return mode_of(tree, b"upper")


def allocate(tree: CoreDriver) -> int:
    fs = core(tree)
    fh = fs.open(nodeid(tree, in_upper(tree)), os.O_RDWR)
    fs.fallocate(fh, 0, 0, 100_000)
    fs.release(fh)
    return mode_of(tree, b"upper")


def copy_range(tree: CoreDriver) -> int:
    fs = core(tree)
    fh = fs.open(nodeid(tree, in_upper(tree)), os.O_RDWR)
    fs.copy_range(fh, 0, fh, 8192, 100)
    fs.release(fh)
    return mode_of(tree, b"upper")


def access_list(tree: CoreDriver) -> int:
    value = acl((1, 7), (2, 7, 1), (4, 5), (16, 5), (32, 5))
    core(tree).setxattr(nodeid(tree, in_upper(tree)), ACCESS.encode(), value, 0)
    return mode_of(tree, b"upper")


def writing_by_a_member(tree: CoreDriver) -> int:
    """What a member keeps stays, while suid goes."""
    fs = core(tree)
    fh = fs.open(nodeid(tree, in_upper(tree, mode=0o6666)), os.O_RDWR)
    fs.drop_suid(fh, Credentials(os.getpid(), GROUP))
    fs.release(fh)
    return mode_of(tree, b"upper")


CASES: dict[Case, int] = {
    chmod: SUID_SGID,
    chmod_of_a_lower: SUID_SGID,
    chmod_of_an_unlinked: SUID_SGID,
    chmod_of_a_directory: 0o2755,
    chown: LOCKS,
    chown_of_an_unlinked: LOCKS,
    copy_up: SUID_SGID,
    copy_up_of_a_directory: 0o2777,
    completion_of_a_metacopy: SUID_SGID,
    create: SUID_SGID,
    create_for_another_user: SUID_SGID,
    create_over_a_whiteout: SUID_SGID,
    create_over_a_whiteout_with_an_acl: SUID_SGID,
    mknod: SUID_SGID,
    make_nameless: SUID_SGID,
    write: SUID_SGID,
    truncate: SUID_SGID,
    truncate_of_a_lower: SUID_SGID,
    truncate_at_open: SUID_SGID,
    allocate: SUID_SGID,
    copy_range: SUID_SGID,
    access_list: SUID_SGID,
    writing_by_a_member: LOCKS,
}


def in_lowered_thread(action: Callable[[], int]) -> int:
    """Return `action()`, called in a thread that is lowered before and after."""
    found: list[int] = []

    def run() -> None:
        assert lower_thread()
        found.append(action())
        assert not Credentials(threading.get_native_id(), 0).keeps_suid()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return found[0]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("where", ["a thread with it", "a lowered thread"])
def test_suid_and_sgid_stay(tmp_path: Path, case: Case, where: str) -> None:
    layers = Layers(tmp_path, {"lower": "x" * 9000, "plain": "x", "shared": {"old": "x"}})
    lower = layers.lowers[0]
    for path, mode in ((lower / "lower", SUID_SGID), (lower / "plain", 0o644)):
        os.chown(path, 0, GROUP)
        path.chmod(mode)
    os.chown(lower / "shared", 0, GROUP)
    (lower / "shared").chmod(0o2777)
    with layers.union(strict=False, metacopy=case is completion_of_a_metacopy) as tree:
        assert tree.get(b"").nodeid == ROOT_NODEID
        serve = in_lowered_thread if where == "a lowered thread" else lambda action: action()
        assert serve(lambda: case(tree)) == CASES[case]
