"""`pyunion` recognises the call of mount.fuse3, and nothing else yet."""

from __future__ import annotations

import pytest

from mount_tools import pyunion


def test_the_call_of_mount_fuse3() -> None:
    assert pyunion.is_mount_call(["spec", "/mnt", "-o", "rw,lowerdir=/a,dev,suid"])


@pytest.mark.parametrize(
    "words",
    [[], ["--help"], ["spec", "/mnt"], ["-o", "x", "a", "b"], ["images", "ls", "--all", "x"]],
)
def test_everything_else_is_a_usage_error(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert pyunion.main(words) == 1
    assert capsys.readouterr().err.startswith("usage: pyunion")


def test_a_mount_call_goes_to_the_mount_helper(capsys: pytest.CaptureFixture[str]) -> None:
    assert pyunion.main(["spec", "/mnt", "-o", "rw,nonsense"]) == 1
    assert capsys.readouterr().err.startswith("mount.pyunion: unknown option 'nonsense'")
