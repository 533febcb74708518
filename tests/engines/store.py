"""A store of containers/storage for tests, and the buildah that works on it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.helpers.mounts import run, wait_until
from unionfs.syscalls.mountinfo import read_mounts


class Store:
    """A store beneath `base`, whose storage.conf names PyUnion as mount_program."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.environment = {
            **os.environ,
            "CONTAINERS_STORAGE_CONF": str(base / "storage.conf"),
            "BUILDAH_ISOLATION": "chroot",
        }

    def start(self, *words: str | Path) -> subprocess.Popen[str]:
        """Start buildah."""
        options = ("--signature-policy", self.base / "policy.json") if words[0] == "commit" else ()
        return subprocess.Popen(
            ["buildah", words[0], *options, *words[1:]],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def buildah(self, *words: str | Path) -> str:
        """Run buildah, which must succeed; return what it printed."""
        with self.start(*words) as process:
            out, err = process.communicate(timeout=120)
        assert process.returncode == 0, f"buildah {words}: {err}"
        return out.strip()

    def make_base_image(self) -> None:
        """Make the image `base`: a busybox, and a few directories."""
        container = self.buildah("from", "scratch")
        with self.mounted(container) as root:
            for name in ("bin", "etc", "run", "tmp", "data"):
                (root / name).mkdir()
            shutil.copy(shutil.which("busybox") or "", root / "bin/busybox")
            for name in ("sh", "id", "stat", "touch", "chown"):
                (root / "bin" / name).symlink_to("busybox")
            (root / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\n")
        self.buildah("commit", "-q", "--rm", container, "base")

    @contextmanager
    def mounted(self, container: str) -> Iterator[Path]:
        """Mount a working container for a block; yield its root."""
        try:
            yield Path(self.buildah("mount", container))
        finally:
            self.buildah("umount", container)

    def commit(self, container: str, image: str) -> str:
        """Commit a working container and remove it; return a container of the image made."""
        self.buildah("commit", "-q", "--rm", container, image)
        return self.buildah("from", image)

    def daemons(self) -> list[int]:
        """Return the process ids of the mounts of this store."""
        found = []
        for entry in os.listdir("/proc"):
            try:
                words = Path("/proc", entry, "cmdline").read_bytes() if entry.isdigit() else b""
            except OSError:
                continue
            if os.fsencode(self.base / "root") in words and b"mount_tools.helper" in words:
                found.append(int(entry))
        return found

    def points(self) -> list[bytes]:
        """Return the mount points beneath this store, the innermost first."""
        inside = os.fsencode(self.base) + b"/"
        points = [mount.mount_point for mount in read_mounts()]
        return [point for point in reversed(points) if point.startswith(inside)]

    def close(self) -> None:
        """Unmount everything, and wait for the daemons to end."""
        for point in self.points():
            run("umount", "-l", point, check=False)
        wait_until(lambda: not self.daemons(), "the daemons to end")


def stop_and_kill(pid: int) -> None:
    """Kill process `pid` before it answers anything more."""
    for number in (signal.SIGSTOP, signal.SIGKILL):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return
