"""What the builder makes of the messages of a stage."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast
from unittest.mock import Mock

import pytest

from layerstore import Store
from layerstore.build.plan import FromNothing, Stage
from layerstore.containerfile.errors import Location
from layerstore.errors import DiskFull, StoreError
from layerstore.oci.digest import sha256_digest
from mount_tools.build.at_work import AtWork, wait
from mount_tools.build.evaluate import Look, Step
from mount_tools.build.made import Made
from mount_tools.build.messages import (
    Began,
    Broke,
    Finished,
    Kept,
    Link,
    Printed,
    Ready,
    Stopped,
    link,
)
from mount_tools.build.stage_process import StageProcess
from mount_tools.build.watch import Shown
from mount_tools.cli.output.build_lines import Lines
from tests.helpers.builds import Builds

AT = Location("Containerfile", 7, 7, "COPY a b")


class _Ends:
    """A stage whose processes are the test."""

    def __init__(self, store: Store) -> None:
        self.ours_steps, self.steps = link()
        self.ours_packed, self.packed = link()
        self.output, self.printed = os.pipe()
        os.set_blocking(self.output, False)
        self.lines = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
        process = SimpleNamespace(
            steps=self.ours_steps,
            packed=self.ours_packed,
            output=self.output,
            container=SimpleNamespace(short="0123456789ab"),
        )
        step = Step(Shown(2, 2, 0, "", "COPY a b"), "COPY", [], None, Look([], "", "/"))
        step.place = str(AT)
        stage = Stage(0, "", AT, FromNothing(), (), {})
        made = Made(None, None, "scratch", sha256_digest(b""))
        self.at_work = AtWork(
            stage, made, [step], cast(StageProcess, process), step, store, Lines(self.lines)
        )

    def close(self) -> None:
        for end in (self.ours_steps, self.steps, self.ours_packed, self.packed):
            end.close()
        os.close(self.output)
        os.close(self.printed)
        self.lines.close()


@pytest.fixture
def ends(tmp_path: Path) -> Iterator[_Ends]:
    with Store.open(tmp_path / "plain", sync=False) as store:
        made = _Ends(store)
        yield made
        made.close()


def shown(ends: _Ends) -> bytes:
    buffer = ends.lines.buffer
    assert isinstance(buffer, io.BytesIO)
    return buffer.getvalue()


HEAD = b"Step 2/2 : COPY a b\n"


def test_a_stage_is_ended_when_all_is_done_and_packed(ends: _Ends) -> None:
    os.write(ends.printed, b"said\n")
    for message in (Began(0), Finished(0, 0.1, 5, None, unread=True), Ready()):
        ends.steps.send(message)
        wait([ends.at_work])
    assert ends.at_work.links == [ends.ours_packed] and not ends.at_work.ended
    ends.packed.send(Kept(0, 5, None, None))
    ends.packed.send(Kept(-1, 0, None, None))
    while not ends.at_work.ended:
        wait([ends.at_work])
    assert [entry.created_by for entry in ends.at_work.made.history] == ["COPY"]
    assert shown(ends) == HEAD + b"said\n"


def test_what_a_step_prints_comes_after_its_heading(ends: _Ends) -> None:
    """Also if the builder looks late, when the step before has finished as well."""
    for message in (Began(0), Finished(0, 0.1, 5, None), Began(0)):
        ends.steps.send(message)
    os.write(ends.printed, b"said\n")
    while b"said" not in shown(ends):
        wait([ends.at_work])
    assert shown(ends) == HEAD + HEAD + b"said\n"


def test_what_is_left_of_a_step_is_shown_before_the_next_begins(ends: _Ends) -> None:
    os.write(ends.printed, b"said\n")
    for message in (Began(0), Finished(0, 0.1, 5, None, unread=True)):
        ends.steps.send(message)
    while not ends.steps.has_message():
        wait([ends.at_work])
    assert ends.steps.receive() == (Printed(), [])
    assert shown(ends) == HEAD + b"said\n"


def test_a_layer_that_cannot_be_stored_names_its_step(ends: _Ends) -> None:
    ends.packed.send(Stopped("its layer cannot be stored: no", errno.ENOSPC, 0))
    with pytest.raises(StoreError) as raised:
        ends.at_work.take(ends.ours_packed)
    said = "Containerfile:7: step 2/2 failed: its layer cannot be stored: no\n  COPY a b"
    assert str(raised.value) == said
    assert isinstance(raised.value.__cause__, OSError)
    assert raised.value.__cause__.errno == errno.ENOSPC


def test_a_disk_that_was_full_is_named_though_the_end_of_the_stage_frees_some(
    ends: _Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    rooms = [False]
    monkeypatch.setattr("mount_tools.build.at_work.has_room", lambda root, size: rooms[0])
    ends.steps.send(Broke(0, 1, ""))
    ends.at_work.take(ends.ours_steps)
    process = cast(SimpleNamespace, ends.at_work.process)
    process.kill = process.remove = lambda: None
    process.end = lambda: rooms.__setitem__(0, True)
    assert ends.at_work.broke is not None
    said = str(ends.at_work.failure(ends.at_work.broke, keep=False))
    assert "No space left on the disk of the store; `pyunion prune`" in said


def test_what_a_full_disk_stopped_is_not_kept(ends: _Ends) -> None:
    """It would keep the disk full, and there is nothing to look into."""
    ends.steps.send(Broke(0, 0, "/x in the image cannot be written", errno.ENOSPC))
    ends.at_work.take(ends.ours_steps)
    process = cast(SimpleNamespace, ends.at_work.process)
    process.kill = process.end = lambda: None
    process.remove = Mock()
    assert ends.at_work.broke is not None
    said = str(ends.at_work.failure(ends.at_work.broke, keep=True))
    assert "No space left on the disk of the store" in said and "is kept" not in said
    process.remove.assert_called_once_with()


@pytest.mark.parametrize("keep", [True, False])
def test_a_disk_that_stays_full_does_not_hide_which_step_failed(ends: _Ends, keep: bool) -> None:
    ends.steps.send(Broke(0, 1, ""))
    ends.at_work.take(ends.ours_steps)
    process = cast(SimpleNamespace, ends.at_work.process)
    process.kill = lambda: None
    process.end = Mock(side_effect=DiskFull("store.db cannot grow"))
    assert ends.at_work.broke is not None
    said = str(ends.at_work.failure(ends.at_work.broke, keep=keep))
    assert said.startswith("Containerfile:7: step 2/2 failed: ")
    assert "No space left on the disk of the store; `pyunion prune`" in said
    assert "is kept" not in said


def test_a_packer_that_cannot_end_does_not_hide_which_step_failed(ends: _Ends) -> None:
    ends.steps.send(Broke(0, 1, "no space left"))
    ends.at_work.take(ends.ours_steps)
    ends.packed.send(Stopped("store.db cannot grow", errno.ENOSPC))
    ends.at_work.take(ends.ours_packed)
    assert ends.at_work.ended and ends.at_work.broke == Broke(0, 1, "no space left")


@pytest.mark.parametrize(("which", "does"), [("steps", "does its steps"), ("packed", "packs")])
def test_the_end_of_a_process_is_said(ends: _Ends, which: str, does: str) -> None:
    closed: Link = getattr(ends, which)
    closed.close()
    with pytest.raises(StoreError, match=f"stage 0 that {does}.* was killed"):
        ends.at_work.take(getattr(ends, f"ours_{which}"))


def test_the_container_of_a_failed_step_can_be_removed_at_once(builds: Builds) -> None:
    said = builds.fails("FROM busy:1\nRUN exit 4\n", "--force-rm", status=4)
    assert "step 2/2 failed" in said and "is kept" not in said
    assert builds.containers.ok("ps", "-aq") == ""
