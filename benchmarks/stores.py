"""Stores of images side by side: ours, and those of docker, podman and umoci.

Decided here and only here: how a store of a benchmark's own is made beneath a
directory, and how much processor time its work takes, the daemon's included.
docker 20.10, podman 4.3 and umoci 0.4.7 are Debian's; dockerd runs without a
network.
"""

from __future__ import annotations

import contextlib
import os
import resource
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from benchmarks.demo import mounts_beneath, unmount

REPOSITORY = Path(__file__).resolve().parents[1]
_TICKS = os.sysconf("SC_CLK_TCK")
# An installed PyUnion has bytecode; without it each command would compile all of its modules.
_ENVIRONMENT = {
    name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"
}
_TIMES = slice(11, 15)  # utime, stime, cutime and cstime of /proc/<pid>/stat, behind the name


def run(*words: str | Path, more: Mapping[str, str] | None = None) -> str:
    """Run a command and return what it printed; raises RuntimeError where it fails.

    `more` are variables of its environment beside ours.
    """
    done = subprocess.run(
        words,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env={**_ENVIRONMENT, **(more or {})},
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, words))}: {done.stderr.strip()[-400:]}")
    return done.stdout.strip()


@contextlib.contextmanager
def workspace(prefix: str, place: Path | None) -> Iterator[Path]:
    """Hold a fresh directory in `place`; what the stores leave mounted beneath goes with it."""
    # Of letters and digits: podman takes the path of a layout for the name of an image, in
    # which an underscore may not stand everywhere that tempfile puts one.
    base = Path(place or tempfile.gettempdir()) / f"{prefix}{secrets.token_hex(4)}"
    base.mkdir(mode=0o700)
    try:
        yield base
    finally:
        for point in mounts_beneath(base.resolve()):
            unmount(point)
        shutil.rmtree(base)


class Store:
    """A store that is worked with through the command `words`."""

    def __init__(self, *words: str | Path) -> None:
        self.words = words

    def command(self, *words: str | Path) -> str:
        return run(*self.words, *words)

    def cpu(self) -> float:
        """Return the seconds of processor time that commands have taken until now."""
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    def close(self) -> None:
        """Nothing runs any more."""


class PyUnionStore(Store):
    """Ours."""

    def __init__(self, base: Path, *, sync: bool = True) -> None:
        self.root = base / ("pyunion" if sync else "pyunion-nosync")
        words: list[str | Path] = [sys.executable, "-m", "mount_tools.pyunion"]
        words += ["--root", self.root]
        super().__init__(*words, *([] if sync else ["--no-sync"]))


class DockerStore(Store):
    """A dockerd of its own, which ends with `close`."""

    def __init__(self, base: Path) -> None:
        host = f"unix://{base}/docker.sock"
        super().__init__("docker", "-H", host)
        words: list[str | Path] = ["dockerd", "--data-root", base / "docker"]
        words += ["--exec-root", base / "docker-exec", "-p", base / "docker.pid"]
        words += ["-H", host, "--iptables=false", "--bridge=none"]
        with (base / "dockerd.log").open("wb") as log:
            self.daemon = subprocess.Popen(words, stdout=log, stderr=log)
        for _ in range(300):
            with contextlib.suppress(RuntimeError):
                self.command("version")
                return
            if self.daemon.poll() is not None:
                break
            time.sleep(0.1)
        self.close()
        raise RuntimeError(f"dockerd does not answer: {(base / 'dockerd.log').read_text()[-400:]}")

    def cpu(self) -> float:
        """Those of dockerd and of the helpers it ran too."""
        stat = Path(f"/proc/{self.daemon.pid}/stat").read_text()
        fields = stat.rpartition(")")[2].split()
        ticks = sum(map(int, fields[_TIMES]))
        return super().cpu() + ticks / _TICKS

    def close(self) -> None:
        self.daemon.terminate()
        self.daemon.wait(60)


class PodmanStore(Store):
    """podman over kernel overlayfs."""

    def __init__(self, base: Path) -> None:
        words = ["podman", "--root", str(base / "podman"), "--runroot", str(base / "run")]
        words += ["--tmpdir", str(base / "podman-tmp"), "--storage-driver", "overlay"]
        super().__init__(*words)
