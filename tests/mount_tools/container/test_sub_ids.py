"""Sub-ids: which an ordinary user has, why not, and what that means in a container."""

from __future__ import annotations

import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from mount_tools.container import sub_ids
from mount_tools.container.sub_ids import Range, missing_user, ranges, why_single
from tests.helpers.as_user import NOBODY
from tests.helpers.mounts import require_root, run
from tests.helpers.users import as_user, give, home_of_a_container_user

FIRST = 300_000


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """An /etc/subuid and an /etc/subgid of our own, empty."""
    made = {"uid": tmp_path / "subuid", "gid": tmp_path / "subgid"}
    for path in made.values():
        path.write_text("")
    monkeypatch.setattr(sub_ids, "FILES", {kind: str(path) for kind, path in made.items()})
    return made


def test_the_lines_of_a_user(files: dict[str, Path]) -> None:
    files["uid"].write_text("me:100:5\nother:200:5\n1000:300:7\nme:x:1\nme:1\nme:0:9\nme:9:0\n\n")
    assert ranges("uid", "me", 1000) == [Range(100, 5), Range(300, 7)]
    assert ranges("uid", "you", 7) == []
    files["uid"].unlink()
    assert ranges("uid", "me", 1000) == []


def test_why_there_are_none(files: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: NOBODY)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert why_single() == "newuidmap is not installed (package uidmap)"
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    said = why_single()
    assert said is not None and said.startswith(f"{files['uid']} has no line for n")
    files["uid"].write_text(f"{NOBODY}:1000:5\n")
    assert f"{files['gid']} has no line" in (why_single() or "")
    files["gid"].write_text(f"{NOBODY}:1000:5\n")
    assert why_single() is None


def test_what_is_said_of_a_user_that_is_missing(
    files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "among the sub-ids of this container" in missing_user(7, 8)
    monkeypatch.setattr("os.geteuid", lambda: NOBODY)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    sub_ids.remember()
    try:
        assert missing_user(7, 8) == (
            "there is no user 7:8 in this container, which has one user: newuidmap is not "
            "installed (package uidmap)"
        )
    finally:
        monkeypatch.undo()
        sub_ids.forget()


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """The home of an ordinary user who has sub-ids, with the image one:1."""
    require_root()
    if shutil.which("newuidmap") is None or not Path("/etc/subgid").exists():
        pytest.skip("newuidmap is not installed")
    lines = tmp_path / "lines"
    lines.write_text(f"{NOBODY}:{FIRST}:65536\n")
    for kind in ("uid", "gid"):
        run("mount", "--bind", lines, f"/etc/sub{kind}")
    try:
        with home_of_a_container_user(["sh"]) as home:
            give(home)
            assert as_user(home, f"pyunion import {home}/root one:1").returncode == 0
            yield home
    finally:
        for kind in ("uid", "gid"):
            run("umount", f"/etc/sub{kind}")


def test_other_users_run_own_files_and_leave_nothing(home: Path) -> None:
    script = (
        "busybox id -u; echo x > /tmp/of1000; busybox chmod 600 /tmp/of1000; "
        "busybox stat -c '%u %g' /tmp/of1000"
    )
    prepare = "busybox mkdir /tmp; busybox chmod 1777 /tmp; busybox chown 5:6 /etc; busybox id -u"
    run_it = ["pyunion", "run", "--name", "box", "one:1", "sh", "-c"]
    done = as_user(
        home,
        [*run_it[:2], "-d", *run_it[2:], "busybox mkdir /tmp /etc; busybox sleep 1000"],
        ["pyunion", "exec", "box", "sh", "-c", prepare],
        ["pyunion", "exec", "-u", "1000:1001", "box", "sh", "-c", script],
        ["pyunion", "diff", "box"],
        ["pyunion", "commit", "box", "two:1"],
        ["pyunion", "rm", "-f", "box"],
        [
            "pyunion",
            "run",
            "--rm",
            "two:1",
            "busybox",
            "stat",
            "-c",
            "%u %g",
            "/tmp/of1000",
            "/etc",
        ],
        ["pyunion", "check"],
        ["pyunion", "info"],
    )
    assert done.returncode == 0, done
    assert "root and 65536 others" in done.stdout
    lines = done.stdout.splitlines()
    assert lines[1:4] == ["0", "1000", "1000 1001"]
    assert "1000 1001\n5 6\n" in done.stdout
    owners = {
        (path.lstat().st_uid, path.lstat().st_gid)
        for path in (home / "data/pyunion/layers").rglob("of1000")
    }
    assert owners == {(FIRST + 999, FIRST + 1000)}
    assert as_user(home, "pyunion rmi two:1", "pyunion prune -af", "pyunion check").returncode == 0
    left = [
        path
        for path in (home / "data/pyunion/layers").iterdir()
        if stat.S_ISDIR(path.stat().st_mode)
    ]
    assert left == []


def test_an_id_beyond_them_is_refused_in_a_sentence(home: Path) -> None:
    done = as_user(home, "pyunion run --rm -u 70000 one:1 busybox true")
    assert done.returncode == 125
    assert done.stderr.count("\n") == 1
    assert "there is no user 70000:0 among the sub-ids of this container" in done.stderr
