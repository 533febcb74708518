"""How owners and attributes are stored, and read back as an archive has them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from layerstore.layer.metadata import Metadata


def test_names_that_are_stored_otherwise() -> None:
    given = [
        (b"user.plain", b"1"),
        (b"trusted.overlay.opaque", b"y"),
        (b"user.overlay.opaque", b"y"),
        (b"user.overlay." + b"x" * 240, b"y"),
        (b"user.fuseoverlayfs.opaque", b"y"),
        (b"security.selinux", b"l"),
        (b"user.containers.override_stat", b"0:0:0:file"),
        (b"", b"1"),
        (b"user.a\0b", b"1"),
        (b"user." + b"x" * 300, b"1"),
    ]
    root, user = Metadata(privileged=True), Metadata(privileged=False)
    assert root.stored_xattrs(given) == [
        (b"user.plain", b"1"),
        (b"trusted.overlay.overlay.opaque", b"y"),
    ]
    assert user.stored_xattrs(given) == [
        (b"user.plain", b"1"),
        (b"user.overlay.overlay.opaque", b"y"),
    ]


def test_an_override_counts_without_privilege_only(tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    os.chmod(tmp_path / "f", 0o644)
    st = (tmp_path / "f").stat()
    xattrs = [
        (b"user.containers.override_stat", b"5:6:0000:char-1-3"),
        (b"user.containers.override_security.capability", b"caps"),
        (b"security.selinux", b"label"),
        (b"a", b"1"),
    ]
    shown = Metadata(privileged=False).shown(st, xattrs)
    assert (shown.uid, shown.gid, shown.mode) == (5, 6, stat.S_IFCHR)
    assert shown.rdev == os.makedev(1, 3)
    assert shown.xattrs == [(b"a", b"1"), (b"security.capability", b"caps")]
    shown = Metadata(privileged=True).shown(st, xattrs)
    assert shown.xattrs == [(b"a", b"1")]
    assert (shown.uid, shown.mode) == (st.st_uid, stat.S_IFREG | 0o644)
