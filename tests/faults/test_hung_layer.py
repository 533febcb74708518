"""A layer on a filesystem that stops to answer: a FUSE mount whose daemon is stopped.

Other layers stay served, a caller that waits can be killed, the union can be unmounted,
and all goes on when the layer answers again.
"""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.io_uring import io_uring_enabled
from tests.helpers.mounts import DEADLINE, Union, mounted_union, require_root, run, wait_until

MODES = ["dev_fuse", "io_uring", "pyfuse3"]


class Hanging:
    """A union of a local lower and one on FUSE, and the daemon of the latter."""

    def __init__(self, mode: str, union: Union, lower: Union) -> None:
        self.mode = mode
        self.union = union
        self.root = union.root
        self.lower = lower
        self._waiting: list[subprocess.Popen[bytes]] = []

    def stop(self) -> None:
        """Stop the daemon of the lower; return when none of its threads runs any more.

        One that still runs could answer the first of two calls that an operation makes.
        """
        os.kill(self.lower.pid, signal.SIGSTOP)
        tasks = Path(f"/proc/{self.lower.pid}/task")

        def stopped() -> bool:
            states = [(task / "stat").read_text().rpartition(")")[2][1] for task in tasks.iterdir()]
            return set(states) == {"T"}

        wait_until(stopped, "the daemon of the lower to stop")

    def go_on(self) -> None:
        os.kill(self.lower.pid, signal.SIGCONT)

    def begin(self, *command: str) -> subprocess.Popen[bytes]:
        """Start a command that will wait for the layer; return when it waits for an answer."""
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self._waiting.append(child)
        stack = Path(f"/proc/{child.pid}/stack")
        waits = ("fuse", "folio", "d_alloc_parallel", "rwsem")

        def waiting() -> bool:
            if child.poll() is not None:
                pytest.fail(f"{command} does not hang: {child.communicate()}")
            return any(word in stack.read_text() for word in waits)

        wait_until(waiting, "a hang")
        return child

    def await_daemon(self) -> None:
        """Wait until the union's daemon waits for the layer."""
        tasks = Path(f"/proc/{self.union.pid}/task")

        def waiting() -> bool:
            stacks = [(task / "stack").read_text() for task in tasks.iterdir()]
            return any("request_wait_answer" in stack for stack in stacks)

        wait_until(waiting, "the daemon to wait for the layer")

    def close(self) -> None:
        self.go_on()
        for child in self._waiting:
            child.kill()
            child.communicate(timeout=DEADLINE)


def _options(mode: str) -> list[str]:
    if mode == "pyfuse3":
        pytest.importorskip("pyfuse3")
        return ["transport=pyfuse3"]
    return ["transport=dev_fuse", f"io_uring={'on' if mode == 'io_uring' else 'auto'}"]


@pytest.fixture(params=MODES)
def hanging(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Hanging]:
    require_root()
    mode = request.param
    if mode == "io_uring":
        request.getfixturevalue("_io_uring")
    far, near, upper, work = (tmp_path / name for name in ("far", "near", "upper", "work"))
    for directory in (far / "f", near / "n", upper, work):
        directory.mkdir(parents=True)
    for number in range(8):
        (far / f"f/{number}").write_text("far")
        (far / f"far{number}").write_text("far")
        (near / f"n/{number}").write_text("near")
        (near / f"near{number}").write_text("near")
    (far / "big").write_bytes(bytes(1 << 20))
    # Its kernel caches nothing, so every call asks the daemon.
    with mounted_union([far], options=["io_uring=off", "transport=dev_fuse", "timeout=0"]) as lower:
        options = _options(mode)
        with mounted_union([lower.root, near], upper, work, options, quiet=False) as union:
            hanging = Hanging(mode, union, lower)
            try:
                yield hanging
            finally:
                hanging.close()


@pytest.fixture
def _io_uring() -> Iterator[None]:
    with io_uring_enabled():
        yield


def test_other_layers_stay_served(hanging: Hanging) -> None:
    """Names that the local layer has, in directories merged with the hung one too."""
    root = hanging.root
    run("ls", "-lR", root)
    (root / "new").write_text("made")
    hanging.stop()
    for number in range(4):
        hanging.begin("cat", f"{root}/f/{number}")
    for number in range(8):
        assert run("cat", f"{root}/near{number}").stdout == b"near"
        assert run("cat", f"{root}/n/{number}").stdout == b"near"
    run("sh", "-c", f"echo x >{root}/n/new; mkdir {root}/n/d; mv {root}/n/new {root}/n/d/moved")
    assert run("cat", f"{root}/n/d/moved", f"{root}/new").stdout == b"x\nmade"


def test_what_waited_goes_on(hanging: Hanging) -> None:
    root = hanging.root
    hanging.stop()
    waiting = [hanging.begin("cat", f"{root}/f/{number}") for number in range(4)]
    waiting.append(hanging.begin("sha256sum", f"{root}/big"))
    hanging.go_on()
    replies = [child.communicate(timeout=DEADLINE)[0] for child in waiting]
    assert replies[:4] == [b"far"] * 4
    assert replies[4].split()[0].decode() == hashlib.sha256(bytes(1 << 20)).hexdigest()


def test_a_waiting_caller_can_be_killed(hanging: Hanging) -> None:
    """Also one that had another signal before: the kernel reports only the first."""
    if hanging.mode == "pyfuse3":
        pytest.skip("pyfuse3 does not hand over INTERRUPT")
    root = hanging.root
    hanging.stop()
    commands = (
        ("cat", f"{root}/f/1"),
        ("ls", "-l", f"{root}/f"),
        ("cat", f"{root}/big"),
        ("sh", "-c", f"echo x >>{root}/f/2"),
        ("mv", f"{root}/far1", f"{root}/moved"),
    )
    for command in commands:
        child = hanging.begin(*command)
        child.send_signal(signal.SIGWINCH)
        child.send_signal(signal.SIGKILL)
        assert child.wait(DEADLINE) == -signal.SIGKILL, command
    hanging.go_on()
    assert run("cat", f"{root}/f/1", f"{root}/f/2").stdout in (b"farfar", b"farfarx\n")
    assert sorted(run("ls", f"{root}/f").stdout.split()) == [b"%d" % n for n in range(8)]


def test_the_union_can_be_unmounted(hanging: Hanging, tmp_path: Path) -> None:
    """A request whose caller was killed still waits; the upper is free for another mount.

    The thread of the daemon that waits for the layer ends only when the kernel lets it:
    a request that a FUSE daemon has taken cannot be given up.
    """
    if hanging.mode == "pyfuse3":
        pytest.skip("pyfuse3 does not hand over INTERRUPT, so the caller stays")
    hanging.stop()
    child = hanging.begin("cat", f"{hanging.root}/f/1")
    hanging.await_daemon()
    child.kill()
    child.wait(DEADLINE)
    run("umount", hanging.root)
    wait_until(lambda: "unmounted from" in hanging.union.log(), "the end of the union")
    assert "does not answer" in hanging.union.log()
    with mounted_union([tmp_path / "near"], tmp_path / "upper", tmp_path / "work") as again:
        assert (again.root / "near1").read_text() == "near"
    hanging.go_on()
    hanging.union.unmount()


def test_more_callers_than_a_ring_has_entries(hanging: Hanging) -> None:
    if hanging.mode == "io_uring":
        pytest.skip("io_uring=auto does without rings here; with io_uring=on they are taken")
    root = hanging.root
    run("ls", "-l", f"{root}/n", f"{root}/f")
    hanging.stop()
    for number in range(100):
        hanging.begin("cat", f"{root}/f/{number % 8}")
    assert run("cat", f"{root}/n/1").stdout == b"near"
