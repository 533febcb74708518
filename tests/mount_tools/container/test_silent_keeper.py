"""A keeper, or the daemon of a mount, that was stopped: no command waits for it for ever."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from layerstore import Store
from layerstore.containers import control_client
from layerstore.containers.container import Container, socket_path
from layerstore.db.processes import ProcessId
from layerstore.errors import Busy
from layerstore.operations.write_back import write_back
from mount_tools.container import silent_keeper
from mount_tools.container.mount import mount_container, unmount_container
from mount_tools.container.silent_keeper import Waiting
from mount_tools.container.transfer import root_of
from tests.helpers.containers import Containers, parent_of
from tests.helpers.mounts import DEADLINE, mount_type, wait_until
from tests.helpers.processes import ending


@contextmanager
def stopped(pid: int) -> Iterator[int]:
    """Stop the process `pid`; let it go on after."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.fixture
def box(containers: Containers) -> Iterator[int]:
    """The keeper of the running container "box"."""
    containers.ok("run", "-d", "--name", "box", "busy:1", "sh", "-c", "echo up; exec sleep 1000")
    yield containers.keeper("box")
    containers.ok("rm", "-f", "box")


@pytest.mark.parametrize(
    "words",
    [
        ("exec", "box", "true"),
        ("attach", "box"),
        ("commit", "box", "busy:2"),
        ("cp", "box:/file", "-"),
        ("restore", "box", "/file"),
    ],
    ids=" ".join,
)
def test_what_needs_an_answer_fails_and_says_what_to_do(
    containers: Containers, box: int, words: tuple[str, ...]
) -> None:
    with stopped(box):
        done = containers(*words)
    assert done.returncode in (1, 125), done
    assert f"{box}, was stopped; `kill -CONT {box}` lets it go on\n" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_keeper_that_hangs_is_given_up(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is not stopped, so it may only be slow: that is said first."""
    container = store.containers.create(store.images.resolve("box:1"), name="box")
    monkeypatch.setattr(silent_keeper, "SILENCE", 0.01)
    monkeypatch.setattr(silent_keeper, "PATIENCE", 0.05)
    with ending(subprocess.Popen(["sleep", "1000"])) as process:
        started = store.containers.started(container, process.pid)
        with pytest.raises(Busy) as caught:
            Waiting(started, answers=True).events(select.poll())
    me = os.getsid(0)
    assert str(caught.value) == (
        f"container box does not answer: the process that keeps it, {me}, has not answered for 0 "
        f"s; `kill -KILL {me}` ends it, and the container with it"
    )
    said = f"waiting for container box: the process that keeps it, {me}, has not answered for 0 s\n"
    assert capsys.readouterr().err == said


@pytest.mark.parametrize("words", [("wait", "box"), ("logs", "-f", "box")], ids=" ".join)
def test_what_waits_for_the_command_says_why_it_may_wait_for_ever(
    containers: Containers, box: int, words: tuple[str, ...]
) -> None:
    with stopped(box):
        waiting = containers.start(*words)
        assert waiting.stderr is not None
        said = waiting.stderr.readline()
        assert said.startswith(f"waiting for container box: the process that keeps it, {box}, was")
        waiting.send_signal(signal.SIGINT)
        assert waiting.wait(DEADLINE) == 130


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("words", [("run", "busy:1"), ("exec", "box")], ids=" ".join)
def test_a_signal_that_the_keeper_does_not_take_ends_the_viewer(
    containers: Containers, box: int, words: tuple[str, ...], number: signal.Signals
) -> None:
    viewer = containers.start(*words, "sh", "-c", "echo $$; exec sleep 1000")
    assert viewer.stdout is not None
    viewer.stdout.readline()
    keepers = [pid for pid in containers.mine() if pid == os.getsid(pid) and pid != box]
    assert len(keepers) == 1
    with stopped(keepers[0]):
        viewer.send_signal(number)
        assert viewer.wait(DEADLINE) == 128 + number
        assert viewer.stderr is not None
        said = viewer.stderr.read()
        assert said.startswith(f"Error: {number.name} did not reach the command: the process that")
    wait_until(lambda: viewer.pid not in containers.mine(), "the viewer to be gone")
    containers.ok("rm", "-f", *containers.ok("ps", "-q").split())


def test_a_signal_that_a_busy_command_ignores_does_not(containers: Containers, box: int) -> None:
    """The keeper has taken it: what the command does with it is its own business."""
    script = "trap 'echo got' TERM; echo up; while :; do sleep 0.1; done"
    viewer = containers.start("exec", "box", "sh", "-c", script)
    assert viewer.stdout is not None
    assert viewer.stdout.readline() == "up\n"
    for _ in range(2):
        viewer.send_signal(signal.SIGTERM)
        assert viewer.stdout.readline() == "got\n"
    assert viewer.poll() is None


@pytest.mark.parametrize("words", [("umount", "box"), ("stop", "box"), ("rm", "-f", "box")])
def test_a_mount_whose_daemon_was_stopped_is_unmounted(
    containers: Containers, tmp_path: Path, words: tuple[str, ...]
) -> None:
    containers.ok("create", "--name", "box", "busy:1")
    point = tmp_path / "mnt"
    point.mkdir()
    containers.ok("mount", "box", str(point))
    (point / "new").write_text("x")
    (daemon,) = containers.daemons()
    os.kill(daemon, signal.SIGSTOP)
    containers.ok(*words)
    assert mount_type(point) is None
    assert daemon not in containers.mine()


def test_a_mount_whose_daemon_hangs_is_not_touched(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing ends a wait for its files, so its socket is asked first."""
    with _mounted(store, tmp_path / "mnt") as (container, daemon):
        for module in (silent_keeper, control_client):
            monkeypatch.setattr(module, "is_stopped", lambda _pid: False)
        patience = control_client.ask.__kwdefaults__
        assert patience is not None
        monkeypatch.setitem(patience, "seconds", 0.1)
        daemon.send(signal.SIGSTOP)
        with pytest.raises(Busy, match="has not answered for"), root_of(store, container):
            raise AssertionError


def test_an_interrupt_ends_a_commit_whose_mount_is_stopped_meanwhile(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files are written back by a child: nothing but an answer ends such a wait."""
    with _mounted(store, tmp_path / "mnt") as (container, daemon):
        before = {*_children()}
        try:
            with (tmp_path / "mnt/file").open("w") as file:
                file.write("more")
                file.flush()
                writing = control_client.writing
                waited = threading.Event()

                def then_stop(socket: Path) -> tuple[bytes, ...]:
                    paths = writing(socket)
                    assert paths
                    daemon.send(signal.SIGSTOP)
                    interrupting.start()
                    return paths

                def interrupt() -> None:
                    wait_until(
                        lambda: any(map(_waits_for_fuse, _children())), "a wait for the mount"
                    )
                    os.kill(os.getpid(), signal.SIGINT)
                    if not waited.wait(10):
                        daemon.send(signal.SIGCONT)

                interrupting = threading.Thread(target=interrupt)
                monkeypatch.setattr(control_client, "writing", then_stop)
                with pytest.raises(KeyboardInterrupt):
                    write_back(container, socket_path(container.directory))
                waited.set()
                interrupting.join()
                daemon.send(signal.SIGCONT)
        finally:
            daemon.send(signal.SIGCONT)
            # Until it has ended it has the open file of this process.
            wait_until(lambda: all(map(_is_over, {*_children()} - before)), "the child to be gone")


@contextmanager
def _mounted(store: Store, point: Path) -> Iterator[tuple[Container, ProcessId]]:
    """Mount a new container on the new directory `point`; yield it and its daemon."""
    point.mkdir()
    container = store.containers.create(store.images.resolve("box:1"), name="box")
    mount_container(store, container, os.fspath(point))
    container = store.containers.get(container.id)
    daemon = container.process
    assert daemon is not None
    try:
        yield container, daemon
    finally:
        daemon.send(signal.SIGCONT)
        unmount_container(store.containers.get(container.id))


def _children() -> list[int]:
    """Return the children of this process, and this process."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                if parent_of(int(entry.name)) == os.getpid():
                    found.append(int(entry.name))
            except (OSError, StopIteration):
                continue
    return [*found, os.getpid()]


def _is_over(pid: int) -> bool:
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True


def _waits_for_fuse(pid: int) -> bool:
    try:
        return "request_wait_answer" in Path(f"/proc/{pid}/wchan").read_text()
    except OSError:
        return False
