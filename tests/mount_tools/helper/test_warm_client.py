"""What a helper is found by, and what becomes of a mount when the helper dies on its way."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mount_tools.helper import warm_client
from mount_tools.helper.warm_client import Here, ask, describe, here
from tests.helpers.mounts import DEADLINE, helper_environment, require_root


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory for sockets, with a short path."""
    with tempfile.TemporaryDirectory() as name:
        monkeypatch.setenv("XDG_RUNTIME_DIR", name)
        monkeypatch.delenv(warm_client.SWITCH, raising=False)
        yield Path(name)


def found() -> Here:
    at = here()
    assert at is not None
    return at


@contextmanager
def answering(at: Here, answer: Callable[[socket.socket], None]) -> Iterator[None]:
    """Let `answer` do what a helper at `at` does with its first connection."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with listener:
        listener.bind(at.path)
        listener.listen()
        listener.settimeout(20)

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                answer(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        yield
        thread.join()


def test_the_same_process_is_always_found_at_the_same_place(runtime: Path) -> None:
    at = found()
    assert Path(at.path).parent == runtime / "pyunion-warm"
    assert os.stat(runtime / "pyunion-warm").st_mode & 0o777 == 0o700
    assert (found().path, found().description) == (at.path, at.description)
    assert describe(f"/proc/{os.getpid()}") == at.description


def test_what_is_not_the_same_is_found_elsewhere(
    runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = found()
    before = os.umask(0o051)
    try:
        assert found().path != at.path
    finally:
        os.umask(before)
    monkeypatch.setenv("PYTHONHASHSEED", "7")
    other = found()
    assert other.path != at.path
    assert other.description == at.description, "the kernel does not know"
    script = (
        "import resource, sys; from mount_tools.helper.warm_client import here;"
        "soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE);"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (soft - int(sys.argv[1]), hard));"
        "print(here().path)"
    )
    paths = {
        subprocess.run(
            [sys.executable, "-c", script, lower],
            env=helper_environment(),
            capture_output=True,
            check=True,
        ).stdout
        for lower in ("0", "1", "0", "2")
    }
    assert len(paths) == 3


def test_another_mount_of_the_same_root_is_another_root(runtime: Path, tmp_path: Path) -> None:
    """Names mean other directories in a chroot to a bind mount of the root."""
    require_root()
    script = 'mount --rbind / "$PWD"; "$@"; chroot "$PWD" "$@"'
    where = "from mount_tools.helper.warm_client import here; print(here().path)"
    done = subprocess.run(
        [
            *("unshare", "-m", "--propagation", "private", "sh", "-ec", script, "sh"),
            *(sys.executable, "-c", where),
        ],
        env=helper_environment(),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    outside, inside = done.stdout.splitlines()
    assert outside != inside


def test_the_switch_and_unsafe_directories_mean_no_helper(
    runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(warm_client.SWITCH, "0")
    assert here() is None
    monkeypatch.delenv(warm_client.SWITCH)
    at = found()
    os.chmod(runtime / "pyunion-warm", 0o770)
    moved = here()
    assert moved is None or not moved.path.startswith(str(runtime))
    (runtime / "pyunion-warm").rmdir()
    os.symlink("/tmp", runtime / "pyunion-warm")
    moved = here()
    assert moved is None or moved.path != at.path


def test_nobody_at_the_socket(runtime: Path) -> None:
    at = found()
    assert ask(at, "mount.pyunion", ["-o", "x", "/m"]) is None
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as dead:
        dead.bind(at.path)
    assert ask(at, "mount.pyunion", ["-o", "x", "/m"]) is None
    assert ask(Here(b"", "/" + "long" * 40), "mount.pyunion", []) is None


def test_a_helper_that_ends_before_it_has_forked(runtime: Path) -> None:
    at = found()
    with answering(at, lambda connection: None):
        assert ask(at, "mount.pyunion", ["-o", "x", "/m"]) is None


def test_a_helper_that_does_not_go_on(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warm_client, "_PATIENCE", 0.01)
    at, late, failed = found(), threading.Event(), threading.Event()

    def answer(connection: socket.socket) -> None:
        _, fds, _, _ = socket.recv_fds(connection, 1 << 20, 6)
        late.wait(DEADLINE)
        try:
            os.write(fds[4], b"\1\0\0\0")
        except BrokenPipeError:
            failed.set()
        for fd in fds:
            os.close(fd)

    with answering(at, answer):
        assert ask(at, "mount.pyunion", ["-o", "x", "/m"]) is None
        late.set()
    assert failed.is_set(), "a daemon that begins now would mount a second time"


def test_what_is_asked_for(runtime: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MADE", "a=b\udcff")
    at, seen = found(), []

    def answer(connection: socket.socket) -> None:
        message, fds, _, _ = socket.recv_fds(connection, 1 << 20, 6)
        seen.append((message.split(b"\0"), os.readlink(f"/proc/self/fd/{fds[3]}")))
        os.write(fds[4], (77).to_bytes(4, "little"))
        os.write(fds[4], b"said")
        for fd in fds:
            os.close(fd)

    with answering(at, answer):
        asked = ask(at, "mount.pyunion", ["-o", "", "\udcfe"])
        assert asked is not None
        assert (asked.pid, asked.report()) == (77, b"said")
    (words, cwd) = seen[0]
    assert words[:5] == [b"mount.pyunion", b"3", b"-o", b"", b"\xfe"]
    assert b"MADE=a=b\xff" in words[5:]
    assert cwd == str(tmp_path)
