"""Control groups: made where they can be, limited, and removed; a sentence where they cannot."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mount_tools.container import cgroup
from mount_tools.container.cgroup import NoCgroup
from tests.helpers.cli import Cli
from tests.helpers.containers import Containers
from tests.helpers.images import add_image
from tests.helpers.processes import ending


class Hierarchy:
    """A directory that looks like cgroup v2, as far as files do."""

    def __init__(self, top: Path, own: str, controllers: str = "cpu memory pids") -> None:
        self.top = top
        self.own = top / own
        self.controllers = controllers
        for directory in (top, top / "pyunion", self.own.parent, self.own):
            self.add(directory)

    def add(self, directory: Path) -> None:
        directory.mkdir(exist_ok=True, parents=True)
        (directory / "cgroup.controllers").write_text(self.controllers)
        (directory / "cgroup.subtree_control").write_text("")


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """`pyunion` on a store with busy:1."""
    made = Cli(tmp_path / "store")
    with made.store() as store:
        add_image(store, {"file": b""}, names=["busy:1"])
    return made


@pytest.fixture
def hierarchy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hierarchy:
    made = Hierarchy(tmp_path / "cgroup", "user.slice/own.scope")
    monkeypatch.setattr(cgroup, "hierarchy", lambda: (made.top, made.own))
    return made


def test_a_group_is_made_with_its_controllers(hierarchy: Hierarchy) -> None:
    group = cgroup.make_cgroup("abc", ["memory", "pids"])
    assert group == hierarchy.top / "pyunion/pyunion-abc" and group.is_dir()
    for directory in (hierarchy.top, hierarchy.top / "pyunion"):
        assert (directory / "cgroup.subtree_control").read_text() == "+memory +pids"
    cgroup.set_limits(group, {"memory.max": "123"})
    assert (group / "memory.max").read_text() == "123"


def test_an_ordinary_user_gets_one_beside_the_own(
    hierarchy: Hierarchy, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Path.mkdir

    def mkdir(path: Path, mode: int = 0o777, exist_ok: bool = False) -> None:
        if path == hierarchy.top / "pyunion":
            raise PermissionError(13, "Permission denied")
        whole(path, mode, exist_ok=exist_ok)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    assert cgroup.make_cgroup("abc", ["cpu"]) == hierarchy.own.parent / "pyunion-abc"


def test_what_is_said_where_none_can_be_made(
    hierarchy: Hierarchy, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(NoCgroup, match=r"does not have the controllers io .*cgroup v1 is not used"):
        cgroup.make_cgroup("abc", ["memory", "io"])

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(NoCgroup, match=r"can be made here \(.*/pyunion: Permission denied\)"):
        cgroup.make_cgroup("abc")
    monkeypatch.setattr(cgroup, "hierarchy", lambda: None)
    with pytest.raises(NoCgroup, match="cgroup v2 is not mounted"):
        cgroup.make_cgroup("abc")


def test_a_limit_that_the_kernel_refuses(tmp_path: Path) -> None:
    (tmp_path / "cpu.max").mkdir()
    with pytest.raises(NoCgroup, match=r"cpu.max of the control group cannot be 1 2: "):
        cgroup.set_limits(tmp_path, {"cpu.max": "1 2"})
    with pytest.raises(NoCgroup, match=r"has no nowhere/pids.max"):
        cgroup.set_limits(tmp_path, {"nowhere/pids.max": "1"})
    cgroup.set_limits(tmp_path / "gone", {"memory.swap.max": "1"})


def test_a_group_that_is_recorded_is_removed(tmp_path: Path) -> None:
    group = tmp_path / "group"
    group.mkdir()
    cgroup.record(tmp_path, group)
    cgroup.release(tmp_path)
    assert not group.exists() and list(tmp_path.iterdir()) == []
    cgroup.release(tmp_path)


def test_a_process_that_was_killed_for_want_of_memory_is_remembered(tmp_path: Path) -> None:
    group, directory = tmp_path / "group", tmp_path / "container"
    for made in (group, directory):
        made.mkdir()
    events = group / "memory.events"
    for kills, known in ((0, False), (2, True)):
        cgroup.record(directory, group)
        events.write_text(f"low 0\nhigh 0\nmax 7\noom 9\noom_kill {kills}\noom_group_kill 0\n")
        # Here a group has files that rmdir(2) does not remove.
        cgroup.release(directory, patience=0)
        assert cgroup.was_oom_killed(directory) == known
    cgroup.forget_oom_kills(directory)
    cgroup.forget_oom_kills(directory)
    assert not cgroup.was_oom_killed(directory)


def test_what_a_killed_keeper_left_goes_when_it_is_noticed(cli: Cli, tmp_path: Path) -> None:
    for words in (("ps", "-a"), ("inspect", "box"), ("prune", "-f"), ("container", "prune", "-f")):
        cli.ok("create", "--name", "box", "busy:1")
        group = tmp_path / "group"
        group.mkdir()
        with cli.store() as store:
            container = store.containers.resolve("box")
            directory = container.directory
            cgroup.record(directory, group)
            with store.containers.lock(container):  # another process starts it
                cgroup.release_ended(store, container)
            assert group.exists()
            cgroup.release_ended(store, container._replace(status="running"))
            assert group.exists()
        cli.ok(*words)
        assert not group.exists()
        cli("rm", "box")


def test_inspect_tells_of_a_kill_for_want_of_memory(cli: Cli) -> None:
    cli.ok("create", "--name", "box", "busy:1")
    template = "{{.State.OOMKilled}}"
    assert cli.ok("inspect", "-f", template, "box") == "false\n"
    with cli.store() as store:
        (store.containers.resolve("box").directory / "oom-killed").touch()
    assert cli.ok("inspect", "-f", template, "box") == "true\n"


def test_a_real_group_freezes_and_thaws() -> None:
    try:
        group = cgroup.make_cgroup(f"test-{os.getpid()}")
    except NoCgroup as error:
        pytest.skip(str(error))
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
    with ending(sleeper):
        assert cgroup.group_of(sleeper.pid) is None
        cgroup.enter(group, sleeper.pid)
        assert cgroup.group_of(sleeper.pid) == group
        assert cgroup.processes_of(group) == {sleeper.pid}
        assert not cgroup.is_freezing(group)
        cgroup.freeze(group)
        assert cgroup.wait_until_frozen(group) and cgroup.is_freezing(group)
        cgroup.thaw(group)
        assert not cgroup.is_freezing(group)
    group.rmdir()


def test_a_container_is_limited_or_refused(containers: Containers) -> None:
    done = containers("run", "--rm", "-m", "64m", "--pids-limit", "50", "busy:1", "echo", "in")
    if done.returncode == 0:
        assert done.stdout == "in\n"
    else:
        assert done.returncode == 125
        assert done.stderr.startswith("Error: the container cannot be limited: ")
        assert done.stderr.count("\n") == 1
    assert containers.ok("ps", "-aq") == ""
