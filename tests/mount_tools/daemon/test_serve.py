"""The life of a mount: signals, a busy end, the log, and what outlives the command."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mount_tools.daemon import serve
from tests.helpers.layers import MountLayers
from tests.helpers.mounts import (
    DEADLINE,
    helper_command,
    helper_environment,
    mount_type,
    mounted_union,
    require_fuse,
    require_root,
    run,
    unmount_command,
    wait_until,
)
from unionfs.credentials import CAP_SYS_RESOURCE


def is_running(pid: int) -> bool:
    """Tell whether process `pid` runs; one that nobody has reaped does not."""
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_unmount(layers: MountLayers, number: signal.Signals) -> None:
    with mounted_union([layers.low], layers.upper, layers.work) as union:
        (union.root / "new").write_text("new\n")
        union.process.send_signal(number)
        assert union.process.wait(DEADLINE) == 0
        assert mount_type(union.root) is None
        union.ended = True
        assert "unmounted from" in union.log()
    assert (layers.upper / "new").read_text() == "new\n"


@contextlib.contextmanager
def _private_namespace() -> Iterator[subprocess.Popen[bytes]]:
    """Yield a process in a mount namespace that has a copy of every mount of this one."""
    ours = os.stat("/proc/self/ns/mnt").st_ino
    command = ["unshare", "-m", "--propagation", "private", "cat"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        namespace = Path(f"/proc/{process.pid}/ns/mnt")
        comm = Path(f"/proc/{process.pid}/comm")
        wait_until(
            lambda: comm.read_text() == "cat\n" and namespace.stat().st_ino != ours,
            "the other namespace",
        )
        yield process


def test_the_namespace_of_another_test_keeps_no_mount_alive(layers: MountLayers) -> None:
    """Tests that run at the same time share a mount namespace, which any of them may copy."""
    require_root()
    with mounted_union([layers.low], layers.upper, layers.work) as union, _private_namespace():
        union.unmount()
        assert union.process.returncode == 0


def test_a_mount_that_another_namespace_holds_ends_at_the_second_sigterm(
    layers: MountLayers,
) -> None:
    """The first names the holder; the second aborts the connection, and the upper is free."""
    require_root()
    with mounted_union([layers.low], layers.upper, layers.work, quiet=False) as union:
        (union.root / "new").write_text("new\n")
        with _private_namespace() as holder:
            run(*unmount_command(), union.root)
            assert union.process.poll() is None
            union.process.send_signal(signal.SIGTERM)
            wait_until(lambda: f"pid {holder.pid} (cat) in mnt:[" in union.log(), "the holder")
            assert union.process.poll() is None
            union.process.send_signal(signal.SIGTERM)
            assert union.process.wait(DEADLINE) == 0
            union.ended = True
    assert (layers.upper / "new").read_text() == "new\n"
    with mounted_union([layers.low], layers.upper, layers.work) as again:
        assert (again.root / "new").read_text() == "new\n"


def test_a_busy_mount_is_served_to_its_end(layers: MountLayers) -> None:
    with mounted_union([layers.low], layers.upper, layers.work) as union:
        held = os.open(union.root / "from-low", os.O_RDWR)
        try:
            union.process.send_signal(signal.SIGTERM)
            wait_until(lambda: mount_type(union.root) is None, "the mount to be detached")
            assert os.pread(held, 10, 0) == b"low\n"
            os.pwrite(held, b"LOW", 0)
            assert union.process.poll() is None
        finally:
            os.close(held)
        assert union.process.wait(DEADLINE) == 0
        union.ended = True
    assert (layers.upper / "from-low").read_text() == "LOW\n"


def test_a_signal_leaves_a_later_mount_alone(layers: MountLayers) -> None:
    require_root()
    with mounted_union([layers.low], layers.upper, layers.work) as union:
        held = os.open(union.root / "from-low", os.O_RDONLY)
        run("umount", "-l", union.root)
        run("mount", "-t", "tmpfs", "tmpfs", union.root)
        try:
            union.process.send_signal(signal.SIGTERM)
            wait_until(lambda: "nothing to unmount" in union.log(), "the signal to be noticed")
            assert mount_type(union.root) == "tmpfs"
        finally:
            os.close(held)
            run("umount", union.root)
        assert union.process.wait(DEADLINE) == 0
        union.ended = True


def test_no_thread_goes_beyond_the_limits_of_a_disk(layers: MountLayers) -> None:
    """tests/faults/test_no_space.py shows what for, where root has that capability."""
    with mounted_union([layers.low], layers.upper, layers.work) as union:
        (union.root / "from-low").write_text("changed")
        for task in Path(f"/proc/{union.pid}/task").iterdir():
            effective = (task / "status").read_text().split("CapEff:")[1].split()[0]
            assert not int(effective, 16) & 1 << CAP_SYS_RESOURCE


def test_sigusr1_logs_the_counters(layers: MountLayers) -> None:
    with mounted_union([layers.low], layers.upper, layers.work) as union:
        os.listdir(union.root)
        union.process.send_signal(signal.SIGUSR1)
        wait_until(lambda: "counters: " in union.log(), "the counters")
        assert "=" in union.log().partition("counters: ")[2]


BROKEN = """
import sys
broken = sys.argv.pop(1)
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == broken:
            raise ImportError(f"{name} is broken here")
sys.meta_path.insert(0, Finder())
from mount_tools.helper.main import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("transport", ["dev_fuse", "pyfuse3"])
@pytest.mark.parametrize("name", ["supervise", "attend", "signals", "control_server"])
def test_a_daemon_that_lacks_a_module_leaves_no_mount(
    layers: MountLayers, name: str, transport: str
) -> None:
    if transport == "pyfuse3":
        pytest.importorskip("pyfuse3")
    require_fuse()
    options = f"{layers.words},transport={transport},control={layers.base}/control"
    words = (f"mount_tools.daemon.{name}", "spec", layers.merged, "-o", options)
    done = run(sys.executable, "-c", BROKEN, *words, check=False, env=helper_environment())
    needed = name != "supervise" or transport == "pyfuse3"
    mounted = mount_type(layers.merged) is not None
    if mounted:
        run(*unmount_command(), layers.merged)
    assert (done.returncode != 0, mounted) == (needed, not needed), done.stderr
    if needed:
        assert b"is broken here" in done.stderr


FAILING = """
import sys
from mount_tools.mount.fuse import FuseMount
def fail(mount): raise RuntimeError("no more memory, say")
FuseMount.read_ahead = fail
from mount_tools.helper.main import main
sys.exit(main(sys.argv[1:]))
"""


def test_what_fails_after_the_mount_unmounts(layers: MountLayers) -> None:
    require_fuse()
    words = ("spec", layers.merged, "-o", f"{layers.words},transport=dev_fuse")
    done = run(sys.executable, "-c", FAILING, *words, check=False, env=helper_environment())
    assert done.returncode == 4
    assert b"no more memory, say" in done.stderr
    assert mount_type(layers.merged) is None


def test_lazy_unmount_from_outside(layers: MountLayers) -> None:
    with mounted_union([layers.low], layers.upper, layers.work) as union:
        held = os.open(union.root / "from-low", os.O_RDONLY)
        run(*unmount_command(), "-l" if os.geteuid() == 0 else "-z", union.root)
        assert os.pread(held, 10, 0) == b"low\n"
        assert union.process.poll() is None
        os.close(held)
        assert union.process.wait(DEADLINE) == 0
        union.ended = True


def test_the_daemon_logs_and_ends(layers: MountLayers) -> None:
    require_fuse()
    log = layers.base / "log"
    run(
        *helper_command("-d", "-o", f"{layers.words},log={log}", layers.merged),
        env=helper_environment(),
    )
    pid = int(log.read_text().partition("mount.pyunion[")[2].partition("]")[0])
    try:
        assert is_running(pid)
        assert os.readlink(f"/proc/{pid}/cwd") == "/"
        assert [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in range(3)] == ["/dev/null"] * 3
        status = Path(f"/proc/{pid}/status").read_text()
        assert "Umask:\t0000" in status
        assert os.getsid(pid) == pid
        limits = Path(f"/proc/{pid}/limits").read_text()
        soft, hard = limits.partition("Max open files")[2].split()[:2]
        assert soft == hard
    finally:
        run(*unmount_command(), layers.merged)
    wait_until(lambda: not is_running(pid), "the daemon to end")
    assert "transport" in log.read_text()
    assert "unmounted from" in log.read_text()


def test_a_log_that_cannot_be_written_is_refused(layers: MountLayers) -> None:
    done = run(
        *helper_command("-o", f"{layers.words},log=/proc/no/such.log", layers.merged),
        env=helper_environment(),
        check=False,
    )
    assert done.returncode == 32
    assert done.stderr.startswith(b"mount.pyunion: the log /proc/no/such.log cannot be written")
    assert mount_type(layers.merged) is None


@pytest.mark.parametrize(
    ("directory", "covers"), [("/", True), ("/usr", True), (sys.prefix, True), ("/mnt", False)]
)
def test_whether_a_mount_hides_our_own_code(directory: str, covers: bool) -> None:
    assert serve.covers_our_code(directory) is covers


def test_a_mount_over_the_libraries(layers: MountLayers) -> None:
    """Whatever is loaded after the mount is live would be loaded through it."""
    require_root()
    apart = layers.base / "apart"
    apart.mkdir()
    helper = f"{sys.executable} -m mount_tools.helper.main -o lowerdir={apart} /usr"
    script = f"mount --bind /usr {apart} && {helper} && ls /usr/bin/env && umount -l /usr"
    done = run("unshare", "--mount", "sh", "-ec", script, env=helper_environment())
    assert done.stdout == b"/usr/bin/env\n"
