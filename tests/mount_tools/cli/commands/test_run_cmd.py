"""`pyunion run`: real containers of a busybox root."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from layerstore import Store
from layerstore.oci.documents import ImageConfig, Object
from layerstore.oci.reference import Reference
from layerstore.operations.rootfs import import_image
from mount_tools.container.signals import TAKEN
from tests.helpers.containers import Containers
from tests.helpers.mounts import (
    DEADLINE,
    helper_environment,
    mount_type,
    wait_until,
)
from tests.helpers.signal_masks import signal_masks
from tests.helpers.terminals import terminal


def test_the_command_sees_the_image_and_nothing_else(containers: Containers) -> None:
    script = "cat /file; echo; echo $$ $A $HOME; id; ls /; ls /proc/self/fd | cat; cat /sys/x"
    done = containers("run", "--rm", "-h", "boxy", "busy:1", "sh", "-c", script)
    lines = done.stdout.splitlines()
    assert lines[:2] == ["of the image", "2 b /root"]
    assert lines[2].startswith("uid=0(root) gid=0(root)")
    assert {"proc", "sys", "dev", "bin", "file"} <= set(lines)
    assert containers.ok("ps", "-aq") == ""


@pytest.mark.parametrize(
    ("command", "status", "says"),
    [
        (["sh", "-c", "exit 7"], 7, ""),
        (["sh", "-c", "kill -9 $$"], 137, ""),
        (["nosuch"], 127, 'exec: "nosuch": executable file not found in $PATH'),
        (["/nosuch"], 127, 'exec: "/nosuch"'),
        (["/etc"], 126, "Permission denied"),
    ],
)
def test_run_exits_with_the_status_of_its_command(
    containers: Containers, command: list[str], status: int, says: str
) -> None:
    done = containers("run", "--rm", "busy:1", *command)
    assert done.returncode == status and says in done.stderr, done


def test_what_is_wrong_before_it_starts_is_125(containers: Containers) -> None:
    assert containers("run", "nosuch:1", "sh").returncode == 125
    assert containers("run", "--rm", "-u", "alice", "busy:1", "sh").returncode == 125
    assert containers("run", "--rm", "-v", "/nosuch:/x", "busy:1", "sh").returncode == 125


def test_user_directory_and_volumes(containers: Containers, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "in").write_text("hello")
    script = "id; echo $PWD $HOME; cat /data/in; echo no > /data/out"
    flags = ("--rm", "-u", "bob", "-w", "/work", "-v", f"{shared}:/data:ro")
    done = containers("run", *flags, "busy:1", "sh", "-c", script)
    assert "uid=1000(bob) gid=1001(bob) groups=10(wheel)" in done.stdout
    assert "/work /home/bob" in done.stdout and "hello" in done.stdout
    assert done.returncode == 1 and os.listdir(shared) == ["in"]
    containers.ok("run", "--rm", "-v", f"{shared}:/a/b", "busy:1", "sh", "-c", "echo 1 > /a/b/out")
    assert (shared / "out").read_text() == "1\n"


def test_a_container_cannot_reach_the_host(containers: Containers) -> None:
    script = (
        "mount -t tmpfs none /tmp; mknod /tmp/sda b 8 0 && cat /tmp/sda; "
        "echo x > /proc/sys/kernel/hostname; cat /etc/hosts; cat /nosuch"
    )
    done = containers("run", "--rm", "busy:1", "sh", "-c", script)
    assert done.returncode != 0 and done.stderr.count("\n") >= 4, done
    # A link to where nothing is leads to there in the container.
    assert "localhost" in done.stdout and not os.path.exists("/outside")


@pytest.fixture
def bare(containers: Containers, rootfs: Path, tmp_path: Path) -> Containers:
    """bare:1 has a shell and no directory but for that: none to mount anything on."""
    root = tmp_path / "bare"
    shutil.copytree(rootfs / "bin", root / "bin", symlinks=True)
    with Store.open(containers.store, sync=False) as store:
        import_image(store, root, "bare:1", config={"Cmd": ["sh"]})
    return containers


@pytest.mark.parametrize("image", ["bare:1", "busy:1"])
def test_what_the_image_lacks_is_no_change_of_the_container(
    bare: Containers, image: str, tmp_path: Path
) -> None:
    flags = ("-v", f"{tmp_path}:/data/volume:ro")
    script = "for f in hosts hostname; do test -s /etc/$f || echo lacks $f; done; ls /"
    found = bare.ok("run", "--name", "one", *flags, image, "sh", "-c", script).split()
    assert {"proc", "sys", "dev", "data", "etc"} <= set(found) and "lacks" not in found
    running = bare.start("run", "--name", "two", *flags, image, "sh", "-c", "echo up; sleep 1000")
    assert running.stdout is not None
    assert running.stdout.readline() == "up\n"
    for name in ("one", "two"):
        assert bare.ok("diff", name) == ""
        bare.ok("commit", name, f"{name}:1")
    os.kill(bare.keeper("two"), signal.SIGKILL)
    running.communicate(timeout=DEADLINE)
    wait_until(lambda: not bare.mine(), "the container to end")
    assert bare.ok("diff", "two") == ""
    bare.ok("commit", "two", "three:1")
    bare.ok("start", "-a", "one")
    assert bare.ok("diff", "one") == ""
    with Store.open(bare.store, sync=False) as store:
        tops = {store.images.resolve(f"{name}:1").top for name in ("one", "two", "three")}
        assert tops == {store.images.resolve(image).top}
    assert bare("check").returncode == 0


def test_changes_beside_a_mount_point_are_what_is_committed(bare: Containers) -> None:
    script = "echo a > /etc/made; mv /etc /moved; mkdir /etc; echo b > /etc/more; ls /moved"
    shown = bare.ok("run", "--name", "box", "bare:1", "sh", "-c", script).split()
    assert {"made", "hosts"} <= set(shown)
    wanted = ["A /etc", "A /etc/more", "A /moved", "A /moved/made"]
    assert bare.ok("diff", "box").splitlines() == wanted
    bare.ok("commit", "box", "moved:1")
    assert bare.ok("diff", "bare:1", "moved:1").splitlines() == wanted
    assert bare.ok("run", "--rm", "moved:1", "cat", "/moved/made", "/etc/more") == "a\nb"
    bare.ok("start", "-a", "box")


def test_the_hosts_files_and_devices_are_not_the_containers(containers: Containers) -> None:
    before = Path("/etc/resolv.conf").read_bytes() if os.path.exists("/etc/resolv.conf") else b""
    # No cgroup forbids to open a device that could be made in /dev, which has to have some.
    script = "echo '# no' >> /etc/resolv.conf; mknod /dev/made c 1 3 || echo refused"
    assert containers.ok("run", "--rm", "busy:1", "sh", "-c", script) == "refused"
    if before:
        assert Path("/etc/resolv.conf").read_bytes() == before


def test_a_volume_keeps_the_flags_of_its_mount(containers: Containers, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "nosuid,nodev,noexec", "none", str(shared)]
    subprocess.run(mount, check=True)
    try:
        flags = ("--rm", "-v", f"{shared}:/data:ro")
        mounts = containers.ok("run", *flags, "busy:1", "cat", "/proc/mounts")
    finally:
        subprocess.run(["umount", str(shared)], check=True)
    (line,) = (line.split() for line in mounts.splitlines() if line.split()[1] == "/data")
    assert {"ro", "nosuid", "nodev", "noexec"} <= set(line[3].split(","))


def test_no_descriptor_of_the_host_leads_out(containers: Containers) -> None:
    containers.ok("run", "-d", "--name", "box", "busy:1", "sleep", "600")
    host = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    try:
        for words in (("run", "--rm"), ("exec",)):
            name = "box" if words[0] == "exec" else "busy:1"
            flag = ("-w", f"/proc/self/fd/{host}")
            done = subprocess.run(
                containers.command(*words, *flag, name, "ls"),
                capture_output=True,
                text=True,
                env=helper_environment(),
                stdin=subprocess.DEVNULL,
                pass_fds=(host,),
                timeout=DEADLINE,
                check=False,
            )
            assert (done.returncode, done.stdout) == (125, ""), done
    finally:
        os.close(host)
    containers.ok("rm", "-f", "box")


@pytest.mark.parametrize(
    ("config", "match"),
    [
        ({"Cmd": ["a\0b"]}, "NUL byte"),
        ({"Cmd": ["sh"], "Env": ["A=\0"]}, "NUL byte"),
        ({"Cmd": ["sh"], "WorkingDir": "/\0"}, "NUL byte"),
        ({"Cmd": ["sh"], "User": "9" * 5000}, "in range"),
    ],
)
def test_what_an_odd_image_wants_is_refused_in_a_sentence(
    containers: Containers, config: Object, match: str
) -> None:
    with Store.open(containers.store, sync=False) as store:
        image = store.images.resolve("busy:1")
        old = store.images.config(image)
        odd = ImageConfig.of({**old.fields, "config": {"Env": ["=x", "A"], **config}})
        store.images.tag(store.images.add(odd.data), Reference("docker.io/library/odd", "1"))
    done = containers("run", "--rm", "odd:1")
    assert done.returncode == 125 and match in done.stderr and "a bug" not in done.stderr, done


def test_a_hostname_that_cannot_be(containers: Containers) -> None:
    """That of an image is the container's it was committed from, and is not taken over."""
    done = containers("run", "--rm", "--hostname", "a\nb", "busy:1", "true")
    assert done.returncode == 125 and "invalid hostname" in done.stderr, done


def test_our_own_interpreter_is_out_of_reach(containers: Containers) -> None:
    assert containers("run", "--rm", "busy:1", "/proc/self/exe", "-c", "1").returncode == 126
    script = "echo '#!/proc/self/exe' > /x; chmod +x /x; ls -l /proc/1/exe"
    done = containers("run", "--name", "evil", "busy:1", "sh", "-c", script)
    assert "cannot read link: Permission denied" in done.stderr
    containers.ok("commit", "evil", "evil:1")
    done = containers("run", "--rm", "evil:1", "/x", "-c", "1")
    assert done.returncode == 126, done


def test_signals_reach_the_command(containers: Containers) -> None:
    script = "trap 'echo got it; exit 9' TERM; echo ready; while :; do sleep 0.05; done"
    running = containers.start("run", "--rm", "busy:1", "sh", "-c", script)
    assert running.stdout is not None
    assert running.stdout.readline() == "ready\n"
    running.send_signal(signal.SIGTERM)
    out, _ = running.communicate(timeout=DEADLINE)
    assert (out, running.returncode) == ("got it\n", 9)


def test_a_process_that_passes_signals_on_never_handles_them(containers: Containers) -> None:
    """What is taken, and not caught, cannot come between two steps of the interpreter."""
    running = containers.start("run", "--rm", "busy:1", "sh", "-c", "cat /proc/1/status; sleep 60")
    assert running.stdout is not None
    assert next(running.stdout).startswith("Name:")
    runner = Path(f"/proc/{running.pid}/status").read_text().splitlines()
    for lines in (running.stdout, runner):
        caught = int(next(line for line in lines if line.startswith("SigCgt:")).split()[1], 16)
        # SIGINT's is Python's own, and blocked but while it is waited for.
        assert not any(caught & 1 << number - 1 for number in TAKEN - {signal.SIGINT})
    running.send_signal(signal.SIGTERM)
    running.communicate(timeout=DEADLINE)
    assert running.returncode == 128 + signal.SIGTERM


def test_the_command_begins_with_nothing_ignored_or_blocked(containers: Containers) -> None:
    containers.ok("run", "-d", "--name", "bg", "busy:1", "sleep", "1000")
    for words in (("run", "--rm", "busy:1"), ("exec", "bg")):
        found = signal_masks(containers.ok(*words, "cat", "/proc/self/status").splitlines())
        assert (found["SigBlk"], found["SigIgn"]) == (0, 0), words
    running = containers.start("exec", "bg", "sh", "-c", "echo ready; sleep 1000")
    assert running.stdout is not None
    assert running.stdout.readline() == "ready\n"
    running.send_signal(signal.SIGUSR1)
    running.communicate(timeout=DEADLINE)
    assert running.returncode == 128 + signal.SIGUSR1
    containers.ok("rm", "-f", "bg")


def test_orphans_are_reaped(containers: Containers) -> None:
    script = "(sleep 0.01 &) ; sleep 0.3; ps | cat"
    out = containers.ok("run", "--rm", "busy:1", "sh", "-c", script)
    assert "sleep" not in out.replace(script, "")


def test_nothing_is_left_of_one_whose_keeper_is_killed(containers: Containers) -> None:
    running = containers.start(
        "run", "--name", "killed", "busy:1", "sh", "-c", "echo data > /new; echo ready; sleep 1000"
    )
    assert running.stdout is not None
    assert running.stdout.readline() == "ready\n"
    os.kill(containers.keeper("killed"), signal.SIGKILL)
    running.communicate(timeout=DEADLINE)
    assert running.returncode == 137
    wait_until(lambda: not containers.mine(), "the container to end")
    assert "Exited (137) " in containers.ok("ps", "-a")
    state = json.loads(containers.ok("inspect", "killed"))[0]["State"]
    assert (state["Status"], state["ExitCode"]) == ("exited", 137)
    assert state["FinishedAt"] > state["StartedAt"] > "2001"
    containers.ok("commit", "killed", "busy:3")
    assert containers.ok("run", "--rm", "busy:3", "cat", "/new") == "data"


def test_an_image_mounts_by_its_name(containers: Containers, tmp_path: Path) -> None:
    point = tmp_path / "point"
    point.mkdir()
    env = {**helper_environment(), "PYUNION_ROOT": str(containers.store)}
    helper = [sys.executable, "-m", "mount_tools.helper.main"]

    def mounted(*words: str) -> None:
        subprocess.run([*helper, *words], env=env, check=True, timeout=DEADLINE)

    mounted("busy:1", str(point), "-o", "rw")
    assert mount_type(point) == "fuse.pyunion"
    assert (point / "file").read_text() == "of the image"
    (point / "new").write_text("1")
    subprocess.run(["umount", point], check=True)
    wait_until(lambda: containers.ok("ps", "-aq") == "", "the upper of the mount to go")
    for text in ("one", "two"):
        mounted("busy:1", str(point), "-o", "container=kept")
        before = (point / "new").read_text() if (point / "new").exists() else ""
        (point / "new").write_text(before + text)
        subprocess.run(["umount", point], check=True)
    wait_until(lambda: "Created" in containers.ok("ps", "-a"), "the daemon to end")
    mounted("busy:1", str(point), "-o", "ro,container=kept")
    assert (point / "new").read_text() == "onetwo"
    with pytest.raises(OSError, match="Read-only"):
        (point / "new").write_text("3")
    subprocess.run(["umount", point], check=True)
    failed = subprocess.run(
        [*helper, "nosuch:9", str(point)], env=env, capture_output=True, text=True, timeout=DEADLINE
    )
    assert failed.returncode == 32 and "nosuch:9" in failed.stderr


def test_stdin_is_the_commands_only_where_that_is_asked_for(containers: Containers) -> None:
    """A loop over lines that runs a container for each keeps its lines."""
    for words, seen in ((("run", "--rm"), ""), (("run", "--rm", "-i"), "lines\n")):
        done = subprocess.run(
            containers.command(*words, "busy:1", "cat"),
            input="lines\n",
            capture_output=True,
            text=True,
            env=helper_environment(),
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, seen, "")


def test_a_terminal_that_is_none(containers: Containers) -> None:
    done = containers("run", "--rm", "-it", "busy:1", "true")
    assert (done.returncode, done.stderr) == (1, "the input device is not a TTY\n")


def test_a_terminal_of_its_own(containers: Containers) -> None:
    """Typed at, resized, interrupted, ended: as at a terminal without a container."""
    containers.ok("run", "-d", "--name", "box", "busy:1", "sleep", "1000")
    script = (
        "trap 'echo caught' INT; tty; stty size; echo $TERM; read line; echo got $line;"
        "stty size; kill -INT $$; echo; read line; exit 7"
    )
    for words in (("run", "--rm", "-it", "-u", "bob", "busy:1"), ("exec", "-it", "box")):
        with terminal(33, 77) as ours:
            before = ours.settings()
            with containers.on(ours, *words, "sh", "-c", script) as process:
                assert ours.await_text(b"xterm\r\n") == b"/dev/pts/0\r\n33 77\r\nxterm\r\n"
                ours.resize(40, 100)
                process.send_signal(signal.SIGWINCH)
                # What is typed comes after a signal that was there before.
                wait_until(lambda: not is_pending(process.pid, signal.SIGWINCH), "the signal")
                ours.type(b"hello\r")
                ours.await_text(b"got hello\r\n40 100\r\ncaught\r\n")
                ours.type(b"\x03")
                ours.await_text(b"^Ccaught\r\n")
                ours.type(b"\r")
                assert process.wait(DEADLINE) == 7
            assert ours.settings() == before
    containers.ok("rm", "-f", "box")


def is_pending(pid: int, number: int) -> bool:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (pending,) = (int(line.split()[1], 16) for line in lines if line.startswith("ShdPnd"))
    return bool(pending & 1 << number - 1)


def test_our_terminal_is_as_before_however_it_ends(containers: Containers) -> None:
    with terminal() as ours:
        before = ours.settings()
        flags = ("run", "--rm", "-it", "busy:1")
        with containers.on(ours, *flags, "nosuch") as process:
            assert process.wait(DEADLINE) == 127
        assert ours.settings() == before
        with containers.on(ours, *flags, "sh", "-c", "echo up; sleep 1000") as process:
            ours.await_text(b"up\r\n")
            process.send_signal(signal.SIGTERM)
            assert process.wait(DEADLINE) == 128 + signal.SIGTERM
        assert ours.settings() == before


def test_a_terminal_without_ours(containers: Containers) -> None:
    """With -t alone there is nothing to type at, and with -d nobody to read."""
    done = containers("run", "--rm", "-t", "busy:1", "sh", "-c", "tty; ls -n /dev/console")
    assert done.returncode == 0 and done.stdout.startswith("/dev/pts/0\ncrw--w----"), done
    assert containers("run", "--rm", "busy:1", "tty").stdout == "not a tty\n"
    script = "tty > /name; busybox yes | busybox head -c 300000; exit 4"
    containers.ok("run", "-dt", "--name", "box", "busy:1", "sh", "-c", script)
    wait_until(lambda: "Exited (4)" in containers.ok("ps", "-a"), "all of it to be read")
    containers.ok("commit", "box", "box:1")
    assert containers.ok("run", "--rm", "box:1", "cat", "/name") == "/dev/pts/0"


def test_an_image_that_is_not_there(containers: Containers) -> None:
    done = containers("run", "--pull", "never", "nope", "true")
    assert (done.returncode, done.stderr) == (125, "Error: No such image: nope:latest\n")


def test_the_id_goes_to_a_file_once(containers: Containers, tmp_path: Path) -> None:
    words = ("run", "--cidfile", f"{tmp_path}/id", "busy:1", "sh", "-c", "exit 0")
    assert containers(*words).returncode == 0
    identity = (tmp_path / "id").read_text()
    assert containers.ok("inspect", "-f", "{{.State.ExitCode}}", identity) == "0"
    assert "Container ID file found" in containers(*words).stderr
    containers.ok("rm", identity)


def test_a_mount_in_use_stays_unless_forced(containers: Containers, tmp_path: Path) -> None:
    containers.ok("create", "--name", "busy", "busy:1")
    point = tmp_path / "mnt"
    point.mkdir()
    containers.ok("mount", "busy", str(point))
    user = subprocess.Popen(["sleep", "1000"], cwd=point)
    try:
        done = containers("umount", "busy")
        assert (done.returncode, done.stdout) == (1, "")
        assert f"{point} is in use" in done.stderr
        assert mount_type(point) == "fuse.pyunion"
        assert containers.ok("rm", "-f", "busy") == "busy"
        assert mount_type(point) is None
        assert containers.ok("ps", "-aq") == ""
    finally:
        user.kill()
        user.wait()


def test_a_network_of_its_own_mounts_limits_and_hosts(containers: Containers) -> None:
    script = (
        "cat /proc/net/dev | grep -c :; ulimit -n; ulimit -Hn; grep -c '9.9.9.9' /etc/resolv.conf;"
        "grep friend /etc/hosts; grep ' /scratch ' /proc/mounts; echo x > /scratch/x"
    )
    containers.ok(
        *("run", "-d", "--name", "box", "--network", "none", "--ulimit", "nofile=100:200"),
        *("--dns", "9.9.9.9", "--add-host", "friend:1.2.3.4", "--tmpfs", "/scratch:size=1m"),
        *("busy:1", "sh", "-c", f"{script}; echo end; sleep 1000"),
    )
    wait_until(lambda: "end" in containers.ok("logs", "box"), "the script to end")
    lines = containers.ok("logs", "box").splitlines()
    assert lines[:4] == ["1", "100", "200", "1"]
    assert lines[4] == "1.2.3.4\tfriend"
    assert "size=1024k" in lines[5] and "nosuid" in lines[5]
    # exec is in the same network, and has the same rights.
    assert containers.ok("exec", "box", "sh", "-c", "grep -c : /proc/net/dev") == "1"
    containers.ok("rm", "-f", "box")


@pytest.mark.parametrize(
    ("flags", "bounding", "no_new"),
    [
        ((), "00000000a00425fb", "0"),
        (("--cap-drop", "ALL", "--security-opt", "no-new-privileges"), "0" * 16, "1"),
        (("--cap-drop", "ALL", "--cap-add", "MKNOD"), "0000000008000000", "0"),
    ],
)
def test_capabilities_are_those_asked_for_also_of_exec(
    containers: Containers, flags: tuple[str, ...], bounding: str, no_new: str
) -> None:
    script = "grep -E 'CapBnd|NoNewPrivs' /proc/self/status"
    containers.ok("run", "-d", "--name", "box", *flags, "busy:1", "sh", "-c", f"{script}; sleep 99")
    wait_until(lambda: "CapBnd" in containers.ok("logs", "box"), "the script to end")
    wanted = {"CapBnd:", bounding, "NoNewPrivs:", no_new}
    assert set(containers.ok("logs", "box").split()) == wanted
    assert set(containers.ok("exec", "box", "sh", "-c", script).split()) == wanted
    containers.ok("rm", "-f", "box")


def test_devices_work_for_whom_the_user_trusts(containers: Containers) -> None:
    script = "mknod /n c 1 3 && echo x > /n && echo works"
    assert containers("run", "--rm", "busy:1", "sh", "-c", script).returncode != 0
    for flags in (("--cap-add", "MKNOD"), ("--privileged",)):
        assert containers.ok("run", "--rm", *flags, "busy:1", "sh", "-c", script) == "works"


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("-p", "8080:80"), "port 80 of it is port 80 of the host"),
        (("-P",), "pyunion has no -P: "),
        (("--cpu-shares", "7"), "systemd-run"),
        (("--network", "bridge"), "network bridge not found"),
        (("--security-opt", "apparmor=x"), "invalid --security-opt"),
        (("--security-opt", "seccomp="), "invalid --security-opt"),
        (
            ("--security-opt", "seccomp=/nosuch"),
            "opening seccomp profile (/nosuch) failed: no such",
        ),
        (("--dns", "x"), "x is not an ip address"),
        (("--add-host", "x"), "bad format for add-host"),
        (("--stop-signal", "x"), "Invalid signal: x"),
        (("--ulimit", "x=1"), "invalid ulimit"),
    ],
)
def test_flags_that_cannot_be(containers: Containers, flags: tuple[str, ...], said: str) -> None:
    done = containers("run", *flags, "busy:1", "true")
    assert done.returncode == 125 and said in done.stderr, done
    assert containers.ok("ps", "-aq") == ""
