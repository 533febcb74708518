"""Users of an image: what its files say, whatever they are."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from layerstore.errors import StoreError
from mount_tools.container.user import Identity, identity
from tests.helpers.children import spawn, wait

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
        ("", Identity(0, 0, (0,), "/root")),
        ("bob", Identity(1000, 1001, (1001, 10, 4), "/home/bob")),
        ("1000", Identity(1000, 1001, (1001, 10, 4), "/home/bob")),
        ("bob:wheel", Identity(1000, 10, (10,), "/home/bob")),
        ("bob:77", Identity(1000, 77, (77,), "/home/bob")),
        ("4242", Identity(4242, 0, (0,), "/")),
        ("4242:adm", Identity(4242, 4, (4,), "/")),
    ],
)
def test_users_and_groups_are_found_by_name_and_number(root: int, user: str, who: Identity) -> None:
    assert identity(root, user) == who


@pytest.mark.parametrize("user", ["nobody", "bob:nogroup", "99999999999", "-1", "0:99999999999"])
def test_a_user_that_is_not_there_is_an_error(root: int, user: str) -> None:
    with pytest.raises(StoreError):
        identity(root, user)


@pytest.mark.parametrize("user", ["a\nb", "root:a\nb", "\x1b[31m", "a" * 100_000])
def test_a_name_writes_no_lines_of_its_own(root: int, user: str) -> None:
    with pytest.raises(StoreError) as caught:
        identity(root, user)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 300


@pytest.mark.parametrize("user", ["\u0663", "0:\u0663", "\u00b2", " 1", "1_0", "-0"])
def test_ids_are_ascii_digits(root: int, user: str) -> None:
    """int() reads most of these."""
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
    assert identity(root, "0") == Identity(0, 0, (0,), "/")


def test_a_line_ends_with_a_newline_and_nothing_else(root: int, tmp_path: Path) -> None:
    passwd = tmp_path / "etc/passwd"
    passwd.write_text("eve:x:1000:1000:\u2028bob:x:0:0::/:/home:\x0bbob:x:0:0::/:\rbob:x:0:0::/:\n")
    with pytest.raises(StoreError):
        identity(root, "bob")
    passwd.write_text("eve:x:\u0661:0::/:\n")
    assert identity(root, "1") == Identity(1, 0, (0,), "/")


def test_a_file_that_is_exchanged_while_it_is_read(root: int, tmp_path: Path) -> None:
    """Never blocked, never more than is read at once, never a user who is in none of them."""
    passwd = tmp_path / "etc/passwd"

    def swap() -> None:
        while True:
            for at in range(4):
                new = tmp_path / f"etc/new{at}"
                if at == 0:
                    os.mkfifo(new)
                elif at == 1:
                    new.symlink_to("/etc/passwd")
                elif at == 2:
                    new.write_bytes(b"#" * (1 << 20) + PASSWD.encode())
                else:
                    new.write_text(PASSWD)
                os.rename(new, passwd)

    swapper = spawn(swap)
    found: set[int | None] = set()
    try:
        while len(found) < 2:
            try:
                found.add(identity(root, "bob").uid)
            except StoreError:
                found.add(None)
    finally:
        os.kill(swapper, signal.SIGKILL)
        wait(swapper)
    assert found == {1000, None}
