"""When SCHED_IDLE costs nothing, and that a thread gets it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.mounts import REPOSITORY, require_root
from unionfs.syscalls import scheduling
from unionfs.syscalls.scheduling import idle_is_free, run_delay_ns


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A session leader on a machine with autogroups; the texts of the files in /proc."""
    texts = {"sched_autogroup_enabled": "1\n", "cgroup": "0::/\n"}
    monkeypatch.setattr(scheduling, "read_text", lambda path: texts[os.path.basename(path)])
    monkeypatch.setattr(os, "getsid", lambda _: os.getpid())
    initial = os.stat("/proc/self/ns/cgroup").st_ino
    monkeypatch.setattr(scheduling, "INITIAL_CGROUP_NAMESPACE", initial)
    (tmp_path / "system.slice/a.mount").mkdir(parents=True)
    return texts


def test_a_session_in_no_cgroup(machine: dict[str, str], tmp_path: Path) -> None:
    assert idle_is_free(str(tmp_path))


@pytest.mark.parametrize(
    ("cgroup", "shares", "free"),
    [
        ("0::/system.slice/a.mount\n", "", True),
        ("0::/system.slice/a.mount\n", "system.slice", False),
        ("0::/system.slice/a.mount\n", "system.slice/a.mount", False),
        ("0::/gone\n", "", False),
        ("1:cpu,cpuacct:/\n0::/system.slice\n", "system.slice", True),
        ("1:cpu,cpuacct:/user\n0::/\n", "", False),
        ("2:cpuset:/user\n0::/\n", "", True),
    ],
)
def test_a_session_in_a_cgroup(
    machine: dict[str, str], tmp_path: Path, cgroup: str, shares: str, free: bool
) -> None:
    machine["cgroup"] = cgroup
    if shares:
        (tmp_path / shares / "cpu.weight").touch()
    assert idle_is_free(str(tmp_path)) is free


def test_a_machine_without_autogroups(machine: dict[str, str], tmp_path: Path) -> None:
    machine["sched_autogroup_enabled"] = "0\n"
    assert not idle_is_free(str(tmp_path))


def test_a_process_in_the_session_of_others(
    machine: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getsid", lambda _: os.getppid())
    assert not idle_is_free(str(tmp_path))


def test_a_cgroup_namespace_hides_the_shares(
    machine: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduling, "INITIAL_CGROUP_NAMESPACE", 0)
    assert not idle_is_free(str(tmp_path))


def test_this_machine_can_be_asked() -> None:
    """In a session of its own a process gets an answer, and no exception."""
    asked = (
        "from unionfs.syscalls.scheduling import idle_is_free, run_delay_ns; print(idle_is_free())"
    )
    done = subprocess.run(
        [sys.executable, "-c", asked],
        cwd=REPOSITORY,
        start_new_session=True,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout in ("True\n", "False\n")


def test_a_thread_waits_for_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    with open("/proc/thread-self/schedstat") as file:
        waited = int(file.read().split()[1])
    assert 0 <= run_delay_ns() - waited < 60_000_000_000
    monkeypatch.setattr(scheduling, "read_text", lambda _: "12 345 6\n")
    assert run_delay_ns() == 345
    monkeypatch.setattr(scheduling, "read_text", lambda _: "")
    assert run_delay_ns() == 0


@pytest.mark.parametrize(("uid", "possible"), [(0, True), (65534, False)])
def test_sched_idle_can_be_left_only_with_the_right(uid: int, possible: bool) -> None:
    """A thread that cannot stays idle."""
    require_root()
    code = f"""if True:
        import os, resource
        from unionfs.syscalls.scheduling import become_idle, become_normal, idle_can_be_left
        resource.setrlimit(resource.RLIMIT_NICE, (0, 0))
        os.setresuid({uid}, {uid}, {uid})
        possible = idle_can_be_left()
        print(possible, os.sched_getscheduler(0) == os.SCHED_OTHER)
        become_idle()
        try:
            become_normal()
        except PermissionError:
            print("refused")
        print(os.sched_getscheduler(0) == os.SCHED_OTHER)
    """
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    said = "True True\nTrue\n" if possible else "False False\nrefused\nFalse\n"
    assert done.stdout == said


def test_all_threads_and_those_that_they_start() -> None:
    code = """if True:
        import os, threading
        from unionfs.syscalls.scheduling import become_idle
        asked, go = threading.Event(), threading.Event()
        policies = []

        def inner():
            policies.append(os.sched_getscheduler(0))

        def outer():
            asked.set()
            go.wait()
            inner()
            later = threading.Thread(target=inner)
            later.start()
            later.join()

        thread = threading.Thread(target=outer)
        thread.start()
        asked.wait()
        become_idle()
        go.set()
        thread.join()
        inner()
        print(policies == [os.SCHED_IDLE] * 3)
    """
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert done.stdout == "True\n"
