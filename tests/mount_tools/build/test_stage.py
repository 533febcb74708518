"""The steps of a stage, one after the other, and how one that fails is told."""

from __future__ import annotations

import errno
import os

import pytest

from layerstore import Store
from layerstore.errors import StoreError
from mount_tools.build.messages import Began, Broke, Finished, Ready
from mount_tools.build.stage_mount import Surface
from tests.helpers.stages import Work, run_stage, sh


def test_each_step_sees_what_the_one_before_did(store: Store) -> None:
    ran = run_stage(store, [sh("echo one > /f"), sh("cat /f; echo two > /f"), sh("cat /f")])
    assert ran.output == b"one\ntwo\n"
    told = [type(message) for message in ran.messages if not hasattr(message, "chain")]
    assert told == [Began, Finished, Began, Finished, Began, Finished, Ready]


def test_no_step_begins_before_the_output_of_the_last_one_is_read(store: Store) -> None:
    """Nothing else tells the builder which step some output is of."""
    ran = run_stage(store, [sh("echo one"), sh("true"), sh("echo two")], reads=False)
    assert ran.output == b"one\ntwo\n"
    assert [m.unread for m in ran.messages if isinstance(m, Finished)] == [True, False, True]


def raising(error: Exception) -> Work:
    def work(stage: Surface, output: int) -> None:
        raise error

    return work


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (StoreError("a sentence"), "a sentence"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/f"), "/f: No space left on device"),
        (ValueError("odd"), "a bug in PyUnion (ValueError: odd)"),
    ],
)
def test_what_goes_wrong_is_a_sentence(store: Store, error: Exception, text: str) -> None:
    ran = run_stage(store, [sh("echo > /f"), raising(error), sh("true")])
    assert ran.broke == Broke(1, 0, text, getattr(error, "errno", 0))
    # What was done before is kept all the same.
    assert [kept.step for kept in ran.kept] == [0]


@pytest.mark.parametrize("of_kernel", [True, False])
def test_what_others_copy_from_shows_the_layers_alone(
    store: Store, monkeypatch: pytest.MonkeyPatch, of_kernel: bool
) -> None:
    """Our own mount shows the mount points of a RUN too, so it is not given to them."""
    if not of_kernel:
        monkeypatch.setattr("mount_tools.build.stage_mount.is_possible", lambda *_: False)
    ran = run_stage(store, [sh("test -d /proc/self; echo > /made")], exports=2)
    names = ["bin", "etc", "file", "made", "tmp"]
    assert ran.exported == ([names, names] if of_kernel else [])
