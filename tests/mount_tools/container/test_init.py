"""The process with a container's namespaces and the init in them: order, end, and nothing left."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from layerstore.errors import StoreError
from mount_tools.container.handshake import (
    REFUSED,
    Begun,
    CannotStart,
    Mounted,
    Recorded,
    Running,
    Served,
    Silence,
    channel,
)
from mount_tools.container.host_config import HostConfig
from mount_tools.container.init import Inside, Root, exit_code, run_outer
from mount_tools.container.process import Launch
from mount_tools.container.signals import held
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


class Outer:
    """An outer process, and our end of the channel to it; `out` is what the command says."""

    def __init__(self, root: Root, script: str) -> None:
        launch = Launch(("sh", "-c", script), (), "/", "")
        inside = Inside(root, "boxy", launch, HostConfig(), {}, None)
        self.out, out = os.pipe()
        self.channel, theirs = channel()
        ourselves = os.pidfd_open(os.getpid())
        self.pid = os.fork()
        if self.pid == 0:
            self.channel.close()
            os.dup2(out, 1)
            run_outer(inside, ourselves, theirs)
        theirs.close()
        os.close(out)
        os.close(ourselves)
        self.channel.watch(self.pid)
        self.status: int | None = None

    def start(self) -> int:
        """Do what is to be done out here; return the pid of init."""
        self.channel.expect(Mounted)
        self.channel.send(Served())
        init = self.channel.expect(Begun).pid
        self.channel.send(Recorded())
        self.channel.expect(Running)
        return init

    def said(self) -> bytes:
        with open(self.out, "rb", closefd=False) as pipe:
            return pipe.read()

    def wait(self) -> int:
        if self.status is None:
            self.status = exit_code(os.waitpid(self.pid, 0)[1])
        return self.status

    def close(self) -> None:
        if self.status is None:
            os.kill(self.pid, signal.SIGKILL)
            self.wait()
        self.channel.close()
        os.close(self.out)


@pytest.fixture
def begin(root: Path) -> Iterator[Callable[..., Outer]]:
    begun: list[Outer] = []

    def begin(script: str, mounts: Root | None = None) -> Outer:
        begun.append(Outer(Bound(str(root)) if mounts is None else mounts, script))
        return begun[-1]

    with held():
        yield begin
        for one in begun:
            one.close()
    assert str(root) not in Path("/proc/self/mountinfo").read_text()


def test_it_begins_step_by_step_and_ends_as_its_command(
    begin: Callable[..., Outer], root: Path
) -> None:
    begun = begin("echo $$; hostname; ls -d /proc/self /dev/null; exit 7")
    begun.channel.expect(Mounted)
    assert not (root / "proc").exists(), "nothing is mounted in it before somebody serves it"
    begun.channel.send(Served())
    init = begun.channel.expect(Begun).pid
    assert Path(f"/proc/{init}").exists()
    assert not (root / "proc").exists(), "nor before init is recorded"
    begun.channel.send(Recorded())
    begun.channel.expect(Running)
    assert begun.said() == b"2\nboxy\n/dev/null\n/proc/self\n"
    assert begun.wait() == 7


@pytest.mark.parametrize("steps", [0, 1, 2, 3])
def test_it_ends_with_silence(begin: Callable[..., Outer], root: Path, steps: int) -> None:
    """Whichever message does not come: no command runs."""
    begun = begin("echo never")
    for step in range(steps):
        match step:
            case 0:
                begun.channel.expect(Mounted)
            case 1:
                begun.channel.send(Served())
            case 2:
                begun.channel.expect(Begun)
    begun.channel.close()
    assert begun.wait() == REFUSED and begun.said() == b""
    assert not (root / "proc").exists()


@pytest.mark.parametrize("victim", ["outer", "init"])
def test_a_killed_process_is_silence(begin: Callable[..., Outer], victim: str) -> None:
    begun = begin("echo never")
    begun.channel.expect(Mounted)
    begun.channel.send(Served())
    init = begun.channel.expect(Begun).pid
    os.kill(begun.pid if victim == "outer" else init, signal.SIGKILL)
    with pytest.raises(Silence):
        begun.channel.expect(Running)
    assert begun.wait() == 128 + signal.SIGKILL and begun.said() == b""


def test_why_it_cannot_begin_is_told(begin: Callable[..., Outer]) -> None:
    begun = begin("echo never", Refused())
    with pytest.raises(CannotStart, match="no mount today") as caught:
        begun.channel.expect(Mounted)
    assert caught.value.status == 125
    assert begun.wait() == 125 and begun.said() == b""


def test_init_has_a_name_and_no_command_line_of_the_host(begin: Callable[..., Outer]) -> None:
    begun = begin("cat /proc/1/comm; cat /proc/1/cmdline")
    begun.start()
    assert begun.said() == b"pyunion-init\npyunion-init\0"


def test_all_of_it_ends_with_the_outer_process(begin: Callable[..., Outer]) -> None:
    begun = begin("sleep 1000 & echo up; sleep 1000")
    init = begun.start()
    assert os.read(begun.out, 3) == b"up\n"
    inside = Path(f"/proc/{init}/task/{init}/children").read_text().split()
    assert inside
    os.kill(begun.pid, signal.SIGKILL)
    begun.wait()
    for pid in (init, *inside):
        wait_until(lambda pid=pid: not Path(f"/proc/{pid}").exists(), "it to end")  # type: ignore[misc]


def test_signals_for_init_are_the_commands(begin: Callable[..., Outer]) -> None:
    begun = begin("trap 'exit 9' USR1; echo up; while :; do sleep 0.02; done")
    init = begun.start()
    assert os.read(begun.out, 3) == b"up\n"
    os.kill(init, signal.SIGUSR1)
    assert begun.wait() == 9


def test_exit_codes_are_those_of_a_shell() -> None:
    for script, code in (("exit 3", 3), ("kill -9 $$", 137), ("kill -TERM $$", 143)):
        process = subprocess.Popen(["sh", "-c", script])
        _, status = os.waitpid(process.pid, 0)
        process.returncode = status
        assert exit_code(status) == code
