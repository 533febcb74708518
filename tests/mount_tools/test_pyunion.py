"""`pyunion` tells the call of mount.fuse3 from its own commands."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from unittest.mock import Mock

import pytest

from mount_tools import pyunion


def test_the_call_of_mount_fuse3() -> None:
    assert pyunion.is_mount_call(["spec", "/mnt", "-o", "rw,lowerdir=/a,dev,suid"])


@pytest.mark.parametrize(
    "words",
    [[], ["--help"], ["spec", "/mnt"], ["-o", "x", "a", "b"], ["image", "ls", "--all", "x"]],
)
def test_everything_else_is_a_command(words: list[str]) -> None:
    assert not pyunion.is_mount_call(words)


def test_a_spec_that_is_called_as_a_command_has_a_directory_in_full(tmp_path: Path) -> None:
    assert pyunion.is_mount_call(["images", str(tmp_path), "-o", "rw"])
    assert not pyunion.is_mount_call(["images", "busy:1", "-o", "file"])
    assert not pyunion.is_mount_call(["images", str(tmp_path / "nope"), "-o", "file"])


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        ("rw,dev,suid", "rw"),
        ("rw,container=box,dev,suid", "rw,container=box"),
        ("rw,suid,dev,suid", "rw,suid"),
        ("rw,suid,dev,dev,suid", "rw,suid,dev"),
        ("ro,nodev,suid", "ro,nodev"),
        ("ro,nosuid,dev", "ro,nosuid"),
        ("nosuid,nodev", "nosuid,nodev"),
        ("dev,suid", ""),
        ("lowerdir=/suid", "lowerdir=/suid"),
    ],
)
def test_what_mount_fuse3_adds_is_not_asked_for(given: str, asked: str) -> None:
    assert pyunion.without_defaults(given) == asked


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        (["run", "busy:1", "true"], "RUN"),
        (["--root", "run", "--no-sync", "run", "-it", "busy:1"], "RUN"),
        (["--root=/x", "run"], "RUN"),
        (["start", "box"], "RUN"),
        (["restart", "box"], "RUN"),
        (["container", "exec", "box", "run"], "EXEC"),
        (["exec", "box", "run"], "EXEC"),
        (["run", "--help"], None),
        (["ps", "run"], None),
        (["--root", "run"], None),
        ([], None),
    ],
)
def test_which_commands_need_a_keeper(words: list[str], kind: str | None) -> None:
    assert pyunion.needs_keeper(words) == kind


def test_a_keeper_that_cannot_be_forked_is_no_error_yet(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = os.listdir("/proc/self/fd")
    refused = OSError(errno.EAGAIN, "Resource temporarily unavailable")
    monkeypatch.setattr(os, "fork", Mock(side_effect=refused))
    assert pyunion.main(["run", "--nonsense"]) == 125
    assert capsys.readouterr().err.startswith("unknown flag: --nonsense")
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_a_command_is_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert pyunion.main(["nope"]) == 1
    assert capsys.readouterr().err.startswith("pyunion: 'nope' is not a pyunion command.")


def test_a_mount_call_goes_to_the_mount_helper(capsys: pytest.CaptureFixture[str]) -> None:
    assert pyunion.main(["spec", "/mnt", "-o", "rw,nonsense"]) == 1
    assert capsys.readouterr().err.startswith("mount.pyunion: unknown option 'nonsense'")


def test_an_interrupt_while_modules_are_imported_is_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(name: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pyunion, "import_module", interrupted)
    assert pyunion.main(["images"]) == 130
    assert capsys.readouterr().err == "\n"
