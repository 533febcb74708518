"""The process with a container's namespaces and the init in them: order, end, and nothing left."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest

from layerstore.db.processes import process_start
from layerstore.errors import StoreError
from mount_tools.container.handshake import (
    REFUSED,
    Begun,
    CannotStart,
    Recorded,
    Running,
    Silence,
)
from mount_tools.container.host_config import HostConfig
from mount_tools.container.init import Inside, Root, run_outer
from mount_tools.container.process import Launch
from mount_tools.container.signals import held
from mount_tools.container.started import begin as begin_process
from mount_tools.container.streams import Ends
from mount_tools.leave import exit_code
from tests.helpers.containers import add_busybox
from tests.helpers.mounts import require_root, wait_until
from unionfs.syscalls.mount import MS_BIND, mount

TOOLS = ("sh", "cat", "echo", "hostname", "sleep", "ls")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    require_root()
    root = tmp_path / "root"
    add_busybox(root, TOOLS)
    return root


class Bound(NamedTuple):
    """A root that is a directory, bound to itself."""

    path: str

    def mount(self) -> str:
        mount(os.fsencode(self.path), os.fsencode(self.path), b"", MS_BIND, b"")
        return self.path


class Refused(NamedTuple):
    """A root that cannot be mounted."""

    def mount(self) -> str:
        raise StoreError("no mount today")


class Box:
    """A container; we are its keeper.  `out` is what the command says.

    `child` is the process of ours that ends with it: the outer process, and then init, unless
    the outer process stays.
    """

    def __init__(self, root: Root, script: str, *, init: bool, stays: bool) -> None:
        launch = Launch(("sh", "-c", script), (), "/", "")
        host = HostConfig(init=init)
        inside = Inside(root, "boxy", launch, host, {}, None, outer_stays=stays)
        self.out, out = os.pipe()
        ends = Ends(os.open(os.devnull, os.O_RDONLY), out, os.dup(2))
        self.child, self.channel = begin_process(
            ends, lambda keeper, to: run_outer(inside, keeper, to)
        )
        self.init = 0
        self._init, self._stays = init, stays
        self.status: int | None = None

    def begun(self) -> None:
        self.init = self.channel.expect(Begun).pid
        if not self._stays:
            assert os.waitpid(self.child, 0)[1] == 0
            self.child = self.init
            self.channel.watch(self.child)

    def start(self) -> None:
        """Do what the keeper has to do."""
        self.begun()
        self.channel.send(Recorded())
        self.running()

    def running(self) -> None:
        if self._init:
            self.channel.expect(Running)
        else:
            self.channel.wait_for_execve(self.init)

    def said(self) -> bytes:
        with open(self.out, "rb", closefd=False) as pipe:
            return pipe.read()

    def wait(self) -> int:
        if self.status is None:
            self.status = exit_code(os.waitpid(self.child, 0)[1])
        return self.status

    def close(self) -> None:
        if self.status is None:
            os.kill(self.child, signal.SIGKILL)
            self.wait()
        self.channel.close()
        os.close(self.out)


def set_subreaper(on: int) -> None:
    assert ctypes.CDLL(None).prctl(36, on, 0, 0, 0) == 0  # PR_SET_CHILD_SUBREAPER


@pytest.fixture(params=[False, True], ids=["outer-ends", "outer-stays"])
def begin(root: Path, request: pytest.FixtureRequest) -> Iterator[Callable[..., Box]]:
    boxes: list[Box] = []

    def begin(script: str, mounts: Root | None = None, *, init: bool = True) -> Box:
        where = Bound(str(root)) if mounts is None else mounts
        boxes.append(Box(where, script, init=init, stays=request.param))
        return boxes[-1]

    set_subreaper(1)
    try:
        with held():
            yield begin
            for box in boxes:
                box.close()
        for box in boxes:
            with suppress(ChildProcessError):
                os.waitpid(box.init or -1, os.WNOHANG)
    finally:
        set_subreaper(0)
    assert str(root) not in Path("/proc/self/mountinfo").read_text()


def test_init_begins_step_by_step_and_ends_as_its_command(
    begin: Callable[..., Box], root: Path
) -> None:
    box = begin("echo $$; hostname; ls -d /proc/self /dev/null; exit 7")
    box.begun()
    assert Path(f"/proc/{box.init}").exists()
    assert not (root / "proc").exists(), "nothing is mounted in it before init is recorded"
    box.channel.send(Recorded())
    box.channel.expect(Running)
    assert box.said() == b"2\nboxy\n/dev/null\n/proc/self\n"
    assert box.wait() == 7


def test_without_an_init_the_command_is_process_1(begin: Callable[..., Box]) -> None:
    box = begin("echo $$; exit 7", init=False)
    box.start()
    assert (box.said(), box.wait()) == (b"1\n", 7)


def test_process_1_gets_only_the_signals_that_it_handles(begin: Callable[..., Box]) -> None:
    script = "trap 'exit 9' USR1; kill -TERM 1; echo up; while :; do sleep 0.02; done"
    box = begin(script, init=False)
    box.start()
    assert os.read(box.out, 3) == b"up\n"
    os.kill(box.init, signal.SIGTERM)
    os.kill(box.init, signal.SIGUSR1)
    assert box.wait() == 9


@pytest.mark.parametrize("steps", [0, 1])
@pytest.mark.parametrize("init", [True, False])
def test_init_runs_no_command_if_a_message_does_not_come(
    begin: Callable[..., Box], root: Path, steps: int, init: bool
) -> None:
    """Whichever message does not come: no command runs."""
    box = begin("echo never", init=init)
    if steps:
        box.begun()
    box.channel.close()
    assert box.said() == b"" and box.wait() in (REFUSED, 0)
    assert not (root / "proc").exists()


@pytest.mark.parametrize("init", [True, False])
def test_a_killed_process_is_silence(begin: Callable[..., Box], init: bool) -> None:
    box = begin("echo never", init=init)
    box.begun()
    os.kill(box.init, signal.SIGKILL)
    with pytest.raises(Silence):
        box.running()
    assert box.wait() == 128 + signal.SIGKILL and box.said() == b""


def test_why_it_cannot_begin_is_told(begin: Callable[..., Box]) -> None:
    box = begin("echo never", Refused())
    with pytest.raises(CannotStart, match="no mount today") as caught:
        box.channel.expect(Begun)
    assert caught.value.status == 125
    assert box.wait() == 125 and box.said() == b""


def test_init_has_a_name_and_no_command_line_of_the_host(begin: Callable[..., Box]) -> None:
    box = begin("cat /proc/1/comm; cat /proc/1/cmdline")
    box.start()
    assert box.said() == b"pyunion-init\npyunion-init\0"


@pytest.mark.parametrize("init", [True, False])
def test_all_of_it_ends_with_our_child(begin: Callable[..., Box], init: bool) -> None:
    box = begin("sleep 1000 & echo up; sleep 1000; :", init=init)
    box.start()
    assert os.read(box.out, 3) == b"up\n"
    inside = Path(f"/proc/{box.init}/task/{box.init}/children").read_text().split()
    assert inside
    os.kill(box.child, signal.SIGKILL)
    box.wait()
    for pid in (box.init, *map(int, inside)):
        wait_until(lambda pid=pid: process_start(pid) is None, "it to end")  # type: ignore[misc]


@pytest.mark.parametrize("init", [True, False])
def test_all_of_it_ends_with_the_keeper(root: Path, init: bool) -> None:
    reading, writing = os.pipe()
    keeper = os.fork()
    if keeper == 0:
        set_subreaper(1)
        with held():
            box = Box(Bound(str(root)), "sleep 1000 & sleep 1000; :", init=init, stays=False)
            box.start()
            os.write(writing, b"%d" % box.init)
            os.read(box.out, 1)
        os._exit(1)
    started = int(os.read(reading, 20))
    os.close(reading)
    os.close(writing)
    os.kill(keeper, signal.SIGKILL)
    os.waitpid(keeper, 0)
    wait_until(lambda: not Path(f"/proc/{started}").exists(), "process 1 to end")


def test_signals_for_init_are_the_commands(begin: Callable[..., Box]) -> None:
    box = begin("trap 'exit 9' USR1; echo up; while :; do sleep 0.02; done")
    box.start()
    assert os.read(box.out, 3) == b"up\n"
    os.kill(box.init, signal.SIGUSR1)
    assert box.wait() == 9
