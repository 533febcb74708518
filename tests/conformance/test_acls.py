"""POSIX ACLs: what they grant, what new objects inherit, what the mode has to do with them."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from tests.conformance.cases import mode_of, opened, refused, tree
from tests.conformance.tree import directory, file
from tests.helpers.calls import access
from tests.helpers.security import (
    ACCESS,
    DEFAULT,
    GROUP,
    GROUP_ID,
    GROUP_OBJ,
    MASK,
    OTHER,
    USER,
    USER_ID,
    USER_OBJ,
    acl,
    parse_acl,
    run_as,
)

USER_READS = acl((USER_OBJ, 6), (USER, 4, USER_ID), (GROUP_OBJ, 0), (MASK, 4), (OTHER, 0))
GROUP_WRITES = acl((USER_OBJ, 6), (GROUP_OBJ, 0), (GROUP, 6, 77), (MASK, 6), (OTHER, 0))
INHERITED = acl((USER_OBJ, 7), (USER, 7, USER_ID), (GROUP_OBJ, 5), (MASK, 7), (OTHER, 0))
PLAIN = acl((USER_OBJ, 6), (GROUP_OBJ, 4), (OTHER, 0))

LISTED = file("f", b"secret", mode=0o640, xattrs={ACCESS: USER_READS})
HEIR = directory("d", mode=0o755, xattrs={DEFAULT: INHERITED})


def permissions_of(value: bytes, tag: int) -> int:
    """Return the permissions of the one entry with `tag`."""
    (permissions,) = [bits for found, bits, _ in parse_acl(value) if found == tag]
    return permissions


@tree(file("f", b"secret", mode=0o600))
def test_set_an_acl(root: Path) -> None:
    """An ACL is read back as set, and its mask is the mode's group bits."""
    os.setxattr(root / "f", ACCESS, USER_READS)
    assert os.getxattr(root / "f", ACCESS) == USER_READS
    assert ACCESS in os.listxattr(root / "f")
    assert mode_of(root / "f") == 0o640


@tree(LISTED)
def test_acl_grants_a_user(root: Path) -> None:
    """A user named in the ACL reads and does not write; another may nothing."""

    def named() -> None:
        assert (root / "f").read_bytes() == b"secret"
        access(root / "f", os.R_OK)
        with refused(errno.EACCES), opened(root / "f", os.O_WRONLY):
            pass

    def unnamed() -> None:
        with refused(errno.EACCES), opened(root / "f", os.O_RDONLY):
            pass
        with refused(errno.EACCES):
            access(root / "f", os.R_OK)

    run_as(named)
    run_as(unnamed, uid=USER_ID + 1)


@tree(file("f", b"secret", mode=0o660, xattrs={ACCESS: GROUP_WRITES}))
def test_acl_grants_a_supplementary_group(root: Path) -> None:
    """Members of a group named in the ACL write, others do not read."""

    def append() -> None:
        with opened(root / "f", os.O_WRONLY | os.O_APPEND) as fd:
            os.write(fd, b"!")

    run_as(append, groups=(5, 77))
    with refused(errno.EACCES):
        run_as(append, groups=(5, 6))
    assert (root / "f").read_bytes() == b"secret!"


@tree(LISTED)
def test_acl_is_kept_over_a_write(root: Path) -> None:
    """Copy-up keeps the ACL, and it goes on granting."""
    with opened(root / "f", os.O_WRONLY | os.O_APPEND) as fd:
        os.write(fd, b"!")
    assert os.getxattr(root / "f", ACCESS) == USER_READS
    assert run_as(lambda: (root / "f").read_bytes()) == b"secret!"


@tree(LISTED)
def test_chmod_changes_the_mask(root: Path) -> None:
    """The group bits of a chmod are the ACL's mask, so they limit the users and groups it names."""
    os.chmod(root / "f", 0o600)
    assert permissions_of(os.getxattr(root / "f", ACCESS), MASK) == 0
    with refused(errno.EACCES):
        run_as(lambda: (root / "f").read_bytes())
    os.chmod(root / "f", 0o640)
    assert run_as(lambda: (root / "f").read_bytes()) == b"secret"


@tree(LISTED)
def test_acl_without_names_is_a_mode(root: Path) -> None:
    """An ACL of three entries becomes mode bits and is no xattr any more."""
    os.setxattr(root / "f", ACCESS, PLAIN)
    assert mode_of(root / "f") == 0o640
    with refused(errno.ENODATA):
        os.getxattr(root / "f", ACCESS)
    with refused(errno.EACCES):
        run_as(lambda: (root / "f").read_bytes())


@tree(LISTED, HEIR)
def test_remove_an_acl(root: Path) -> None:
    """A removed ACL grants nothing, a removed default ACL is not inherited."""
    os.removexattr(root / "f", ACCESS)
    os.removexattr(root / "d", DEFAULT)
    assert ACCESS not in os.listxattr(root / "f")
    with refused(errno.EACCES):
        run_as(lambda: (root / "f").read_bytes())
    (root / "d" / "new").write_bytes(b"")
    assert os.listxattr(root / "d" / "new") == []
    assert mode_of(root / "d" / "new") == 0o644


@tree(file("f", mode=0o644, uid=USER_ID), file("g", mode=0o666), directory("d"))
def test_who_may_set_an_acl(root: Path) -> None:
    """The owner may; another user may not, whatever the mode says."""

    def act() -> None:
        os.setxattr(root / "f", ACCESS, USER_READS)
        with refused(errno.EPERM):
            os.setxattr(root / "g", ACCESS, USER_READS)

    run_as(act)
    assert mode_of(root / "f") == 0o640


@tree(file("f"))
def test_default_acl_of_a_file(root: Path) -> None:
    """Only directories have a default ACL."""
    with refused(errno.EACCES):
        os.setxattr(root / "f", DEFAULT, INHERITED)


@tree(file("f"))
def test_malformed_acl(root: Path) -> None:
    """A strange version is EOPNOTSUPP, a cut-off value and a missing mask EINVAL."""
    without_mask = acl((USER_OBJ, 6), (USER, 4, 5), (GROUP_OBJ, 0), (OTHER, 0))
    for value, code in (
        (b"nonsense", errno.EOPNOTSUPP),
        (PLAIN[:-1], errno.EINVAL),
        (without_mask, errno.EINVAL),
    ):
        with refused(code):
            os.setxattr(root / "f", ACCESS, value)
    assert os.listxattr(root / "f") == []


# -- what is inherited --


@tree(HEIR)
def test_a_new_file_inherits(root: Path) -> None:
    """A file's ACL is the default ACL, limited by the mode of creat, not by the umask."""
    with opened(root / "d" / "f", os.O_WRONLY | os.O_CREAT, 0o660):
        pass
    value = os.getxattr(root / "d" / "f", ACCESS)
    assert permissions_of(value, USER) == 7
    assert permissions_of(value, MASK) == 6
    assert mode_of(root / "d" / "f") == 0o660
    with opened(root / "d" / "f", os.O_RDONLY):
        run_as(lambda: access(root / "d" / "f", os.R_OK | os.W_OK))


@tree(HEIR)
def test_a_new_directory_inherits(root: Path) -> None:
    """A directory inherits as a file does, and hands the default ACL on."""
    os.makedirs(root / "d" / "sub" / "subsub")
    for path in (root / "d" / "sub", root / "d" / "sub" / "subsub"):
        assert os.getxattr(path, DEFAULT) == INHERITED
        assert permissions_of(os.getxattr(path, ACCESS), MASK) == 7
        assert mode_of(path) == 0o770


@tree(HEIR)
def test_a_new_fifo_inherits(root: Path) -> None:
    """mknod applies the default ACL as creat does."""
    os.mkfifo(root / "d" / "p", 0o640)
    assert permissions_of(os.getxattr(root / "d" / "p", ACCESS), MASK) == 4
    assert mode_of(root / "d" / "p") == 0o640


@tree(HEIR)
def test_a_new_symlink_inherits_nothing(root: Path) -> None:
    """Symlinks have no ACL."""
    os.symlink("x", root / "d" / "l")
    assert os.listxattr(root / "d" / "l", follow_symlinks=False) == []


@tree(HEIR, file("f", b"", mode=0o600))
def test_a_moved_file_inherits_nothing(root: Path) -> None:
    """rename and link bring a file's own permissions along."""
    os.rename(root / "f", root / "d" / "f")
    assert os.listxattr(root / "d" / "f") == []
    assert mode_of(root / "d" / "f") == 0o600


@tree(HEIR)
def test_the_umask_counts_without_a_default_acl(root: Path) -> None:
    """The umask limits what is made outside, and not what is made inside."""
    os.umask(0o077)
    for path in (root / "f", root / "d" / "f"):
        with opened(path, os.O_WRONLY | os.O_CREAT, 0o666):
            pass
    assert mode_of(root / "f") == 0o600
    assert mode_of(root / "d" / "f") == 0o660


@tree(HEIR)
def test_default_acl_is_kept_over_copy_up(root: Path) -> None:
    """A directory copied up for its new entries keeps its own mode and default ACL."""
    (root / "d" / "new").write_bytes(b"")
    os.rename(root / "d", root / "moved")
    assert os.getxattr(root / "moved", DEFAULT) == INHERITED
    assert stat.S_IMODE(os.lstat(root / "moved").st_mode) == 0o755


@tree(
    directory("d", mode=0o2775, uid=USER_ID, gid=77),
    directory("e", mode=0o2775, uid=USER_ID, gid=77),
)
def test_sgid_of_a_foreign_group_goes_with_an_acl_of_the_mode(root: Path) -> None:
    """An access ACL is a mode, for whose sgid an owner has to be in the group; a default is not."""

    def act() -> None:
        os.setxattr(root / "d", DEFAULT, INHERITED)
        os.setxattr(root / "e", ACCESS, INHERITED)

    run_as(act)
    assert (mode_of(root / "d"), mode_of(root / "e")) == (0o2775, 0o770)


@tree(directory("d", mode=0o750, gid=GROUP_ID, xattrs={ACCESS: INHERITED}), file("d/f", b"in"))
def test_acl_of_a_directory(root: Path) -> None:
    """A user named in a directory's ACL makes and removes names in it."""

    def act() -> None:
        assert (root / "d" / "f").read_bytes() == b"in"
        (root / "d" / "new").write_bytes(b"")
        os.unlink(root / "d" / "f")

    run_as(act, gid=1)
    assert os.listdir(root / "d") == ["new"]
    with refused(errno.EACCES):
        run_as(lambda: os.listdir(root / "d"), uid=USER_ID + 1, gid=1)
