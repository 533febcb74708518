"""The start of a container, stopped at each of its steps: success is never silence."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
from pathlib import Path

import pytest

from layerstore import Store
from layerstore.limits import MAX_LAYERS
from layerstore.oci.json_values import Object
from layerstore.oci.run_config import RunConfig
from mount_tools.container.process import launch_of
from tests.helpers.containers import Containers, parent_of
from tests.helpers.images import add_layer, config_of, diff_id
from tests.helpers.mounts import DEADLINE, helper_environment, run, wait_until
from tests.helpers.processes import ending

MESSAGES = ("Begun", "Recorded", "Terminal", "Running")
# After `sent:Running` the command runs, whatever becomes of it then.
STEPS = [
    f"{step}:{message}"
    for message in MESSAGES
    for step in ("send", "sent", "expect", "expected")
    if (step, message) != ("sent", "Running")
] + ["execve", "live", "report:keeper"]


def stop_at(containers: Containers, step: str, manner: str) -> None:
    containers.program = ("-m", "tests.helpers.stopped_at", step, manner)


def runs_again(containers: Containers) -> None:
    containers.program = ("-m", "mount_tools.pyunion")
    assert "Up" not in containers.ok("ps", "-a")
    assert containers.ok("start", "-a", "box") == "ran"
    containers.ok("rm", "box")


@pytest.mark.parametrize("manner", ["killed", "raising"])
@pytest.mark.parametrize("step", STEPS)
def test_a_start_that_is_cut_short_is_an_error(
    containers: Containers, step: str, manner: str
) -> None:
    stop_at(containers, step, manner)
    done = containers("run", "-dt", "--name", "box", "busy:1", "echo", "ran")
    assert done.returncode == 125 and done.stdout == "", done
    assert done.stderr.startswith("Error: "), done
    if manner == "raising":
        assert f"at {step}" in done.stderr and "Traceback" not in done.stderr
    wait_until(lambda: not containers.mine(), "every process of the container to end")
    runs_again(containers)


@pytest.mark.parametrize("step", ["send:Begun", "expect:Recorded", "execve"])
def test_a_start_cut_short_is_an_error_in_the_foreground_and_for_start(
    containers: Containers, step: str
) -> None:
    containers.ok("create", "--name", "box", "busy:1", "echo", "ran")
    stop_at(containers, step, "killed")
    done = containers("start", "box")
    assert (done.returncode, done.stdout) == (1, "")
    assert "before its command ran" in done.stderr and "failed to start" in done.stderr
    done = containers("start", "-a", "box")
    assert (done.returncode, done.stdout) == (125, "")
    assert "before its command ran" in done.stderr
    runs_again(containers)


def test_a_keeper_that_is_killed_takes_the_command_along(
    containers: Containers, tmp_path: Path
) -> None:
    stop_at(containers, "expected:Begun", "killed")
    done = containers("run", "-v", f"{tmp_path}:/out", "busy:1", "touch", "/out/ran")
    assert done.returncode == 125 and "was killed by signal 9" in done.stderr
    wait_until(lambda: not containers.mine(), "every process of the container to end")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "step", ["sent:Begun", "live", "expect:Recorded", "execve", "report:keeper"]
)
def test_a_keeper_that_is_killed_takes_a_command_without_init_along(
    containers: Containers, step: str
) -> None:
    stop_at(containers, step, "killed")
    done = containers("run", "-d", "--init=false", "--name", "box", "busy:1", "echo", "ran")
    assert done.returncode == 125 and done.stdout == "", done
    assert "before its command ran" in done.stderr, done
    wait_until(lambda: not containers.mine(), "every process of the container to end")
    runs_again(containers)


def test_without_an_init_the_command_is_process_1(containers: Containers) -> None:
    script = "trap 'exit 3' USR1; kill 1; kill -9 1; echo $$ up; while :; do sleep 0.02; done"
    words = ("run", "-d", "--init=false", "--name", "box", "busy:1", "sh", "-c", script)
    containers.ok(*words)
    wait_until(lambda: containers.ok("logs", "box") == "1 up", "the command to print")
    containers.ok("kill", "-s", "TERM", "box")  # which it neither handles nor gets
    assert "Up" in containers.ok("ps")
    containers.ok("kill", "-s", "USR1", "box")
    assert containers.ok("wait", "box") == "3"
    containers.ok("start", "box")
    containers.ok("stop", "-t", "0", "box")
    assert containers.ok("wait", "box") == "137"
    assert containers.ok("inspect", "-f", "{{.HostConfig.Init}}", "box") == "false"
    containers.ok("rm", "box")


def test_a_process_1_that_changed_its_user_ends_with_its_keeper(containers: Containers) -> None:
    words = ("run", "-d", "--init=false", "--name", "box", "busy:1")
    containers.ok(*words, "busybox", "su", "bob", "-c", "echo up; exec sleep 1000")
    wait_until(lambda: containers.ok("logs", "box") == "up", "the command to print")
    pid = int(containers.ok("inspect", "-f", "{{.State.Pid}}", "box"))
    assert os.stat(f"/proc/{pid}").st_uid == 1000
    os.kill(containers.keeper("box"), signal.SIGKILL)
    wait_until(lambda: not containers.mine(), "every process of the container to end")
    assert containers.ok("ps", "-a", "--format", "{{.Status}}").startswith("Exited (137)")


def test_a_process_1_that_changed_its_user_ends_with_the_outer_process(
    containers: Containers,
) -> None:
    words = ("run", "-d", "--init=false", "--name", "box", "busy:1")
    containers.ok(*words, "busybox", "su", "bob", "-c", "echo up; exec sleep 1000")
    wait_until(lambda: containers.ok("logs", "box") == "up", "the command to print")
    outer = parent_of(int(containers.ok("inspect", "-f", "{{.State.Pid}}", "box")))
    assert outer != containers.keeper("box")
    os.kill(outer, signal.SIGKILL)
    assert containers.ok("wait", "box") == "137"
    wait_until(lambda: not containers.mine(), "every process of the container to end")


@pytest.mark.parametrize(("flags", "others"), [((), 0), (("--init=false",), 1)])
def test_a_container_costs_two_processes(
    containers: Containers, flags: tuple[str, ...], others: int
) -> None:
    """With an init that is the second one; without, one that ends as the command does."""
    containers.ok("run", "-d", *flags, "--name", "box", "busy:1", "sleep", "1000")
    keeper = containers.keeper("box")
    wait_until(lambda: len(containers.daemons()) == 1, "all but one to close /dev/fuse")
    assert containers.daemons() == [keeper]
    assert len(containers.mine()) == 1 + others  # init has a title of its own
    containers.ok("rm", "-f", "box")


def test_what_another_mount_namespace_shows_is_served_to_its_end(containers: Containers) -> None:
    containers.ok("run", "-d", "--name", "box", "busy:1", "sleep", "1000")
    keeper = containers.keeper("box")
    init = containers.ok("inspect", "-f", "{{.State.Pid}}", "box")
    words = ("nsenter", "-t", init, "-m", "-r", "sh", "-c", "echo in; read line; cat /file")
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"in\n"
        containers.ok("rm", "-f", "box")
        assert containers.ok("ps", "-aq") == ""
        assert containers.mine() == [keeper]
        assert other.communicate(b"\n", timeout=DEADLINE)[0] == b"of the image"
    wait_until(lambda: not containers.mine(), "the keeper to end")


def test_a_signal_to_a_whole_process_group_is_not_the_keepers(containers: Containers) -> None:
    done = containers("run", "--rm", "busy:1", "sh", "-c", "kill -9 0")
    assert (done.returncode, done.stderr) == (137, "")
    assert containers.ok("ps", "-aq") == "", "its keeper has removed it"
    session = "read -r pid name state parent group session rest < /proc/1/stat; echo $session"
    for flag in ("--init=true", "--init=false"):
        assert containers.ok("run", "--rm", flag, "busy:1", "sh", "-c", session) == "1"
    containers.ok("run", "-d", "--name", "box", "busy:1", "sleep", "1000")
    own = "read -r pid name state parent group session rest < /proc/$$/stat; echo $((session - $$))"
    assert containers.ok("exec", "box", "sh", "-c", own) == "0"
    containers.ok("rm", "-f", "box")


def test_a_signal_to_the_init_is_the_commands(containers: Containers) -> None:
    script = "trap 'exit 3' TERM; kill 1; while :; do sleep 0.02; done"
    assert containers("run", "--rm", "busy:1", "sh", "-c", script).returncode == 3


@pytest.mark.parametrize("flags", [(), ("--rm",)])
def test_only_what_is_removed_at_its_end_is_not_synced(
    containers: Containers, flags: tuple[str, ...]
) -> None:
    containers.ok("run", "-d", *flags, "--name", "box", "busy:1", "sleep", "1000")
    marks = list(containers.store.glob("containers/*/work/work/incompat/volatile"))
    assert len(marks) == len(flags)
    done = containers("rm", "-f", "box")  # if it is removed at its end, its keeper does that
    assert (done.returncode, done.stdout, done.stderr) == (0, "box\n", "")


def test_a_container_that_outlives_its_rm_can_be_started(containers: Containers) -> None:
    """Its keeper was killed before it could remove it."""
    script = "test -e /new && echo ran; echo x > /new; sleep 1000"
    containers.ok("run", "-d", "--rm", "--name", "box", "busy:1", "sh", "-c", script)
    wait_until(lambda: containers("exec", "box", "test", "-s", "/new").returncode == 0, "the file")
    os.kill(containers.keeper("box"), signal.SIGKILL)
    wait_until(lambda: not containers.mine(), "every process of the container to end")
    containers.ok("start", "box")
    assert containers.ok("exec", "box", "cat", "/new") == "x"
    containers.ok("rm", "-f", "box")


def test_exec_that_is_cut_short_is_an_error(containers: Containers) -> None:
    containers.ok("run", "-d", "--name", "box", "busy:1", "sleep", "1000")
    for step in ("send:Terminal", "sent:Terminal", "expect:Terminal", "execve"):
        for manner in ("killed", "raising"):
            stop_at(containers, step, manner)
            done = containers("exec", "-t", "box", "echo", "ran")
            assert done.returncode == 125 and done.stderr.startswith("Error: "), (step, done)
            assert done.stdout == ""
    containers.program = ("-m", "mount_tools.pyunion")
    assert containers.ok("exec", "box", "echo", "ran") == "ran"
    containers.ok("rm", "-f", "box")


@pytest.mark.parametrize(("user", "command"), [("root", "sleep 77"), ("bob", "sleep 78")])
def test_a_command_outlives_exec_and_ends_with_its_keeper(
    containers: Containers, user: str, command: str
) -> None:
    """A change of ids makes the kernel forget that it was to be killed with its parent."""
    containers.ok("run", "-d", "--name", "box", "busy:1", "sleep", "1000")
    script = f"echo up; exec {command}"
    running = containers.start("exec", "-u", user, "box", "sh", "-c", script)
    assert running.stdout is not None
    assert running.stdout.readline() == "up\n"
    running.kill()
    running.communicate(timeout=DEADLINE)
    assert command in containers.ok("exec", "box", "ps")
    (pid,) = pids_of(command.replace(" ", "\0"))
    keeper = parent_of(pid)
    assert keeper in containers.mine()
    os.kill(keeper, signal.SIGKILL)
    wait_until(lambda: command not in containers.ok("exec", "box", "ps"), "it to end")
    containers.ok("rm", "-f", "box")


def test_a_container_outlives_the_command_that_started_it(containers: Containers) -> None:
    script = "echo up; read line; echo got $line; exit 4"
    words = containers.command("run", "-i", "--name", "box", "busy:1", "sh", "-c", script)
    running = subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=helper_environment()
    )
    with ending(running):
        assert running.stdout is not None
        assert running.stdout.readline() == b"up\n"
        running.kill()
    assert "Up" in containers.ok("ps")
    done = subprocess.run(
        containers.command("attach", "box"),
        input="typed\n",
        capture_output=True,
        text=True,
        env=helper_environment(),
        timeout=DEADLINE,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (4, "got typed\n", "")
    assert containers.ok("logs", "box") == "up\ngot typed"
    assert containers.ok("wait", "box") == "4"
    containers.ok("rm", "box")


def test_what_a_container_runs_is_its_entrypoint_and_its_words(tmp_path: Path) -> None:
    config: Object = {"Entrypoint": ["/e", "-x"], "Cmd": ["a", "b"], "Env": ["A=1"], "Tty": True}
    launch = launch_of(RunConfig(config), str(tmp_path))
    assert launch.words == ("/e", "-x", "a", "b")
    assert (launch.environment, launch.directory, launch.terminal) == (("A=1",), "/", True)
    assert launch_of(RunConfig({"Cmd": None, "User": "bob"}), str(tmp_path)).user == "bob"


@pytest.fixture
def many(containers: Containers) -> Containers:
    """many:1 has as many layers as an image may have."""
    with Store.open(containers.store, sync=False) as store:
        base = store.images.resolve("busy:1")
        files = [{f"f{number}": b"%d" % number} for number in range(1, MAX_LAYERS)]
        top = base.top
        for layer in files:
            top = add_layer(store, top, layer).chain_id
        own = store.images.config(base)
        config = config_of([*own.diff_ids, *map(diff_id, files)], config=own.config)
        store.images.tag(store.images.add(config.data), "many:1")
    return containers


def test_an_image_of_many_layers_runs_and_what_it_lacks_is_no_change(many: Containers) -> None:
    """It lacks /proc, /sys and /dev; and a shell has 1,024 open files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
    try:
        last = f"f{MAX_LAYERS - 1}"
        assert many.ok("run", "--name", "box", "many:1", "cat", "/f1", f"/{last}") == "1499"
        assert many.ok("diff", "box") == ""
        many.ok("rm", "box")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_one_whose_keeper_is_killed_was_killed(containers: Containers) -> None:
    containers.ok("run", "-d", "--name", "box", "busy:1", "sleep", "1000")
    keeper = containers.keeper("box")
    assert keeper in containers.mine()
    os.kill(keeper, signal.SIGKILL)
    wait_until(lambda: not containers.mine(), "every process of the container to end")
    assert "Exited (137)" in containers.ok("ps", "-a")
    shown = containers.ok("inspect", "-f", "{{.State.ExitCode}} {{.State.FinishedAt}}", "box")
    assert re.fullmatch(r"137 20[0-9]{2}-.*Z", shown)
    containers.ok("rm", "box")


def pids_of(line: str) -> list[int]:
    """Return the processes of this machine whose command line is `line`, with NULs between."""
    return [
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdecimal() and _command_line(entry) == line
    ]


def _command_line(entry: Path) -> str:
    try:
        return (entry / "cmdline").read_text().removesuffix("\0")
    except OSError:
        return ""


def test_the_status_is_recorded_though_the_command_filled_the_disk(
    containers: Containers, tmp_path: Path
) -> None:
    """The space that the store keeps in reserve is given up for it."""
    archive, small = tmp_path / "busy.tar", tmp_path / "small"
    containers.ok("save", "-o", str(archive), "busy:1")
    small.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=16m", "small", small)
    try:
        full = containers.beside(small / "store")
        full.ok("load", "-i", str(archive))
        fill = "dd if=/dev/zero of=/fill bs=64k 2>/dev/null; exit 7"
        assert full("run", "--name", "box", "busy:1", "sh", "-c", fill).returncode == 7
        assert full.ok("ps", "-a", "--format", "{{.Status}}").startswith("Exited (7)")
        full.ok("rm", "box")
    finally:
        run("umount", "-l", small)
