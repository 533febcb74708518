"""The process with a container's namespaces and the init in them: order, end, and nothing left."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from layerstore.errors import StoreError
from mount_tools.container.init import Ends, Inside, close_all_but, exit_code, run_outer
from mount_tools.container.process import Launch
from mount_tools.container.root import MS_BIND
from mount_tools.container.signals import held
from tests.helpers.mounts import require, require_root, wait_until
from unionfs.syscalls.mount import mount

TOOLS = ("sh", "cat", "echo", "hostname", "sleep", "ls")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    require_root()
    busybox = shutil.which("busybox")
    require(busybox is not None, "busybox is not installed")
    assert busybox is not None
    root = tmp_path / "root"
    (root / "bin").mkdir(parents=True)
    shutil.copy(busybox, root / "bin/busybox")
    for name in TOOLS:
        (root / "bin" / name).symlink_to("busybox")
    return root


class Begun:
    """An outer process, and our ends of what leads to it; `out` is what the command says."""

    def __init__(self, root: Path, script: str, mount_root: Callable[[], str]) -> None:
        launch = Launch(("sh", "-c", script), (), "/", "")
        inside = Inside("boxy", launch, (), False, {}, None)
        pipes = [os.pipe() for _ in range(5)]
        (self.mounted, mounted), (go, self.go), (self.pids, pids) = pipes[:3]
        (self.report, report), (self.out, out) = pipes[3:]
        ours, theirs = socket.socketpair()
        with ours, theirs:
            self.pid = os.fork()
            if self.pid == 0:
                os.dup2(out, 1)
                run_outer(inside, mount_root, Ends(mounted, go, pids, report, theirs.detach()))
        for fd in (mounted, go, pids, report, out):
            os.close(fd)
        self._open = [self.mounted, self.go, self.pids, self.report, self.out]
        self.status: int | None = None

    def start(self) -> int:
        """Do what is to be done out here; return the pid of init."""
        assert os.read(self.mounted, 1) == b"m"
        os.write(self.go, b"g")
        init = int(os.read(self.pids, 32))
        os.write(self.go, b"s")
        return init

    def reported(self) -> bytes:
        """Return what is reported, nothing where the command runs."""
        with open(self.report, "rb", closefd=False) as pipe:
            return pipe.read()

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
        for fd in self._open:
            os.close(fd)


@pytest.fixture
def begin(root: Path) -> Iterator[Callable[..., Begun]]:
    begun: list[Begun] = []

    def mount_root() -> str:
        mount(os.fsencode(root), os.fsencode(root), b"", MS_BIND, b"")
        return str(root)

    def begin(script: str, mount_root: Callable[[], str] = mount_root) -> Begun:
        begun.append(Begun(root, script, mount_root))
        return begun[-1]

    with held():
        yield begin
        for one in begun:
            one.close()
    assert str(root) not in Path("/proc/self/mountinfo").read_text()


def test_it_begins_step_by_step_and_ends_as_its_command(
    begin: Callable[..., Begun], root: Path
) -> None:
    begun = begin("echo $$; hostname; ls -d /proc/self /dev/null; exit 7")
    assert os.read(begun.mounted, 1) == b"m"
    assert not (root / "proc").exists(), "nothing is furnished before somebody serves the mount"
    os.write(begun.go, b"g")
    init = int(os.read(begun.pids, 32))
    assert Path(f"/proc/{init}").exists()
    assert not (root / "proc").exists(), "nor before init is written down"
    os.write(begun.go, b"s")
    assert begun.reported() == b""
    assert begun.said() == b"2\nboxy\n/dev/null\n/proc/self\n"
    assert begun.wait() == 7


def test_without_a_word_it_ends(begin: Callable[..., Begun], root: Path) -> None:
    begun = begin("echo never")
    assert os.read(begun.mounted, 1) == b"m"
    begun._open.remove(begun.go)
    os.close(begun.go)
    assert begun.wait() == 1 and begun.said() == b""
    begun = begin("echo never")
    assert os.read(begun.mounted, 1) == b"m"
    os.write(begun.go, b"g")
    assert int(os.read(begun.pids, 32))
    begun._open.remove(begun.go)
    os.close(begun.go)
    assert begun.wait() == 1 and begun.said() == b""
    assert not (root / "proc").exists()


def test_why_it_cannot_begin_is_reported(begin: Callable[..., Begun]) -> None:
    def refuse() -> str:
        raise StoreError("no mount today")

    begun = begin("echo never", refuse)
    assert begun.reported() == b"125 no mount today"
    assert begun.wait() == 125 and begun.said() == b""


def test_all_of_it_ends_with_whoever_waits_for_it(begin: Callable[..., Begun]) -> None:
    begun = begin("sleep 1000 & echo up; sleep 1000")
    init = begun.start()
    assert os.read(begun.out, 3) == b"up\n"
    inside = Path(f"/proc/{init}/task/{init}/children").read_text().split()
    assert inside
    os.kill(begun.pid, signal.SIGKILL)
    begun.wait()
    for pid in (init, *inside):
        wait_until(lambda pid=pid: not Path(f"/proc/{pid}").exists(), "it to end")  # type: ignore[misc]


def test_signals_for_init_are_the_commands(begin: Callable[..., Begun]) -> None:
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


def test_only_what_is_named_stays_open() -> None:
    first, second = os.pipe()
    child = os.fork()
    if child == 0:
        close_all_but(second)
        left = {int(name) for name in os.listdir("/proc/self/fd")}
        # Of the listing itself is one that has gone since.
        os._exit(0 if left - {0, 1, 2, second} <= {3} else 1)
    os.close(first)
    os.close(second)
    assert os.waitpid(child, 0)[1] == 0
