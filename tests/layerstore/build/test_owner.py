"""`--chown` and `--chmod`: names of the image, octal and symbolic modes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from layerstore.build.owner import Owner, find_owner, read_mode
from layerstore.containerfile.errors import ContainerfileError, Location
from tests.layerstore.build.mini_build import written

AT = Location("f", 3, 3, "COPY a b")
PASSWD = "root:x:0:0::/:\nme:x:77:88::/:\nyou:x:5:6::/:\nbroken\nbig:x:99999999999:1::/:\n"
GROUP = "me:x:99:\nwheel:x:10:you\n"


@pytest.fixture
def image(tmp_path: Path) -> int:
    written(tmp_path, {"etc/passwd": PASSWD, "etc/group": GROUP})
    return os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)


@pytest.mark.parametrize(
    ("text", "owner"),
    [
        ("me", (77, 99)),  # the group of that name, as docker has it
        ("you", (5, 6)),  # there is no such group
        ("me:wheel", (77, 10)),
        ("77", (77, 77)),
        ("me:5", (77, 5)),
        ("5:wheel", (5, 10)),
        ("0:0", (0, 0)),
        ("root", (0, 0)),
    ],
)
def test_owner(image: int, text: str, owner: tuple[int, int]) -> None:
    try:
        assert find_owner(image, text, AT) == Owner(*owner)
    finally:
        os.close(image)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("nobody", "can't find uid for user nobody"),
        ("me:none", "can't find gid for group none"),
        ("me:", "invalid chown string format: me:"),
        (":me", "invalid chown string format: :me"),
        ("a:b:c", "invalid chown string format: a:b:c"),
        ("-1:0", "can't find uid for user -1"),
        ("4294967296", "uids and gids must be in range"),
        ("big", "uids and gids must be in range"),
        ("٣", "can't find uid for user"),
    ],
)
def test_an_owner_that_is_refused(image: int, text: str, reason: str) -> None:
    try:
        with pytest.raises(ContainerfileError, match=f"^f:3: .*{reason}"):
            find_owner(image, text, AT)
    finally:
        os.close(image)


@pytest.mark.parametrize(
    ("text", "before", "after"),
    [
        ("755", 0o100600, 0o100755),
        ("0", 0o100600, 0o100000),
        ("7777", 0o040755, 0o047777),
        ("00644", 0o100000, 0o100644),
        ("u+x", 0o100644, 0o100744),
        ("+x", 0o100644, 0o100755),
        ("go-r", 0o100644, 0o100600),
        ("a=rx", 0o100200, 0o100555),
        ("u=rwX,go=rX", 0o040700, 0o040755),
        ("u=rwX,go=rX", 0o100700, 0o100755),
        ("u=rwX,go=rX", 0o100600, 0o100644),
        ("u+s,g+s", 0o100755, 0o106755),
        ("+t", 0o040777, 0o041777),
        ("g=u", 0o100640, 0o100660),
        ("o=g-w", 0o100660, 0o100664),
        ("u-x+w", 0o100555, 0o100655),
        ("=", 0o100777, 0o100000),
    ],
)
def test_mode(text: str, before: int, after: int) -> None:
    assert oct(read_mode(text, AT)(before)) == oct(after)


@pytest.mark.parametrize("text", ["8", "10000", "u", "x+u+", "u+q", "u+x,", "755,u+x", "rwx"])
def test_a_mode_that_is_refused(text: str) -> None:
    with pytest.raises(ContainerfileError, match="f:3: invalid chmod parameter: "):
        read_mode(text, AT)
