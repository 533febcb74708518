"""The command lines, and what is known of a mount."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.layers import Stack
from benchmarks.subjects import SUBJECTS, Place, Subject, is_mounted, said_by, versions

DEEP = Stack(Path("/layers"), tuple(map(str, range(256))), 0)
PLACE = Place(DEEP, upper=Path("/u"), work=Path("/w"), merged=Path("/merged"), log=Path("/log"))
MOUNTED = [subject for subject in SUBJECTS if subject.command is not None]
PAGE = 4096


@pytest.mark.parametrize("subject", MOUNTED, ids=lambda subject: subject.name)
def test_command_mounts_all_layers_within_a_page(subject: Subject) -> None:
    assert subject.command is not None
    argv = subject.command(PLACE, True)
    words = " ".join(argv)
    assert argv[-1] == "/merged"
    assert "/u" in words
    assert "255" in words
    assert len(words) < PAGE


@pytest.mark.parametrize("subject", MOUNTED, ids=lambda subject: subject.name)
def test_daemon_stays_in_the_foreground_only_when_asked(subject: Subject) -> None:
    assert subject.command is not None
    assert ("-f" in subject.command(PLACE, True)) == subject.serves
    assert "-f" not in subject.command(PLACE, False)


def test_peers_are_the_others_with_a_daemon() -> None:
    peers = {subject.name for subject in SUBJECTS if subject.is_peer}
    assert peers == {"fuse-overlayfs", "unionfs-fuse", "mergerfs"}
    assert set(versions()) == peers


def test_mounted_is_what_the_mount_table_says(tmp_path: Path) -> None:
    assert is_mounted(Path("/proc"))
    assert not is_mounted(tmp_path)


def test_command_that_fails_has_said_nothing() -> None:
    assert said_by("echo", "one") == "one"
    assert said_by("sh", "-c", "echo one; exit 1") == ""
    assert said_by("no-such-command") == ""
