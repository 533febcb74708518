"""The packer: frozen layers become layers of the store, as a commit would make them."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from layerstore import Store
from layerstore.layer.pack import Packing, pack
from layerstore.operations.check import check
from mount_tools.build.messages import Link, Stopped, link
from mount_tools.build.packer import Packer, limit_times, run_packer
from tests.helpers.stages import run_stage, sh


def test_each_step_that_changes_something_is_a_layer(store: Store) -> None:
    ran = run_stage(store, [sh("echo a > /a"), sh("true"), sh("mv /a /b; chmod 700 /")])
    assert [kept.diff_id is not None for kept in ran.kept] == [True, False, True]
    assert ran.kept[0].chain == ran.kept[1].chain
    assert ran.chain == ran.kept[2].chain
    with store.leases.lease("work", "test"):
        layers = store.layers.chain(ran.chain)
        assert [layer.diff_id for layer in reversed(layers)][1:] == [
            kept.diff_id for kept in ran.kept if kept.diff_id
        ]
        # They are where layers are, and what they say they are.
        for number, layer in enumerate(layers):
            assert layer.path.parent == store.root / "layers"
            below = [other.diff for other in layers[number + 1 :]]
            # The tree that was imported has an entry of its root.
            how = Packing(flat=not below)
            assert pack(layer.diff, below, privileged=True, how=how).diff_id == layer.diff_id
        assert (layers[0].diff / "b").read_text() == "a\n"
    store.containers.remove(ran.container)
    assert check(store, content=True) == []


def test_the_same_steps_make_the_same_layers_with_a_time_limit(store: Store) -> None:
    steps = [sh("mkdir /d; echo a > /d/a; ln -s a /d/link")]
    first = run_stage(store, steps, newest_ns=1_000_000_000)
    second = run_stage(store, steps, newest_ns=1_000_000_000)
    assert first.chain == second.chain != None  # noqa: E711


def test_only_what_is_newer_gets_the_limit(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    for name, when in (("old", 5), ("d/new", 50)):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, ns=(when, when))
    (tmp_path / "link").symlink_to("nowhere")
    limit_times(tmp_path, 20)
    times = {
        name: os.stat(tmp_path / name, follow_symlinks=False).st_mtime_ns
        for name in ("old", "d/new", "d", "link", ".")
    }
    assert times == {"old": 5, "d/new": 20, "d": 20, "link": 20, ".": 20}


class _OnAFullDisk(Packer):
    def __init__(self) -> None:
        self.step = 3

    def run(self, jobs: Link, builder: Link) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_is_told_the_builder_with_its_errno() -> None:
    ends = [*link(), *link()]
    try:
        assert run_packer(_OnAFullDisk, ends[0], ends[2]) == 1
        text = "its layer cannot be stored: No space left on device"
        assert ends[3].receive() == (Stopped(text, errno.ENOSPC, 3), [])
    finally:
        for end in ends:
            end.close()
