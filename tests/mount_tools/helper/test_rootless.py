"""Without root: through fusermount3, and as root of a user namespace."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.as_user import NOBODY
from tests.helpers.mounts import (
    DEADLINE,
    helper_environment,
    layer_options,
    mount_type,
    require,
    run,
    wait_until,
)

MODES = {"user": "fusermount3 -u", "namespace": "umount"}


pytestmark = pytest.mark.usefixtures("device_for_everybody")


@pytest.fixture
def base() -> Iterator[Path]:
    """A tree of layers that belongs to an ordinary user.

    Not in pytest's own directory: each start of pytest closes that to others.
    """
    with tempfile.TemporaryDirectory(prefix="pyunion-user-") as scratch:
        top = Path(scratch).resolve()
        for name in ("lower/dir/sub", "lower/empty", "upper", "work", "merged"):
            (top / name).mkdir(parents=True)
        (top / "lower/file").write_text("low\n")
        (top / "lower/gone").write_text("low\n")
        (top / "lower/dir/old").write_text("old\n")
        for path in [top, *top.rglob("*")]:
            os.chown(path, NOBODY, NOBODY)
        yield top
        if mount_type(top / "merged") is not None:
            run("umount", "-l", top / "merged")


def as_user(
    mode: str, base: Path, script: str, options: str = ""
) -> subprocess.CompletedProcess[bytes]:
    words = os.fsdecode(layer_options([base / "lower"], base / "upper", base / "work"))
    words += f",log={base}/log" + (options and f",{options}")
    return run(
        *(sys.executable, "-m", "tests.helpers.as_user", mode, script),
        *("-o", words, base / "merged"),
        env=helper_environment(),
        cwd=Path(helper_environment()["PYTHONPATH"].split(":")[0]),
        check=False,
        timeout=DEADLINE,
    )


def ended(base: Path) -> None:
    log = base / "log"
    wait_until(lambda: "unmounted from" in log.read_text(), "the daemon to end")
    assert "ERROR" not in log.read_text()
    log.unlink()


def test_reading_changing_deleting_and_again_after_a_remount(mode: str, base: Path) -> None:
    merged = base / "merged"
    done = as_user(
        mode,
        base,
        f"""
        cd {merged}
        test "$(cat file)" = low
        echo more >> file
        rm gone
        rm -r dir
        mkdir dir
        echo new > dir/new
        mv empty renamed
        ln file link
        setfattr -n user.note -v x file
        test "$(stat -c %h file)" = 2
        grep -q ' {merged} fuse.pyunion ' /proc/mounts
        cd /
        {MODES[mode]} {merged}
        """,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    ended(base)
    assert (base / "lower/file").read_text() == "low\n"
    again = as_user(
        mode,
        base,
        f"""
        cd {merged}
        ls -R . | tr '\\n' ' '
        cat link
        getfattr --only-values -n user.note file
        cd /
        {MODES[mode]} {merged}
        """,
    )
    assert (again.returncode, again.stderr) == (0, b"")
    assert again.stdout == b".: dir file link renamed  ./dir: new  ./renamed: low\nmore\nx"
    ended(base)
    assert mount_type(merged) is None


def test_the_owner_is_the_mounter(mode: str, base: Path) -> None:
    merged = base / "merged"
    done = as_user(
        mode, base, f"touch {merged}/new; stat -c %u {merged}/new; {MODES[mode]} {merged}"
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == (b"0\n" if mode == "namespace" else b"65534\n")
    assert (base / "upper/new").stat().st_uid == NOBODY
    ended(base)


@pytest.mark.parametrize("transport", ["dev_fuse", "pyfuse3"])
def test_squashed_files_of_others_can_be_changed(base: Path, transport: str) -> None:
    """The copies are the daemon's, which may give them to nobody else, and nobody sees that."""
    merged = base / "merged"
    for name in ("file", "dir"):
        os.chown(base / "lower" / name, 0, 0)
        (base / "lower" / name).chmod(0o755)
    done = as_user(
        "namespace",
        base,
        f"""
        cd {merged}
        echo more >> file
        chown 0:0 file
        touch dir/new
        stat -c %u:%g file dir dir/new
        cd /
        umount {merged}
        """,
        f"squash_to_root,transport={transport}",
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == b"0:0\n" * 3
    assert (base / "upper/file").stat().st_uid == NOBODY
    ended(base)


@pytest.mark.parametrize("form", ["char", "xattr", "aufs"])
def test_every_form_of_whiteout(mode: str, form: str, base: Path) -> None:
    merged = base / "merged"
    script = f"""
        cd {merged}
        rm gone
        rm -r dir
        mkdir dir
        ls -A . dir | tr '\\n' ' '
        cd /
        {MODES[mode]} {merged}
    """
    done = as_user(mode, base, script, f"whiteout={form}")
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == b".: dir empty file  dir: "
    ended(base)
    names = os.listdir(base / "upper")
    marks = {
        "char": lambda: stat.S_ISCHR((base / "upper/gone").lstat().st_mode),
        "xattr": lambda: "user.overlay.whiteout" in os.listxattr(base / "upper/gone"),
        "aufs": lambda: ".wh.gone" in names,
    }
    assert marks[form]()


def test_a_directory_that_is_not_his(base: Path) -> None:
    os.chown(base / "merged", 0, 0)
    done = as_user("user", base, "true")
    assert done.returncode == 32
    assert done.stderr.startswith(b"mount.pyunion: fusermount3: ")
    assert done.stderr.count(b"\n") == 1
    assert mount_type(base / "merged") is None


def test_allow_other_needs_fuse_conf(base: Path) -> None:
    allowed = "\nuser_allow_other" in "\n" + Path("/etc/fuse.conf").read_text()
    require(not allowed, "/etc/fuse.conf allows allow_other here")
    done = as_user("user", base, "true", "allow_other")
    assert done.returncode == 32
    assert b"user_allow_other" in done.stderr


def test_a_device_that_is_closed_to_users(base: Path) -> None:
    os.chmod("/dev/fuse", 0o600)
    try:
        done = as_user("namespace", base, "true")
    finally:
        os.chmod("/dev/fuse", 0o666)
    assert done.returncode == 32
    assert b"chmod 0666 /dev/fuse" in done.stderr


def test_pages_are_kept_where_the_kernel_may_not_pass_through(mode: str, base: Path) -> None:
    """Large requests, and each page asked for once."""
    merged = base / "merged"
    (base / "lower/big").write_bytes(bytes(4 << 20))
    counters = f"getfattr --absolute-names --only-values -n user.pyunion.counters {merged}; echo"
    done = as_user(
        mode,
        base,
        f"""
        cat {merged}/big > /dev/null; {counters}
        cat {merged}/big > /dev/null; {counters}
        {MODES[mode]} {merged}
        """,
        "transport=dev_fuse",
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert "passthrough" not in (base / "log").read_text()
    first, second = (json.loads(line)["READ"] for line in done.stdout.splitlines())
    assert first == second
    assert first <= 4 * 8, "128 KiB of readahead at least"


def test_what_lies_in_read_only_directories_is_changed(mode: str, base: Path) -> None:
    """As on ext4: the owner may change it without write permission for the directory."""
    merged, lower = base / "merged", base / "lower"
    (lower / "dir/sub/file").write_text("low\n")
    for path in (lower / "dir/old", lower / "dir/sub/file"):
        os.chown(path, NOBODY, NOBODY)
        path.chmod(0o444)
    for path in (lower / "dir/sub", lower / "dir"):
        path.chmod(0o555)
    done = as_user(
        mode,
        base,
        f"""
        cd {merged}
        touch -d @7 dir/sub/file
        test "$(stat -c '%Y %a' dir/sub/file)" = "7 444"
        chmod 644 dir/old
        echo more >> dir/old
        test "$(tail -n1 dir/old)" = more
        test "$(stat -c %a dir dir/sub | xargs)" = "555 555"
        test "$(stat -c %a {base}/upper/dir {base}/upper/dir/sub | xargs)" = "555 555"
        chmod -R u+w dir
        mv dir/sub/file dir/file
        rm -rf dir
        ! test -e dir
        cd /
        {MODES[mode]} {merged}
        """,
    )
    assert done.returncode == 0, done.stderr
    ended(base)


def test_an_empty_read_only_directory_is_removed(mode: str, base: Path) -> None:
    merged = base / "merged"
    (base / "lower/empty").chmod(0o555)
    script = f"cd {merged}; rmdir empty; ! test -e empty; cd /; {MODES[mode]} {merged}"
    done = as_user(mode, base, script)
    assert done.returncode == 0, done.stderr
    copied = f"cd {merged}; touch dir/sub; chmod 555 dir/sub; rmdir dir/sub"
    done = as_user(mode, base, f"{copied}; ! test -e dir/sub; cd /; {MODES[mode]} {merged}")
    assert done.returncode == 0, done.stderr
    ended(base)


def test_files_in_a_read_only_directory_are_copied_up(mode: str, base: Path) -> None:
    """As on a plain filesystem, files in a directory of mode 0555 can be changed."""
    merged = base / "merged"
    (base / "lower/dir/sub/inner").write_text("inner\n")
    os.chown(base / "lower/dir/sub/inner", NOBODY, NOBODY)
    for path in ("lower/dir/sub", "lower/dir"):
        os.chmod(base / path, 0o555)
    done = as_user(
        mode,
        base,
        f"""
        cd {merged}
        echo more >> dir/old
        chmod 600 dir/sub/inner
        touch dir/sub/inner
        test "$(stat -c %a dir) $(stat -c %a dir/sub)" = '555 555'
        test "$(cat dir/old | wc -l)" = 2
        chmod -R u+w dir
        rm -rf dir
        test ! -e dir
        cd /
        {MODES[mode]} {merged}
        """,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    ended(base)
    assert (base / "lower/dir/old").read_text() == "old\n"
