"""`pyunion` with containers that run: a small busybox system, and commands on a store of it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from tests.helpers.mounts import DEADLINE, helper_environment, require, wait_until
from tests.helpers.processes import ending
from tests.helpers.terminals import Terminal

TOOLS = [
    "sh",
    "cat",
    "chmod",
    "echo",
    "id",
    "ls",
    "sleep",
    "kill",
    "touch",
    "mknod",
    "mount",
    "ps",
    "stty",
    "mv",
    "mkdir",
    "tty",
    "test",
]


def add_busybox(root: Path, tools: Sequence[str] = TOOLS) -> None:
    """Make `root/bin`, with busybox under the names `tools`."""
    busybox = shutil.which("busybox")
    require(busybox is not None, "busybox is not installed")
    assert busybox is not None
    (root / "bin").mkdir(parents=True)
    shutil.copy(busybox, root / "bin/busybox")
    for name in tools:
        (root / "bin" / name).symlink_to("busybox")


def make_rootfs(root: Path) -> None:
    """Fill the directory `root` with a small system."""
    root.chmod(0o755)  # ordinary users of the image are to get in
    add_busybox(root)
    for folder in ("etc", "tmp"):
        (root / folder).mkdir()
    (root / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\nbob:x:1000:1001::/home/bob:\n")
    (root / "etc/group").write_text("root:x:0:\nbob:x:1001:\nwheel:x:10:bob\n")
    (root / "etc/hosts").symlink_to("/outside")
    (root / "file").write_text("of the image")


class Containers:
    """`pyunion` in processes of its own, on a store that holds busy:1."""

    def __init__(self, store: Path, stack: ExitStack) -> None:
        self.store = store
        self.program: Sequence[str] = ("-m", "mount_tools.pyunion")
        """What the interpreter runs."""
        self._stack = stack

    def beside(self, store: Path) -> Containers:
        """Return the same on another store; what it starts ends with what this one started."""
        return Containers(store, self._stack)

    def command(self, *words: str) -> list[str]:
        return [sys.executable, *self.program, "--root", str(self.store), *words]

    def __call__(self, *words: str, timeout: float = DEADLINE) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*words),
            capture_output=True,
            text=True,
            env=helper_environment(),
            stdin=subprocess.DEVNULL,
            timeout=timeout,
            check=False,
        )

    def ok(self, *words: str) -> str:
        done = self(*words)
        assert done.returncode == 0, done
        return done.stdout.strip()

    def start(self, *words: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            self.command(*words),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            env=helper_environment(),
        )
        return self._stack.enter_context(ending(process))

    @contextmanager
    def on(self, ours: Terminal, *words: str) -> Iterator[subprocess.Popen[bytes]]:
        """Start `pyunion` on the terminal `ours`; end it after."""
        process = subprocess.Popen(
            self.command(*words),
            stdin=ours.program,
            stdout=ours.program,
            stderr=ours.program,
            env=helper_environment(),
        )
        with ending(process):
            yield process

    def keeper(self, name: str) -> int:
        """Return the process that keeps a running container."""
        # It leads a session; the parent of init may be the outer process, which does not.
        return os.getsid(parent_of(int(self.ok("inspect", "-f", "{{.State.Pid}}", name))))

    def mine(self) -> list[int]:
        """Return the processes that hold something of the store open, or were started for it."""
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdecimal() or int(entry.name) == os.getpid():
                continue
            try:
                line = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if os.fsencode(self.store) in line:
                found.append(int(entry.name))
        return found

    def end(self) -> None:
        """Wait until every process of the store has ended; kill those that do not."""
        try:
            wait_until(lambda: not self.mine(), "every process of the store to end")
        except BaseException:
            for pid in self.mine():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            raise

    def daemons(self) -> list[int]:
        """Return the processes that hold /dev/fuse open."""
        return [
            pid
            for pid in self.mine()
            if any(_is_fuse(fd) for fd in Path(f"/proc/{pid}/fd").iterdir())
        ]


def _is_fuse(fd: Path) -> bool:
    try:
        return fd.stat().st_rdev == os.makedev(10, 229)
    except OSError:
        return False


def parent_of(pid: int) -> int:
    """Return the parent of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("PPid:"))
