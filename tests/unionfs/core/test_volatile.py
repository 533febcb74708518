"""A volatile mount: no sync at all, and a mark that only the same boot accepts."""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.layers import Layers
from tests.helpers.mounts import kernel_overlay
from tests.helpers.unions import Content, core, nodeid
from tests.unionfs.core.test_setup import refusal, refused
from unionfs.core import freeze, setup, staging, union
from unionfs.core import volatile as volatile_mount

MARK = "work/incompat/volatile"
ADVICE = (
    "so files may be incomplete or missing: start with a new upperdir, or remove "
    "BASE/work/work/incompat/volatile to use it all the same"
)


@pytest.fixture
def syncs(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count the calls of every way to sync."""
    calls: Counter[str] = Counter()

    def counted(name: str, action: Callable[..., Any]) -> Callable[..., Any]:
        def act(*args: Any) -> Any:
            calls[name] += 1
            return action(*args)

        return act

    for name in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, name, counted(name, getattr(os, name)))
    for module, name in (
        (setup, "syncfs"),
        (union, "syncfs"),
        (freeze, "syncfs"),
        (volatile_mount, "syncfs"),
        (staging, "write_back"),
        (staging, "begin_write_back"),
    ):
        monkeypatch.setattr(module, name, counted(name, getattr(module, name)))
    return calls


def use(layers: Layers, **settings: Any) -> None:
    """Do everything that syncs in a mount which is not volatile."""
    with layers.union(strict=False, **settings) as tree:
        tree.append(b"file", b"y")  # a copy_up
        tree.chmod(b"other", 0o600)
        if settings.get("metacopy"):
            tree.append(b"other", b"y")
        fs = core(tree)
        node = nodeid(tree, b"file")
        fh = fs.open(node, os.O_RDWR)
        fs.fsync(fh, datasync=False)
        fs.fsync(fh, datasync=True)
        fs.release(fh)
        fs.syncdir(nodeid(tree, b"d"))
        fs.syncfs()
        fs.freeze(os.fsencode(layers.base / "fresh"))


@pytest.mark.parametrize("metacopy", [False, True])
def test_a_volatile_union_makes_no_sync(
    tmp_path: Path, syncs: Counter[str], metacopy: bool
) -> None:
    for volatile in (True, False):
        content: Content = {"file": "x", "other": b"x" * (1 << 20), "d": {"in": "x"}}
        layers = Layers(tmp_path / str(volatile), content)
        use(layers, volatile=volatile, metacopy=metacopy)
        if volatile:
            assert syncs == {}
            with layers.union(volatile=True):
                pass
            assert syncs == {}
    assert syncs["fdatasync"] == 1
    assert syncs["syncfs"] >= 3, "syncfs, the freeze, and the close"
    assert syncs["fsync"] >= 2


def test_the_mark_stays_and_the_same_boot_accepts_it(tmp_path: Path, syncs: Counter[str]) -> None:
    layers = Layers(tmp_path, {"file": "x"})
    mark = layers.work / MARK
    with layers.union(volatile=True) as tree:
        assert sorted(os.listdir(mark)) == ["boot_id", "dirty"]
        tree.append(b"file", b"y")
    was = mark.stat().st_ino
    with layers.union(volatile=True) as tree:
        assert tree.read(b"file") == b"xy"
    assert mark.stat().st_ino == was, "a crash must never find it absent"
    assert syncs == {}


def test_a_mount_that_is_not_volatile_syncs_first_and_then_removes_the_mark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layers = Layers(tmp_path, {"file": "x"})
    mark = layers.work / MARK
    with layers.union(volatile=True):
        pass

    def fail(_fd: int) -> None:
        assert mark.exists()
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(volatile_mount, "syncfs", fail)
        assert refusal(layers) == (
            f"upperdir {layers.upper} was mounted volatile and cannot be synced: "
            "Input/output error; check its filesystem, or mount it volatile again"
        )
    assert mark.exists()
    with layers.union():
        assert not mark.parent.exists()


@pytest.mark.parametrize("volatile", [False, True])
def test_a_mark_of_an_earlier_boot_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, volatile: bool
) -> None:
    layers = Layers(tmp_path)
    with layers.union(volatile=True):
        pass
    (layers.work / MARK / "boot_id").write_text("00000000-0000-4000-8000-000000000000\n")
    assert refused(layers, volatile=volatile) == (
        f"upperdir BASE/upper was mounted volatile before the last boot of the machine, {ADVICE}"
    )
    subprocess.run(["rm", "-r", str(layers.work / MARK)], check=True)
    with layers.union(volatile=volatile):
        pass


@pytest.mark.parametrize("boot_id", [None, "", "a link", "a fifo", "a directory"])
def test_a_mark_without_a_boot_id_is_refused(tmp_path: Path, boot_id: str | None) -> None:
    """As overlayfs leaves it, or a power cut."""
    layers = Layers(tmp_path)
    mark = layers.work / MARK
    mark.mkdir(parents=True)
    at = mark / "boot_id"
    if boot_id == "":
        at.touch()
    elif boot_id == "a link":
        at.symlink_to("/proc/sys/kernel/random/boot_id")
    elif boot_id == "a fifo":
        os.mkfifo(at)
    elif boot_id == "a directory":
        at.mkdir()
    assert refused(layers) == (
        f"upperdir BASE/upper was mounted volatile by another program, {ADVICE}"
    )


def test_where_no_boot_id_can_be_read_no_mark_is_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(volatile_mount, "boot_id", lambda: b"")
    layers = Layers(tmp_path)
    with layers.union(volatile=True):
        pass
    assert refused(layers, volatile=True).endswith(ADVICE)


def test_any_other_feature_of_the_workdir_is_refused(tmp_path: Path) -> None:
    layers = Layers(tmp_path)
    feature = layers.work / "work/incompat/new"
    feature.mkdir(parents=True)
    assert refused(layers) == (
        "workdir BASE/work was used with the feature 'new', which is not known here: start with a "
        "new upperdir and workdir"
    )
    feature.rmdir()
    with layers.union():
        assert not feature.parent.exists()


def test_overlayfs_refuses_our_mark_and_we_refuse_its(tmp_path: Path) -> None:
    ours, theirs = Layers(tmp_path / "ours"), Layers(tmp_path / "theirs")
    with ours.union(volatile=True):
        pass
    with kernel_overlay(theirs.lowers, theirs.upper, theirs.work, ["volatile"]):
        pass
    assert refused(theirs) == (
        f"upperdir BASE/upper was mounted volatile by another program, {ADVICE}"
    )
    with (
        pytest.raises(pytest.fail.Exception, match="wrong fs type"),
        kernel_overlay(ours.lowers, ours.upper, ours.work),
    ):
        pass
    with ours.union():  # which syncs it
        pass
    with kernel_overlay(ours.lowers, ours.upper, ours.work):
        pass
