"""Pausing: every process stands still, by a control group or by signals, until it is undone."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from layerstore import Container, Store
from layerstore.errors import Conflict
from mount_tools.container import cgroup, pausing
from mount_tools.container.members import members
from tests.helpers.containers import Containers
from tests.helpers.mounts import wait_until

SCRIPT = "echo ready; n=0; while :; do n=$((n+1)); echo $n > /count; busybox usleep 1000; done"


@pytest.fixture
def store(containers: Containers) -> Iterator[Store]:
    with Store.open(containers.store, sync=False) as store:
        yield store


@pytest.fixture(params=["frozen", "stopped"])
def how(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Pause by a control group, or as where none can be made."""
    if request.param == "stopped":

        def refuse(*_: object) -> Path:
            raise cgroup.NoCgroup("not here")

        monkeypatch.setattr(cgroup, "make_cgroup", refuse)
    else:
        try:
            cgroup.make_cgroup("probe").rmdir()
        except cgroup.NoCgroup as error:
            pytest.skip(str(error))
    return str(request.param)


def counting(containers: Containers, store: Store) -> Container:
    """Start a container that counts in its /count."""
    containers.ok("run", "-d", "--name", "box", "busy:1", "sh", "-c", SCRIPT)
    wait_until(lambda: containers("logs", "box").stdout == "ready\n", "the container")
    return store.containers.resolve("box")


def ticks(container: Container) -> int:
    """Return the CPU time that the processes of the container have used, and their children."""
    assert container.process is not None
    total = 0
    for process in members(container.process):
        with suppress(FileNotFoundError, ProcessLookupError):  # it ended meanwhile
            line = Path(f"/proc/{process.id.pid}/stat").read_text()
            total += sum(map(int, line[line.rindex(")") + 2 :].split()[11:15]))
    return total


def test_nothing_moves_until_it_is_unpaused(containers: Containers, store: Store, how: str) -> None:
    box = counting(containers, store)
    assert pausing.pause(box) == (None if how == "frozen" else "not here")
    assert pausing.is_paused(box)
    before = ticks(box)
    status = containers.ok("ps", "--format", "{{.State}} {{.Status}}")
    assert status.startswith("paused Up ") and status.endswith(" (Paused)")
    state = json.loads(containers.ok("inspect", "box"))[0]["State"]
    assert (state["Status"], state["Paused"], state["Running"]) == ("paused", True, True)
    assert ticks(box) == before
    with pytest.raises(Conflict, match=f"^Container {box.id} is already paused$"):
        pausing.pause(box)
    pausing.unpause(box)
    assert not pausing.is_paused(box)
    wait_until(lambda: ticks(box) > before, "the container to go on")
    with pytest.raises(Conflict, match=f"^Container {box.id} is not paused$"):
        pausing.unpause(box)
    containers.ok("rm", "-f", "box")
    containers.ok("check")


def test_a_process_that_forks_all_the_time_is_caught(
    containers: Containers, store: Store, how: str
) -> None:
    script = "echo ready; while :; do busybox true; done"
    containers.ok("run", "-d", "--name", "box", "--init", "busy:1", "sh", "-c", script)
    wait_until(lambda: containers("logs", "box").stdout == "ready\n", "the container")
    box = store.containers.resolve("box")
    pausing.pause(box)
    assert box.process is not None
    before = [one.id.pid for one in members(box.process)]
    if how == "stopped":
        assert {one.state for one in members(box.process)} <= set("TtZ")
    assert [one.id.pid for one in members(box.process)] == before
    containers.ok("rm", "-f", "box")


def test_stop_and_kill_reach_a_paused_container(
    containers: Containers, store: Store, how: str
) -> None:
    script = "trap 'exit 7' TERM; echo ready; while :; do busybox usleep 10000; done"
    words = ("stop", "-t", "20") if how == "frozen" else ("kill", "-s", "TERM")
    containers.ok("run", "-d", "--name", "box", "busy:1", "sh", "-c", script)
    wait_until(lambda: containers("logs", "box").stdout == "ready\n", "the container")
    pausing.pause(store.containers.resolve("box"))
    containers.ok(*words, "box")
    assert containers.ok("wait", "box") == "7"
    containers.ok("rm", "box")


def test_what_a_paused_container_refuses(containers: Containers, store: Store) -> None:
    box = counting(containers, store)
    assert containers.ok("pause", "box") == "box"
    for words, complaint in (
        (("exec", "box", "true"), "Container box is paused, unpause the container before exec"),
        (("attach", "box"), "You cannot attach to a paused container, unpause it first"),
        (("start", "box"), "cannot start a paused container, try unpause instead"),
        (("rm", "box"), f"You cannot remove a paused container {box.id}. Unpause and then stop"),
        (("pause", "box"), f"Container {box.id} is already paused"),
    ):
        done = containers(*words)
        assert done.returncode == 1 and complaint in done.stderr, done
    assert containers.ok("ps", "-q", "-f", "status=running") == ""
    assert containers.ok("ps", "-q", "-f", "status=paused") == box.short
    assert containers.ok("unpause", "box") == "box"
    assert containers.ok("exec", "box", "echo", "again") == "again"
    containers.ok("rm", "-f", "box")
    containers.ok("create", "--name", "box", "busy:1")
    for word in ("pause", "unpause", "top"):
        assert "is not running" in containers(word, "box").stderr


def test_what_is_killed_meanwhile_is_not_paused(containers: Containers, store: Store) -> None:
    box = counting(containers, store)
    containers.ok("pause", "box")
    os.kill(containers.keeper("box"), signal.SIGKILL)
    wait_until(lambda: not containers.mine(), "everything to end")
    assert containers.ok("ps", "-a", "--format", "{{.State}}") == "exited"
    containers.ok("start", "box")
    assert containers.ok("ps", "--format", "{{.State}}") == "running"
    assert not pausing.is_paused(store.containers.get(box.id))
    containers.ok("rm", "-f", "box")
    assert cgroup.group_of(os.getpid()) is None


def test_a_mark_of_nothing_is_not_believed(containers: Containers, store: Store) -> None:
    box = counting(containers, store)
    mark = box.directory / "paused"
    for text in ("", "[", json.dumps([1, 2, None]), json.dumps([box.pid, box.pid_start, None]),
                 json.dumps([box.pid, box.pid_start, "/nowhere"])):  # fmt: skip
        mark.write_text(text)
        assert not pausing.is_paused(box), text
    containers.ok("pause", "box")
    assert pausing.is_paused(box)
    containers.ok("rm", "-f", "box")
