"""A store of containers/storage for tests, and the engines that work on it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.helpers.mounts import REPOSITORY, run, wait_until
from unionfs.syscalls.mountinfo import read_mounts

_PROGRAM = """#!/bin/sh
export PYTHONPATH={checkout}
exec {python} -m mount_tools.helper.entry "$@"
"""

_STORAGE = """[storage]
driver = "overlay"
graphroot = "{base}/root"
runroot = "{base}/run"
[storage.options]
additionalimagestores = [{additional}]
[storage.options.overlay]
{overlay}
"""

# What a machine for tests may not have: control groups, networks, a journal, more locks.
_CONTAINERS = """[containers]
cgroups = "disabled"
netns = "none"
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
seccomp_profile = "unconfined"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
lock_type = "file"
runtime = "crun"
tmp_dir = "{base}/tmp"
volume_path = "{base}/volumes"
"""


# crun refuses a machine that has version 2 of control groups beside version 1.  And it gives
# the container's root the file that is its stdin: without a /dev/null of its own, the machine's.
_ALONE = """
umount /sys/fs/cgroup/unified 2> /dev/null
mount -t tmpfs none /mnt; mknod -m 666 /mnt/null c 1 3
mount --bind /mnt/null /dev/null; umount -l /mnt
exec "$@"
"""
APART = ("unshare", "-m", "sh", "-c", _ALONE, "sh")
"""A command that lets root's podman run a container here; the words of that follow."""

OLD_NS = 1_500_000_000 * 10**9
"""The mtime of every file of the image `base`."""


class Store:
    """A store beneath `base`, with PyUnion as mount_program, or without one if not `on_pyunion`.

    Without one the engines mount kernel overlayfs.  `options` are further lines of the
    section [storage.options.overlay], and `additional` are stores that are only read.
    """

    def __init__(
        self,
        base: Path,
        *,
        on_pyunion: bool = True,
        options: Sequence[str] = (),
        additional: Sequence[Path] = (),
    ) -> None:
        self.base = base
        self.on_pyunion = on_pyunion
        if on_pyunion:
            write_program(base / "program")
            options = (f'mount_program = "{base}/program"', *options)
        (base / "storage.conf").write_text(
            _STORAGE.format(
                base=base,
                overlay="\n".join(options),
                additional=", ".join(f'"{path}"' for path in additional),
            )
        )
        (base / "containers.conf").write_text(_CONTAINERS.format(base=base))
        (base / "policy.json").write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
        self.environment = {
            **os.environ,
            "CONTAINERS_STORAGE_CONF": str(base / "storage.conf"),
            "CONTAINERS_CONF": str(base / "containers.conf"),
            "BUILDAH_ISOLATION": "chroot",
            "TMPDIR": str(base),
        }

    def start(self, *words: str | Path) -> subprocess.Popen[str]:
        """Start buildah."""
        return self.start_engine("buildah", *words)

    def start_engine(
        self, engine: str, *words: str | Path, through: Sequence[str] = ()
    ) -> subprocess.Popen[str]:
        """Start buildah or podman; `through` is a command that runs it."""
        policy = words[0] in ("commit", "bud", "push", "pull") and engine == "buildah"
        options = ("--signature-policy", self.base / "policy.json") if policy else ()
        return subprocess.Popen(
            [*through, engine, words[0], *options, *words[1:]],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def buildah(self, *words: str | Path) -> str:
        """Run buildah, which must succeed; return what it printed."""
        return self._run("buildah", words)

    def podman(self, *words: str | Path) -> str:
        """Run podman, which must succeed; return what it printed."""
        return self._run("podman", words)

    def _run(self, engine: str, words: tuple[str | Path, ...]) -> str:
        with self.start_engine(engine, *words) as process:
            out, err = process.communicate(timeout=120)
        assert process.returncode == 0, f"{engine} {words}: {err}"
        return out.strip()

    def script(self, text: str) -> str:
        """Run a shell script with containers in the store's directory; return what it printed."""
        done = subprocess.run(
            [*APART, "sh", "-ec", text],
            env=self.environment,
            cwd=self.base,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"{text}: {done.stdout}{done.stderr}"
        return done.stdout

    def make_base_image(self) -> None:
        """Make the image `base`: a busybox, and a few directories."""
        container = self.buildah("from", "scratch")
        with self.mounted(container) as root:
            fill(root)
        self.buildah("commit", "-q", "--rm", container, "base")

    @contextmanager
    def mounted(self, container: str) -> Iterator[Path]:
        """Mount a working container for a block; yield its root."""
        try:
            yield Path(self.buildah("mount", container))
        finally:
            self.buildah("umount", container)

    def commit(self, container: str, image: str, *options: str) -> str:
        """Commit a working container and remove it; return a container of the image made."""
        self.buildah("commit", "-q", "--rm", *options, container, image)
        return self.buildah("from", image)

    def daemons(self) -> list[int]:
        """Return the process ids of the mounts of this store."""
        found = []
        for entry in os.listdir("/proc"):
            try:
                words = Path("/proc", entry, "cmdline").read_bytes() if entry.isdigit() else b""
            except OSError:
                continue
            if os.fsencode(self.base / "root") in words and b"mount_tools" in words:
                found.append(int(entry))
        return found

    def points(self) -> list[bytes]:
        """Return the mount points beneath this store, the innermost first."""
        return points_beneath(self.base)

    def close(self) -> None:
        """Unmount everything, and wait for the daemons to end."""
        for point in self.points():
            run("umount", "-l", point, check=False)
        wait_until(lambda: not self.daemons(), "the daemons to end")


def write_program(path: Path) -> None:
    """Make `path` a program that runs this checkout's mount.pyunion."""
    path.write_text(_PROGRAM.format(checkout=REPOSITORY, python=sys.executable))
    path.chmod(0o755)


def fill(root: Path) -> None:
    """Make the tree of the image `base` in the directory `root`."""
    for name in ("bin", "etc", "run", "tmp", "data"):
        (root / name).mkdir()
    shutil.copy(shutil.which("busybox") or "", root / "bin/busybox")
    for name in ("sh", "id", "stat", "touch", "chown", "cat", "mkdir", "rm", "mv", "sleep", "ls"):
        (root / "bin" / name).symlink_to("busybox")
    (root / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\n")
    data = root / "data"
    for name in ("renamed-dir", "removed-dir", "replaced-dir", "dir-to-file"):
        (data / name / "deeper").mkdir(parents=True)
        for inner in ("one", "deeper/two"):
            (data / name / inner).write_text(f"{inner} of {name}")
    for name in _FILES:
        (data / name).write_text(f"this is {name}\n" * 50)
    (data / "symlink").symlink_to("renamed")
    for path in data.rglob("*"):
        os.utime(path, ns=(OLD_NS, OLD_NS), follow_symlinks=False)


_FILES = (
    *("appended", "suid", "given", "removed", "renamed", "file-to-dir", "shortened"),
    *("attributes", "capable"),
)


def points_beneath(directory: Path) -> list[bytes]:
    """Return the mount points beneath `directory`, the innermost first."""
    inside = os.fsencode(directory) + b"/"
    points = [mount.mount_point for mount in read_mounts()]
    return [point for point in reversed(points) if point.startswith(inside)]


def stop_and_kill(pid: int) -> None:
    """Kill process `pid` before it answers anything more."""
    for number in (signal.SIGSTOP, signal.SIGKILL):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return
