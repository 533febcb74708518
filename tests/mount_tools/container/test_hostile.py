"""A container that works against us, and processes that are killed: no way out, no hang, no lie.

PYUNION_EXAMPLES sets how many random kills of each kind there are.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest

from layerstore import Store
from layerstore.oci.json_values import Object
from layerstore.operations.rootfs import import_image
from mount_tools.container.rights import CAPABILITIES, DEFAULT
from tests.helpers.containers import Containers
from tests.helpers.effort import examples
from tests.helpers.mounts import DEADLINE, wait_until
from tests.helpers.small_disks import small_disk

KILLS = examples(1)

ODD_ACCOUNTS = {
    "fifo": "busybox mkfifo /p; mv /p /etc/passwd",
    "huge": "busybox dd if=/dev/zero of=/etc/passwd bs=1 count=1 seek=8G 2>/dev/null",
    "directory": "busybox rm /etc/passwd; mkdir /etc/passwd",
    "swapped": "busybox mkfifo /p; busybox cp /etc/passwd /q; (while :; do mv /p /etc/passwd; "
    "busybox mkfifo /p; busybox cp /q /r; mv /r /etc/passwd; done)& true",
}


@pytest.mark.parametrize("change", ODD_ACCOUNTS.values(), ids=ODD_ACCOUNTS)
def test_odd_files_of_accounts_hold_up_nobody(containers: Containers, change: str) -> None:
    script = f"{change}; echo ready; sleep 1000"
    running = containers.start("run", "--name", "box", "busy:1", "sh", "-c", script)
    assert running.stdout is not None
    assert running.stdout.readline() == "ready\n"
    for user in ("bob", "1000"):
        done = containers("exec", "-u", user, "box", "echo", "in")
        assert (done.returncode, done.stdout) in [(0, "in\n"), (125, "")], done
        assert "Traceback" not in done.stderr
        assert done.returncode == 0 or done.stderr.count("\n") == 1
    containers.ok("rm", "-f", "box")


def test_a_proc_that_is_covered_misleads_nobody(containers: Containers, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    script = (
        "mount -t tmpfs none /proc && mkdir -p /proc/self/fd /proc/1/ns && "
        f"busybox ln -s {tmp_path}/outside /proc/1/root && busybox ln -s / /proc/self/fd/3; "
        "echo ready; sleep 1000"
    )
    running = containers.start("run", "--privileged", "--name", "box", "busy:1", "sh", "-c", script)
    assert running.stdout is not None
    assert running.stdout.readline() == "ready\n"
    assert containers.ok("exec", "box", "cat", "/file") == "of the image"
    (tmp_path / "mine").write_text("mine")
    containers.ok("cp", str(tmp_path / "mine"), "box:/new")
    assert containers.ok("exec", "box", "cat", "/new") == "mine"
    assert containers.ok("restore", "box", "/new") == "/new"
    assert containers("cp", str(tmp_path / "mine"), "box:/proc/1/root/in").returncode == 1
    assert list((tmp_path / "outside").iterdir()) == []
    containers.ok("rm", "-f", "box")


def test_names_that_are_swapped_meanwhile_lead_nowhere(
    containers: Containers, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("secret")
    (tmp_path / "mine").write_text("mine")
    script = (
        f"mkdir /a; echo inside > /a/file; busybox ln -s {outside} /l; echo ready; "
        "while :; do mv /a /b; mv /l /a; mv /a /l; mv /b /a; done"
    )
    running = containers.start("run", "--name", "box", "busy:1", "sh", "-c", script)
    assert running.stdout is not None
    assert running.stdout.readline() == "ready\n"
    for turn in range(2):
        for words in (
            ("cp", str(tmp_path / "mine"), "box:/a/new"),
            ("cp", "box:/a/file", "-"),
            ("exec", "-w", "/a", "box", "cat", "file"),
            ("diff", "box"),
            ("restore", "--dry-run", "box", "/a/file"),
            ("commit", "box", f"made:{turn}"),
        ):
            done = containers(*words)
            assert "secret" not in done.stdout, words
            assert "Traceback" not in done.stderr, words
    assert sorted(path.name for path in outside.iterdir()) == ["file"]
    assert (outside / "file").read_text() == "secret"
    containers.ok("rm", "-f", "box")
    containers.ok("check")


@pytest.mark.parametrize("init", ["true", "false"])
def test_no_command_has_the_null_device_of_the_machine(containers: Containers, init: str) -> None:
    """Root of a container could change its mode and its owner, by a mask or a stream."""
    look = "busybox stat -L -c %t:%d:%i /proc/self/fd/0 /proc/keys"
    words = ("run", "-d", f"--init={init}", "--name", "box", "busy:1")
    containers.ok(*words, "sh", "-c", f"{look}; sleep 1000")
    found = containers.ok("exec", "box", "sh", "-c", look)
    wait_until(lambda: containers.ok("logs", "box").count("\n") == 1, "it has looked")
    ours = os.stat("/dev/null")
    for lines in (found.split(), containers.ok("logs", "box").split()):
        assert [line.split(":")[0] for line in lines] == ["1", "1"], "none is a null device"
        assert f"1:{ours.st_dev}:{ours.st_ino}" not in lines
    containers.ok("rm", "-f", "box")


def test_no_process_in_a_container_has_more_rights_than_it(containers: Containers) -> None:
    """With CAP_SYS_PTRACE a process of the container can use the rights of all that it sees."""
    look = "while :; do for p in /proc/[0-9]*; do busybox grep CapPrm $p/status; done; done"
    words = ("run", "-d", "--cap-add", "SYS_PTRACE", "--cap-drop", "KILL", "--name", "box")
    containers.ok(*words, "busy:1", "sh", "-c", look)
    for user in ("root", "bob", "root"):
        assert containers.ok("exec", "-u", user, "box", "id", "-u") in ("0", "1000")
    wait_until(lambda: containers.ok("logs", "box") != "", "it has looked")
    seen = {int(line.split()[1], 16) for line in containers.ok("logs", "box").splitlines()}
    containers.ok("rm", "-f", "box")
    allowed = (DEFAULT | {CAPABILITIES["SYS_PTRACE"]}) - {CAPABILITIES["KILL"]}
    ours = {sum(1 << number for number in allowed), 0}
    # Init passes signals on, whatever user the command is.
    assert seen <= ours | {sum(1 << number for number in allowed | {CAPABILITIES["KILL"]})}


def test_no_container_can_change_our_interpreter(containers: Containers) -> None:
    """With CAP_SYS_PTRACE it can open the program of init, a file of this machine."""

    def is_read_only(process: int) -> bool:
        return bool(os.statvfs(f"/proc/{process}/exe").f_flag & os.ST_RDONLY)

    words = ("run", "-d", "--cap-add", "SYS_PTRACE", "--name", "box", "busy:1")
    containers.ok(*words, "sleep", "1000")
    init = int(containers.ok("inspect", "-f", "{{.State.Pid}}", "box"))
    assert is_read_only(init) and is_read_only(containers.keeper("box"))
    running = containers.start("exec", "box", "sh", "-c", "echo in; sleep 1000")
    assert running.stdout is not None and running.stdout.readline() == "in\n"
    assert is_read_only(running.pid), "its keeper and the command are forks of it"
    containers.ok("stop", "-t", "0", "box")
    containers.ok("start", "box")
    assert is_read_only(containers.keeper("box"))
    containers.ok("restart", "-t", "0", "box")
    assert is_read_only(containers.keeper("box"))
    containers.ok("rm", "-f", "box")


def test_no_container_can_change_our_libraries(containers: Containers) -> None:
    """With CAP_CHECKPOINT_RESTORE too it can open what init and the keeper have mapped."""
    words = ("--cap-add", "SYS_PTRACE", "--cap-add", "CHECKPOINT_RESTORE", "--name", "box")
    containers.ok("run", "-d", *words, "busy:1", "sleep", "1000")
    init = int(containers.ok("inspect", "-f", "{{.State.Pid}}", "box"))
    mapped = [os.statvfs(path) for path in Path(f"/proc/{init}/map_files").iterdir()]
    assert mapped and all(found.f_flag & os.ST_RDONLY for found in mapped)
    running = containers.start("exec", "box", "sh", "-c", "echo in; sleep 1000")
    assert running.stdout is not None and running.stdout.readline() == "in\n"
    paths = Path(f"/proc/{running.pid}/map_files").iterdir()
    writable = {os.readlink(path) for path in paths if not os.statvfs(path).f_flag & os.ST_RDONLY}
    assert not [path for path in writable if not path.endswith("-shm")], "the store's own"
    containers.ok("rm", "-f", "box")


def test_no_other_user_sees_the_options_of_what_runs_on(containers: Containers) -> None:
    """The command lines of all processes are for everybody."""
    containers.ok("run", "-d", "--name", "box", "-e", "SECRET=hunter2", "busy:1", "sleep", "1000")
    containers.ok("exec", "-d", "-e", "SECRET=hunter2", "box", "sleep", "1000")
    lines = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in containers.mine()]
    shown = [line for line in lines if line.startswith(b"pyunion-keeper ")]
    assert len(shown) == 2, "that of the container, and that of exec"
    assert not [line for line in lines if b"hunter2" in line]
    containers.ok("rm", "-f", "box")


def test_a_stage_of_a_build_is_not_entered(containers: Containers, tmp_path: Path) -> None:
    """Its process has the root of this machine."""
    (tmp_path / "outside").write_text("secret")
    (tmp_path / "Containerfile").write_text("FROM busy:1\nRUN echo begun; sleep 1000\n")
    build = containers.start("build", "--progress", "plain", str(tmp_path))
    assert build.stdout is not None
    assert "begun\n" in build.stdout, "the command of the step runs"
    [stage] = containers.ok("ps", "--format", "{{.Names}}").split()
    for words in (
        ("exec", stage, "cat", str(tmp_path / "outside")),
        ("cp", f"{stage}:{tmp_path}/outside", "-"),
        ("cp", str(tmp_path / "Containerfile"), f"{stage}:{tmp_path}/in"),
    ):
        done = containers(*words)
        assert done.returncode != 0 and "cannot be entered" in done.stderr, done
        assert "secret" not in done.stdout
    assert not (tmp_path / "in").exists()
    build.terminate()
    build.communicate()


def test_a_command_whose_dev_is_covered_reads_nothing(containers: Containers) -> None:
    script = "ls /dev; cat; echo end"
    assert containers.ok("run", "--rm", "-v", "/dev", "busy:1", "sh", "-c", script) == "end"


FORMS = ("{}", "../../../../../..{}", "/proc/self/root{}", "loop")
LINKED = ("proc", "sys", "dev", "etc", "vol", "tmp", "work", "made")


@pytest.mark.parametrize("up", FORMS)
def test_links_at_every_mount_target_lead_nowhere(
    containers: Containers, rootfs: Path, tmp_path: Path, up: str
) -> None:
    """Whether the container runs or is refused, nothing outside of it is made or changed."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    root = tmp_path / "evil"
    shutil.copytree(rootfs, root, symlinks=True)
    shutil.rmtree(root / "etc")
    (root / "tmp").rmdir()
    for name in LINKED:
        (root / name).symlink_to(name if up == "loop" else up.format(outside))
    with Store.open(containers.store, sync=False) as store:
        config: Object = {"Cmd": ["sh"], "Volumes": {"/tmp/declared": {}}}
        import_image(store, root, "evil:1", config=config)
    script = "echo x > /proc/new; echo x > /vol/new; cat /secret /proc/secret /vol/secret"
    every = [
        ("-v", "named:/vol/deep"),
        ("-v", f"{rootfs}:/vol/deep:ro"),
        ("--tmpfs", "/vol/deep"),
        ("--device", "/dev/null:/made/null"),
        ("-w", "/work/deep"),
        ("--privileged",),
        ("--read-only",),
        ("-u", "bob"),
    ]
    # Each of them with one form of a link, or with every one if there is time.
    for flags in every if KILLS > 1 else every[FORMS.index(up) :: len(FORMS)]:
        done = containers("run", "--rm", *flags, "evil:1", "sh", "-c", script)
        assert "secret\n" not in done.stdout, flags
        assert "Traceback" not in done.stderr and "a bug in" not in done.stderr, done
        assert done.returncode != 125 or done.stderr.count("\n") == 1, done
    assert [path.name for path in outside.iterdir()] == ["secret"]
    assert (outside / "secret").read_text() == "secret"
    assert containers.ok("ps", "-aq") == ""
    containers.ok("check")


def test_a_volume_is_read_by_no_link_in_it(containers: Containers, tmp_path: Path) -> None:
    """What a container leaves in a volume misleads neither the next one nor a command."""
    (tmp_path / "secret").write_text("secret")
    script = (
        f"busybox ln -s {tmp_path}/secret /d/link; busybox ln -s / /d/root; "
        f"busybox ln -s {tmp_path} /d/up; busybox mkfifo /d/fifo"
    )
    containers.ok("run", "--rm", "-v", "data:/d", "busy:1", "sh", "-c", script)
    for target in ("/d/link", "/d/root/in", "/d/up/in", "/d/fifo/in"):
        words = (
            "run",
            "--rm",
            "-v",
            "data:/d",
            "-v",
            f"other:{target}",
            "busy:1",
            "cat",
            "/d/link",
        )
        done = containers(*words)
        assert "secret" not in done.stdout and "Traceback" not in done.stderr, done
    containers.ok("create", "--name", "box", "-v", "data:/d", "busy:1", "sh")
    done = containers("cp", "-L", "box:/d/link", "-")
    assert done.returncode == 1 and "secret" not in done.stdout
    containers("cp", str(tmp_path / "secret"), "box:/d/up/in")
    assert [path.name for path in tmp_path.iterdir() if path.name == "in"] == []
    containers.ok("rm", "-v", "box")
    assert containers.ok("volume", "prune", "-f").splitlines()[0] == "Deleted Volumes:"
    assert (tmp_path / "secret").read_text() == "secret"
    containers.ok("check")


def test_a_pause_that_is_killed_is_told_as_it_is(containers: Containers) -> None:
    script = "while :; do busybox true; done"
    containers.ok("run", "-d", "--name", "box", "busy:1", "sh", "-c", script)
    for turn in range(KILLS + 1):
        pausing = containers.start("pause", "box")
        time.sleep(random.Random(f"pause {turn}").random() * 0.6)
        pausing.kill()
        pausing.wait()
        state = containers.ok("ps", "--format", "{{.State}}")
        assert state in ("running", "paused")
        done = containers("unpause" if state == "paused" else "pause", "box")
        assert done.returncode == 0, done
        if state == "running":
            assert containers.ok("ps", "--format", "{{.State}}") == "paused"
            containers.ok("unpause", "box")
        assert containers.ok("exec", "box", "echo", "in") == "in"
    containers.ok("rm", "-f", "box")
    containers.ok("check")


def test_a_full_disk_loses_lines_and_says_so_once_there_is_room(
    containers: Containers, rootfs: Path, tmp_path: Path
) -> None:
    with small_disk(tmp_path, "tmpfs", 24 << 20) as disk:
        with Store.open(disk / "store", sync=False) as store:
            import_image(store, rootfs, "busy:1", config={"Cmd": ["sh"]})
        there = containers.beside(disk / "store")
        script = (
            "echo before; busybox dd if=/dev/zero of=/fill bs=64k 2>/dev/null; "
            "busybox seq 1 100000; busybox rm /fill; : > /done; sleep 1000"
        )
        try:
            there.ok("run", "-d", "--name", "box", "busy:1", "sh", "-c", script)
            # Not by a command: it would free the store's reserve while the disk is full.
            done = "store/containers/*/upper/done"
            wait_until(lambda: any(disk.glob(done)), "the script")
            lost = "bytes of output are missing here: "
            wait_until(lambda: lost in there("logs", "box").stderr, "the word of what was lost")
            assert there("logs", "box").stdout.startswith("before\n")
            assert there.ok("inspect", "-f", "{{.State.Status}}", "box") == "running"
        finally:
            there("rm", "-f", "box")
            there.end()


def truth(containers: Containers) -> None:
    """Check that what the commands say of the container `box` is so."""
    for line in containers.ok("ps", "-a", "--format", "{{.Names}} {{.State}}").splitlines():
        name, said = line.split()
        state = json.loads(containers.ok("inspect", name))[0]["State"]
        if state["Status"] != said:
            continue  # it ended between the two
        assert (state["Pid"] > 0) == (said == "running")
        if said == "exited":
            # 125: its init was killed before the command ran.
            assert state["ExitCode"] in (0, 125, 137, 255)


@pytest.mark.parametrize("victim", ["viewer", "keeper", "init", "command"])
def test_kills_at_random_moments(containers: Containers, victim: str) -> None:
    mounts = ("-v", "data:/etc", "-v", "/unnamed")
    for turn in range(KILLS):
        running = containers.start("run", "--name", "box", *mounts, "busy:1", "sleep", "1000")
        late = random.Random(f"{victim} {turn}").random() * 0.8
        if victim == "viewer":
            time.sleep(late)
            running.kill()
        else:
            wait_until(lambda: containers("inspect", "box").returncode == 0, "the container")
            time.sleep(late / 4)
            victims = _victims(containers, victim)
            for pid in victims:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if not victims:  # there was nothing to kill yet
                running.kill()
        truth(containers)
        running.wait(timeout=DEADLINE)
        truth(containers)
        containers("rm", "-fv", "box")
        wait_until(lambda: not containers.mine(), "everything to end")
        containers.ok("check")
        assert containers.ok("ps", "-aq") == ""
        assert set(containers.ok("volume", "ls", "-q").split()) <= {"data"}
        assert str(containers.store) not in Path("/proc/self/mountinfo").read_text()


def _victims(containers: Containers, victim: str) -> list[int]:
    """Return the process of the container that is to be killed, if it has come so far."""
    state = json.loads(containers.ok("inspect", "box"))[0]["State"]
    init = state["Pid"]
    if not init:
        return []
    if victim == "command":
        return [int(pid) for pid in _read(f"/proc/{init}/task/{init}/children").split()]
    return [init if victim == "init" else containers.keeper("box")]


def _read(path: str) -> str:
    with suppress(OSError), open(path) as file:
        return file.read()
    return ""
