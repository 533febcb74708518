"""Users of an image: what its files say, whatever they are."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from layerstore.errors import StoreError
from mount_tools.container.user import Identity, identity

PASSWD = "root:x:0:0:root:/root:/bin/sh\nbob:x:1000:1001::/home/bob:\n# odd\nshort:x\nx:y:z:1:::\n"
GROUP = "root:x:0:\nbob:x:1001:\nwheel:x:10:bob,alice\nadm:x:4:alice,bob\n"


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(PASSWD)
    (tmp_path / "etc/group").write_text(GROUP)
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


@pytest.mark.parametrize(
    ("user", "who"),
    [
        ("", Identity(0, 0, (), "/root")),
        ("bob", Identity(1000, 1001, (10, 4), "/home/bob")),
        ("1000", Identity(1000, 1001, (10, 4), "/home/bob")),
        ("bob:wheel", Identity(1000, 10, (), "/home/bob")),
        ("bob:77", Identity(1000, 77, (), "/home/bob")),
        ("4242", Identity(4242, 0, (), "/")),
        ("4242:adm", Identity(4242, 4, (), "/")),
    ],
)
def test_who_a_user_is(root: int, user: str, who: Identity) -> None:
    assert identity(root, user) == who


@pytest.mark.parametrize("user", ["nobody", "bob:nogroup", "99999999999", "-1", "0:99999999999"])
def test_who_is_not_there(root: int, user: str) -> None:
    with pytest.raises(StoreError):
        identity(root, user)


def test_links_stay_inside_and_odd_files_hold_nobody(root: int, tmp_path: Path) -> None:
    passwd = tmp_path / "etc/passwd"
    passwd.rename(tmp_path / "real")
    passwd.symlink_to("/real")
    assert identity(root, "bob").uid == 1000
    passwd.unlink()
    passwd.symlink_to("../../../../../../../etc/passwd")  # its own, which is a loop
    with pytest.raises(StoreError):
        identity(root, "daemon")
    passwd.unlink()
    os.mkfifo(passwd)
    with pytest.raises(StoreError):
        identity(root, "bob")
    passwd.unlink()
    passwd.write_bytes(b"bob:x:1000:1001::/home/bob:\n" + b"#" * (2 << 20))
    with pytest.raises(StoreError):
        identity(root, "bob")
    passwd.unlink()
    assert identity(root, "0") == Identity(0, 0, (), "/")
