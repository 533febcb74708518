"""Our mount of a stage: one for all steps, frozen after each that changed something."""

from __future__ import annotations

import os

import pytest

from layerstore import Store
from mount_tools.build import fuse_stage
from mount_tools.build.fuse_stage import FuseStage
from mount_tools.build.stage_mount import Surface
from mount_tools.build.step_end import HELD
from tests.helpers.stages import keep_open, run_stage, sh


@pytest.fixture(autouse=True)
def not_of_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mount_tools.build.stage_mount.is_possible", lambda *_: False)


def test_the_stage_is_mounted_once(store: Store) -> None:
    seen: list[bytes] = []

    def look(stage: Surface, output: int) -> None:
        assert isinstance(stage, FuseStage)
        found = os.stat(stage.plan.point)
        os.write(output, b"%d %d\n" % (found.st_dev, found.st_ino))

    ran = run_stage(store, [look, sh("echo > /a"), look, sh("rm /a"), look])
    seen = ran.output.splitlines()
    assert len(seen) == 3 and len(set(seen)) == 1


def test_a_step_is_a_layer_if_it_changes_the_root_directory_alone(store: Store) -> None:
    ran = run_stage(store, [sh("chmod 711 /"), sh("chmod 711 /"), sh("ls / > /dev/null")])
    assert [kept.diff_id is not None for kept in ran.kept] == [True, False, False]


def test_a_file_is_in_the_layer_of_the_step_that_wrote_it_only(store: Store) -> None:
    """A file that the daemon still takes for open would be copied into the next layer."""
    write = sh("i=0; while test $i -lt 40; do echo $i > /f$i; i=$((i+1)); done")
    ran = run_stage(store, [write, sh("echo > /g"), write, sh("echo > /h")])
    with store.leases.lease("work", "test"):
        chain = store.layers.chain(ran.chain)
        assert [len(os.listdir(layer.diff)) for layer in chain[:4]] == [1, 40, 1, 40]


def test_files_of_the_host_are_no_part_of_a_layer(store: Store) -> None:
    ran = run_stage(store, [sh("cat /etc/hostname /etc/hosts > /dev/null; echo x > /etc/new")])
    with store.leases.lease("work", "test"):
        (top, *_) = store.layers.chain(ran.chain)
        assert os.listdir(top.diff) == ["etc"]
        assert os.listdir(top.diff / "etc") == ["new"]


def test_nobody_else_may_write_to_files_of_a_step(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It could change what the next step makes, which the cache has for everybody."""
    monkeypatch.setattr(fuse_stage, "PATIENCE", 0.1)

    def sent(stage: Surface, output: int) -> None:
        sh("echo x > /tmp/file")(stage, output)
        keep_open("tmp/file", os.O_RDWR, stage.root)

    ran = run_stage(store, [sent, sh("true")])
    assert ran.broke is not None and ran.broke.text == HELD
    assert ran.kept == []
