"""One workload of one subject in one round, and how time is taken in it.

Decided here and only here: what "timed" and "cold" mean.

Timed: the wall time of a process from before its start to after its end, stdin
empty, stdout read or thrown away; for the loops of `client` the time within.  The
processor time is that of these processes, and of the daemon meanwhile; what the
kernel does later, as writing to the disk, is nobody's.

Cold: right before, dirty pages were written and the kernel told to drop its page
cache, dentries and inodes (`echo 3 > /proc/sys/vm/drop_caches`).  That forgets
what the kernel cached of the mount and of the layers beneath; what a daemon
holds in its own memory stays.

Every command has a time-out.  This process itself never touches a mount: a
daemon that hangs could not be ended any more.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.layers import Stack
from benchmarks.scale import Scale
from benchmarks.subjects import Mount, Place, Subject, mounted

CLIENT = Path(__file__).with_name("client.py")

# A user's first mount leaves its bytecode for the next, wherever that is not forbidden.
_INHERITED = {name: os.environ[name] for name in os.environ if name != "PYTHONDONTWRITEBYTECODE"}

ENVIRONMENT = {
    **_INHERITED,
    # A mount is measured by itself, and leaves no process behind but its daemon.
    "PYUNION_WARM": "0",
    "LC_ALL": "C",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_AUTHOR_NAME": "benchmark",
    "GIT_AUTHOR_EMAIL": "benchmark@example.invalid",
    "GIT_COMMITTER_NAME": "benchmark",
    "GIT_COMMITTER_EMAIL": "benchmark@example.invalid",
}


class Wrong(Exception):
    """A command failed, took too long, or did not do the work; the text says which."""


@dataclass
class Cell:
    """Where the steps of a workload run; `root` is the merged tree.

    `cpu_ms` is the processor time of all that was timed until now, in milliseconds.
    """

    subject: Subject
    place: Place
    scale: Scale
    mount: Mount
    token: str = field(default_factory=lambda: secrets.token_hex(6))
    cpu_ms: float = 0.0

    @property
    def root(self) -> Path:
        return self.mount.root

    @property
    def stack(self) -> Stack:
        return self.place.stack

    # -- running --

    def run(self, *argv: str | Path, cwd: Path | None = None, good: Sequence[int] = (0,)) -> str:
        """Run a command and return what it printed; not timed."""
        return self._finish(self._start(argv, cwd), argv, good)

    def timed(
        self, *argv: str | Path, cwd: Path | None = None, good: Sequence[int] = (0,)
    ) -> float:
        """Run a command and return the milliseconds it took."""
        used, start = self._cpu_s(), time.perf_counter()
        process = self._start(argv, cwd, stdout=subprocess.DEVNULL)
        self._finish(process, argv, good)
        took = time.perf_counter() - start
        self.cpu_ms += (self._cpu_s() - used) * 1e3
        return took * 1e3

    def timed_together(self, *commands: Sequence[str | Path]) -> float:
        """Run commands at the same time; return the milliseconds until the last has ended."""
        used, start = self._cpu_s(), time.perf_counter()
        processes = [self._start(argv, None, stdout=subprocess.DEVNULL) for argv in commands]
        try:
            for process, argv in zip(processes, commands, strict=True):
                self._finish(process, argv, (0,))
        finally:
            _end(processes)
        took = time.perf_counter() - start
        self.cpu_ms += (self._cpu_s() - used) * 1e3
        return took * 1e3

    def loop(self, name: str, count: int, *, cwd: Path, clients: int = 1, token: str = "") -> float:
        """Run a loop of `client` in `clients` processes; return ms from the first to the last.

        One client runs where the scheduler puts it, several are pinned to a CPU each.
        """
        cpus = sorted(os.sched_getaffinity(0))
        processes: list[subprocess.Popen[bytes]] = []
        times: list[tuple[float, float, float]] = []
        try:
            for client in range(clients):
                argv: list[str | Path] = [sys.executable, "-I", "-S", CLIENT, name, str(count)]
                argv.append(token or f"{self.token}-{secrets.token_hex(4)}")
                if clients > 1:
                    argv = ["taskset", "--cpu-list", str(cpus[client % len(cpus)]), *argv]
                processes.append(self._start(argv, cwd, stdin=subprocess.PIPE))
            for process in processes:
                assert process.stdout is not None
                process.stdout.readline()
            used = self.mount.cpu_s()
            for process in processes:
                assert process.stdin is not None
                process.stdin.write(b"\n")
                process.stdin.flush()
            for process in processes:
                said = self._finish(process, ["client", name], (0,))
                began, ended, cpu = map(float, said.split())
                times.append((began, ended, cpu))
            used = self.mount.cpu_s() - used
        finally:
            _end(processes)
        self.cpu_ms += (sum(cpu for _, _, cpu in times) + used) * 1e3
        return (max(end for _, end, _ in times) - min(start for start, _, _ in times)) * 1e3

    def _cpu_s(self) -> float:
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        return ended.ru_utime + ended.ru_stime + self.mount.cpu_s()

    def _start(
        self,
        argv: Sequence[str | Path],
        cwd: Path | None,
        stdin: int = subprocess.DEVNULL,
        stdout: int = subprocess.PIPE,
    ) -> subprocess.Popen[bytes]:
        try:
            return subprocess.Popen(
                argv, cwd=cwd, env=ENVIRONMENT, stdin=stdin, stdout=stdout, stderr=subprocess.PIPE
            )
        except OSError as error:
            raise Wrong(f"{argv[0]} cannot be run: {error.strerror}") from None

    def _finish(
        self, process: subprocess.Popen[bytes], argv: Sequence[str | Path], good: Sequence[int]
    ) -> str:
        name = " ".join(str(word) for word in argv[:3]).replace(str(self.root), "ROOT")
        try:
            out, err = process.communicate(timeout=self.scale.patience)
        except subprocess.TimeoutExpired:
            process.kill()
            # A process that waits for a hung daemon cannot be killed before the daemon.
            self.mount.abort()
            _end([process])
            raise Wrong(f"{name} took longer than {self.scale.patience:.0f} s") from None
        if process.returncode not in good:
            said = err.decode(errors="replace").replace(str(self.root), "ROOT").splitlines()
            raise Wrong(f"{name} ended with status {process.returncode}: {' / '.join(said[-2:])}")
        return (out or b"").decode(errors="replace")

    # -- before and after --

    def drop_caches(self) -> None:
        """Make what follows cold."""
        os.sync()
        Path("/proc/sys/vm/drop_caches").write_text("3")

    def warm_layers(self) -> None:
        """Read all that lies beneath once, so that no disk is waited for."""
        there = [self.root] if self.subject.command is None else [*self.stack.layers]
        read = ["find", *there, "-type", "f", "-exec", "cat", "{}", "+"]
        subprocess.run(read, cwd=self.stack.where, stdout=subprocess.DEVNULL, check=True)

    def count(self, *words: str | Path) -> int:
        """Return how many lines `find` prints for `words`."""
        return self.run("find", *words).count("\n")

    def expect(self, what: str, found: object, wanted: object) -> None:
        """Raise `Wrong` unless what was found is what was wanted."""
        if found != wanted:
            raise Wrong(f"{what}: {json.dumps(found)} instead of {json.dumps(wanted)}")

    def memory(self) -> int:
        """Return the daemon's resident memory in bytes."""
        daemon = self.mount.daemon
        assert daemon is not None
        for line in Path(f"/proc/{daemon.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise Wrong("its daemon has ended")


def _end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """End those that still run, and close their pipes."""
    for process in processes:
        process.kill()
    for process in processes:
        with process:
            pass


@contextlib.contextmanager
def opened_cell(
    work: Path,
    scale: Scale,
    subject: Subject,
    stack: Stack,
    *,
    writes: bool = True,
    is_mounted: bool = True,
) -> Iterator[Cell]:
    """Mount `subject` over `stack` with a fresh upper; all of it is gone afterwards.

    With `is_mounted` false only the directories are made.  Raises as `subjects.mounted`.
    """
    # A name of its own, by which ext4 finds a place for it, see `isolation.spread`.
    here = work / f"cell-{secrets.token_hex(4)}"
    place = Place(
        stack,
        upper=here / "upper",
        work=here / "work",
        merged=here / "merged",
        log=here / "log",
        writes=writes,
    )
    try:
        for directory in (place.upper, place.work, place.merged):
            directory.mkdir(parents=True)
        if scale.settles:
            os.sync()  # what the last one wrote is not this one's burden
        with (
            mounted(subject, place)
            if is_mounted
            else contextlib.nullcontext(Mount(place.merged)) as mount
        ):
            yield Cell(subject, place, scale, mount)
    finally:
        shutil.rmtree(here)
