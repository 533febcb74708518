"""`mount.pyunion -N`: only the mount is made in the other namespace, and it ends with it."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.layers import MountLayers
from tests.helpers.mounts import (
    helper_command,
    helper_environment,
    mount_type,
    require_fuse,
    require_root,
    run,
    wait_until,
)
from tests.helpers.processes import end
from tests.mount_tools.daemon.test_serve import is_running


@pytest.fixture
def other() -> Iterator[subprocess.Popen[bytes]]:
    """A process in a mount namespace of its own."""
    require_root()
    require_fuse()
    process = subprocess.Popen(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", "echo && exec cat"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.readline()
    yield process
    end(process)


def namespace_of(process: subprocess.Popen[bytes]) -> str:
    return f"/proc/{process.pid}/ns/mnt"


def mounted_in(layers: MountLayers, other: subprocess.Popen[bytes]) -> tuple[Path, int]:
    """Mount in the namespace of `other`; return the log and the daemon's process id."""
    log = layers.base / "log"
    run(
        *helper_command("-N", namespace_of(other)),
        *("-o", f"{layers.words},log={log}", layers.merged),
        env=helper_environment(),
    )
    return log, int(log.read_text().partition("mount.pyunion[")[2].partition("]")[0])


def inside(other: subprocess.Popen[bytes], *command: str | Path) -> bytes:
    return run("nsenter", f"--mount={namespace_of(other)}", *command).stdout


def test_the_mount_ends_with_the_last_process_of_the_namespace(
    layers: MountLayers, other: subprocess.Popen[bytes]
) -> None:
    log, pid = mounted_in(layers, other)
    assert inside(other, "cat", layers.merged / "from-low") == b"low\n"
    assert mount_type(layers.merged) is None
    end(other)
    wait_until(lambda: not is_running(pid), "the daemon to end")
    assert "unmounted from" in log.read_text()


def test_a_signal_unmounts_in_the_other_namespace(
    layers: MountLayers, other: subprocess.Popen[bytes]
) -> None:
    log, pid = mounted_in(layers, other)
    inside(other, "touch", layers.merged / "new")
    assert os.readlink(f"/proc/{pid}/ns/mnt") == os.readlink("/proc/self/ns/mnt")
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not is_running(pid), "the daemon to end")
    assert os.fsencode(layers.merged) not in inside(other, "cat", "/proc/self/mountinfo")
    assert "ERROR" not in log.read_text() and (layers.upper / "new").exists()


def test_from_a_chroot_on_a_mount_point(
    layers: MountLayers, other: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    """setns(2) leads out of a chroot: the layers of the caller are then out of reach."""
    new_root = tmp_path / "new-root"
    new_root.mkdir()
    helper = shlex.join(
        map(
            os.fsdecode,
            helper_command(
                *("-N", namespace_of(other), "-o", f"lowerdir=/mnt/low,log={layers.base}/log"),
                layers.merged,
            ),
        )
    )
    script = f"""
        mount --rbind / {new_root}
        mount -t tmpfs tmpfs {new_root}/mnt
        mkdir {new_root}/mnt/low
        echo of the chroot >{new_root}/mnt/low/file
        exec chroot {new_root} {helper}
    """
    run(
        *("unshare", "--mount", "--propagation", "private", "sh", "-ec", script),
        env=helper_environment(),
    )
    assert inside(other, "cat", layers.merged / "file") == b"of the chroot\n"
    inside(other, "umount", layers.merged)
    log = layers.base / "log"
    wait_until(lambda: "unmounted from" in log.read_text(), "the daemon to end")


@pytest.mark.parametrize(
    ("namespace", "says"),
    [
        ("/no/such", b"cannot be opened: No such file"),
        ("/etc/passwd", b"cannot be entered: Invalid"),
    ],
)
def test_what_is_no_namespace(layers: MountLayers, namespace: str, says: bytes) -> None:
    require_fuse()
    before = layers.stats()
    done = run(
        *helper_command("-N", namespace, "-o", layers.words, layers.merged),
        env=helper_environment(),
        check=False,
    )
    assert done.returncode == 32 and says in done.stderr, done
    assert layers.stats() == before


def test_the_mount_point_is_looked_up_there(
    layers: MountLayers, other: subprocess.Popen[bytes]
) -> None:
    inside(other, "mount", "-t", "tmpfs", "tmpfs", "/mnt")
    inside(other, "mkdir", "/mnt/only-there")
    command = helper_command("-N", namespace_of(other), "-o", f"lowerdir={layers.low}")
    run(*command, "/mnt/only-there", env=helper_environment())
    assert inside(other, "cat", "/mnt/only-there/from-low") == b"low\n"
    done = run(*command, "/mnt/nowhere", env=helper_environment(), check=False)
    assert done.returncode == 32 and b"does not exist" in done.stderr
    inside(other, "umount", "/mnt/only-there")
