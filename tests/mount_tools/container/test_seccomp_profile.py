"""Profiles in docker's form: what they let a container do, and which are refused."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from layerstore.errors import StoreError
from layerstore.oci.platform import this_platform
from mount_tools.container.rights import CAPABILITIES, DEFAULT, names_of
from mount_tools.container.seccomp_profile import filter_of, read_profile
from tests.helpers.children import run
from tests.helpers.containers import Containers
from unionfs.syscalls.seccomp import ALLOW, Filter, Unavailable

DISTRIBUTIONS = Path("/usr/share/containers/seccomp.json")
HERE = this_platform()[0]


@pytest.fixture(autouse=True)
def library() -> None:
    try:
        Filter(ALLOW)
    except Unavailable as error:
        pytest.skip(str(error))


def profile(*entries: object, **more: object) -> str:
    return json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": entries, **more})


def fails(**more: object) -> dict[str, object]:
    """Return an entry that lets mkdir(2) fail."""
    return {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", **more}


def when(argument: int, how: str, value: int) -> dict[str, object]:
    return {"index": argument, "value": value, "valueTwo": 0, "op": f"SCMP_CMP_{how}"}


def errno_of_mkdir(text: str, capabilities: frozenset[int] = DEFAULT) -> int:
    """Return how mkdir(2) of a directory that cannot be made fails under the profile."""
    made = filter_of(text, names_of(capabilities))
    reading, writing = os.pipe()

    def check() -> None:
        made.load()
        try:
            os.mkdir("/nosuch/x")
        except OSError as error:
            os.write(writing, b"%d" % (error.errno or 0))

    run(check)
    os.close(writing)
    with open(reading, "rb") as pipe:
        return int(pipe.read())


@pytest.mark.parametrize(
    ("entry", "number"),
    [
        (fails(), errno.EPERM),
        (fails(errnoRet=errno.EXDEV), errno.EXDEV),
        ({"name": "mkdir", "action": "SCMP_ACT_ERRNO"}, errno.EPERM),
        (fails(names=["rmdir", "no_such_call"]), errno.ENOENT),
        (fails(includes={"caps": ["CAP_CHOWN"]}), errno.EPERM),
        (fails(includes={"caps": ["CAP_SYS_ADMIN"]}), errno.ENOENT),
        (fails(excludes={"caps": ["CAP_CHOWN"]}), errno.ENOENT),
        (fails(excludes={"caps": ["CAP_SYS_ADMIN"]}), errno.EPERM),
        (fails(includes={"arches": [HERE]}), errno.EPERM),
        (fails(includes={"arches": ["s390"]}), errno.ENOENT),
        (fails(excludes={"arches": [HERE]}), errno.ENOENT),
        (fails(includes={"minKernel": "4.8"}), errno.EPERM),
        (fails(includes={"minKernel": "400.8"}), errno.ENOENT),
        (fails(excludes={"minKernel": "4.8"}), errno.ENOENT),
        (fails(names=["mkdir"], args=[when(1, "EQ", 0o777)]), errno.EPERM),
        (fails(names=["mkdir"], args=[when(1, "EQ", 0o700)]), errno.ENOENT),
        (fails(names=["mkdir"], args=[when(1, "EQ", 7), when(1, "EQ", 0o777)]), errno.EPERM),
    ],
)
def test_entries(entry: dict[str, object], number: int) -> None:
    assert errno_of_mkdir(profile(entry)) == number


def test_the_errno_of_what_is_not_listed() -> None:
    allowed = ["write", "exit_group", "munmap", "brk", "close", "futex", "mmap", "madvise"]
    entry = {"names": allowed, "action": "SCMP_ACT_ALLOW"}
    text = profile(entry, defaultAction="SCMP_ACT_ERRNO", defaultErrnoRet=errno.ENOSYS)
    assert errno_of_mkdir(text) == errno.ENOSYS


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "Decoding seccomp profile failed"),
        ("[]", "not one of docker's form"),
        ("{}", "not one of docker's form: KeyError: 'defaultAction'"),
        ('{"defaultAction": "SCMP_ACT_TRACE"}', "the action SCMP_ACT_TRACE is not supported"),
        ('{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": {}}', "is not a list"),
        (profile({"names": ["read"]}), "KeyError: 'action'"),
        (profile(fails(args=[{**when(0, "EQ", 1), "index": "x"}])), "not a number"),
        (profile(fails(args=[when(0, "X", 1)])), "KeyError"),
        (profile(fails(args=[when(9, "EQ", 1)])), "is refused"),
        (profile(fails(includes={"minKernel": "٤.8"})), "٤.8 is no version of a kernel"),
    ],
)
def test_what_is_no_profile(tmp_path: Path, content: str, says: str) -> None:
    path = tmp_path / "profile.json"
    path.write_text(content)
    with pytest.raises(StoreError, match=says):
        read_profile(str(path))


def test_a_profile_that_is_too_long(tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    path.write_text(" " * (1 << 20) + "{}")
    with pytest.raises(StoreError, match="is longer than"):
        read_profile(str(path))


@pytest.mark.skipif(not DISTRIBUTIONS.exists(), reason="containers-common is not installed")
def test_the_profile_of_containers_common(containers: Containers) -> None:
    """It is that of a container which names none."""
    filter_of(read_profile(str(DISTRIBUTIONS)), names_of(CAPABILITIES.values()))
    option = ("--security-opt", f"seccomp={DISTRIBUTIONS}")
    unconfined = ("--security-opt", "seccomp=unconfined")
    look = "cat /proc/self/status"

    def filtered(*words: str) -> str:
        lines = containers.ok(*words, "sh", "-c", look).splitlines()
        return next(line for line in lines if line.startswith("Seccomp:")).split()[1]

    assert filtered("run", "--rm", "busy:1") == "2"
    assert filtered("run", "--rm", "-u", "bob", *option, "busy:1") == "2"
    assert filtered("run", "--rm", "--init=false", "busy:1") == "2"
    assert filtered("run", "--rm", "--privileged", "busy:1") == "0"
    assert filtered("run", "--rm", *option, *unconfined, "busy:1") == "0"
    containers.ok("run", "-d", "--name", "box", *unconfined, "busy:1", "sleep", "1000")
    assert filtered("exec", "box") == "0"
    containers.ok("rm", "-f", "box")
    containers.ok("run", "-d", "--name", "box", "busy:1", "sleep", "1000")
    assert filtered("exec", "box") == "2"
    assert filtered("exec", "-u", "bob", "box") == "2"
    containers.ok("rm", "-f", "box")


def test_a_call_that_the_profile_refuses(containers: Containers, tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    path.write_text(profile(fails()))
    words = ("run", "--rm", "--security-opt", f"seccomp={path}", "busy:1", "mkdir", "/new")
    done = containers(*words)
    assert done.returncode == 1 and "Operation not permitted" in done.stderr, done
    path.write_text(profile({"names": ["execve", "execveat"], "action": "SCMP_ACT_ERRNO"}))
    done = containers(*words)
    assert done.returncode == 126 and "Operation not permitted" in done.stderr, done
    assert containers.ok("ps", "-aq") == ""
