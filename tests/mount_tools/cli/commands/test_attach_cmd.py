"""attach and wait."""

from __future__ import annotations

from tests.helpers.containers import Containers
from tests.helpers.mounts import DEADLINE
from tests.helpers.terminals import terminal


def test_a_terminal_is_left_by_the_keys_and_found_again(containers: Containers) -> None:
    script = "echo up; read line; echo got $line; read line; exit 6"
    with terminal() as ours:
        with containers.on(
            ours, "run", "-it", "--name", "box", "busy:1", "sh", "-c", script
        ) as run:
            ours.await_text(b"up\r\n")
            ours.type(b"\x10\x11")
            assert run.wait(DEADLINE) == 0
        assert "Up" in containers.ok("ps")
        with containers.on(ours, "attach", "--detach-keys", "ctrl-x", "box") as attached:
            ours.type(b"typed\r")
            ours.await_text(b"got typed\r\n")
            ours.type(b"\x18")
            assert attached.wait(DEADLINE) == 0
        with containers.on(ours, "attach", "box") as attached:
            ours.type(b"\r")
            assert attached.wait(DEADLINE) == 6
    assert containers.ok("wait", "box") == "6"
    assert "got typed" in containers.ok("logs", "box")
    containers.ok("rm", "box")


def test_a_terminal_that_hangs_up_leaves_the_container(containers: Containers) -> None:
    with terminal() as ours:
        words = ("run", "-it", "--name", "box", "busy:1", "sh", "-c", "echo up; read line")
        with containers.on(ours, *words) as run:
            ours.await_text(b"up\r\n")
            run.send_signal(1)
            assert run.wait(DEADLINE) == 129
    assert "Up" in containers.ok("ps")
    containers.ok("rm", "-f", "box")


def test_wait_prints_the_exit_status_at_the_end(containers: Containers) -> None:
    script = "trap 'exit 9' USR1; echo up; while :; do sleep 0.02; done"
    containers.ok("run", "-d", "--name", "box", "busy:1", "sh", "-c", script)
    waiting = containers.start("wait", "box")
    following = containers.start("logs", "-f", "box")
    assert following.stdout is not None
    assert following.stdout.readline() == "up\n"
    assert waiting.poll() is None
    containers.ok("kill", "-s", "USR1", "box")
    assert waiting.wait(DEADLINE) == 0
    assert waiting.stdout is not None
    assert waiting.stdout.read() == "9\n"
    containers.ok("rm", "box")


def test_what_does_not_run_is_refused(containers: Containers) -> None:
    containers.ok("create", "--name", "box", "busy:1", "true")
    done = containers("attach", "box")
    assert done.returncode == 1
    assert "You cannot attach to a stopped container, start it first" in done.stderr
    done = containers("attach", "--detach-keys", "what", "box")
    assert done.returncode == 1
    containers.ok("rm", "box")
