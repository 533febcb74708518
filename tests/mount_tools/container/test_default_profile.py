"""The filter of containers that name no profile: of which file it is made, and how it is kept."""

from __future__ import annotations

import ctypes
import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from layerstore.errors import StoreError
from mount_tools.container import default_profile
from mount_tools.container.default_profile import default_filter, default_shown
from mount_tools.container.rights import DEFAULT
from unionfs.syscalls import seccomp
from unionfs.syscalls.seccomp import ALLOW, Filter, Unavailable

NO_MKDIR = {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno.EXDEV}


@pytest.fixture
def profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that the machine's profile is in; there is none yet."""
    try:
        Filter(ALLOW)
    except Unavailable as error:
        pytest.skip(str(error))
    path = tmp_path / "profile.json"
    monkeypatch.setattr(default_profile, "PROFILES", ("/nosuch", str(path)))
    return path


def write(path: Path, *entries: object) -> None:
    path.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": entries}))


def errno_of_mkdir(load: Callable[[], None] | None) -> int:
    """Return how mkdir(2) of a directory that cannot be made fails in a process that loads it."""
    assert load is not None

    def make() -> None:
        load()
        os.mkdir("/nosuch/x")

    return errno_in_child(make)


def errno_in_child(work: Callable[[], None]) -> int:
    """Return how `work` fails in a process of its own, 0 if it does not."""
    child = os.fork()
    if child == 0:
        code = 255
        try:
            work()
            code = 0
        except OSError as error:
            code = error.errno or 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_the_filter_is_made_once_and_then_kept(
    tmp_path: Path, profile: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = str(tmp_path)
    assert default_filter(store, DEFAULT) is None
    assert default_shown() == f"none: {profile} (containers-common) is not installed"
    write(profile, NO_MKDIR)
    assert default_shown() == str(profile)
    assert errno_of_mkdir(default_filter(store, DEFAULT)) == errno.EXDEV
    monkeypatch.setattr(seccomp, "LIBRARY", "nosuch.so")
    seccomp.load_library.cache_clear()
    try:
        assert errno_of_mkdir(default_filter(store, DEFAULT)) == errno.EXDEV
        assert default_shown() == "none: nosuch.so is not installed"
        assert default_filter(store, frozenset()) is None  # another filter, and no library
        kept = tmp_path / "seccomp-filter"
        kept.write_bytes(kept.read_bytes()[:-8])
        assert default_filter(store, DEFAULT) is None
    finally:
        seccomp.load_library.cache_clear()


def test_another_profile_makes_another_filter(tmp_path: Path, profile: Path) -> None:
    write(profile, NO_MKDIR)
    default_filter(str(tmp_path), DEFAULT)
    write(profile, {**NO_MKDIR, "errnoRet": errno.EXFULL})
    assert errno_of_mkdir(default_filter(str(tmp_path), DEFAULT)) == errno.EXFULL
    assert errno_of_mkdir(default_filter(str(tmp_path / "nosuch"), DEFAULT)) == errno.EXFULL
    profile.write_text("[]")
    with pytest.raises(StoreError, match=r"docker's form.*seccomp=unconfined does") as e:
        default_filter(str(tmp_path), DEFAULT)
    assert str(e.value).startswith(str(profile))


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers of calls are others")
@pytest.mark.parametrize(("administrators", "number"), [(False, errno.ENOSYS), (True, 0)])
def test_the_keys_of_the_machine_are_out_of_reach(
    tmp_path: Path,
    profile: Path,
    monkeypatch: pytest.MonkeyPatch,
    administrators: bool,
    number: int,
) -> None:
    """The administrator's own profile may say otherwise."""
    calls = ["write", "exit_group", "munmap", "brk", "close", "futex", "mmap", "keyctl"]
    rule = {"names": calls, "action": "SCMP_ACT_ALLOW"}
    default = {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": errno.ENOSYS}
    profile.write_text(json.dumps({**default, "syscalls": [rule]}))
    if administrators:
        monkeypatch.setattr(default_profile, "PROFILES", (str(profile), "/nosuch"))
    load = default_filter(str(tmp_path), DEFAULT)
    assert load is not None

    call = ctypes.CDLL(None, use_errno=True).syscall

    def join() -> None:
        load()
        if call(250, 1, None) < 0:  # keyctl(KEYCTL_JOIN_SESSION_KEYRING)
            raise OSError(ctypes.get_errno(), "refused")

    assert errno_in_child(join) == number


def test_a_kernel_without_filters_runs_the_container_all_the_same(
    tmp_path: Path, profile: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lacking(program: bytes) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    write(profile, NO_MKDIR)
    monkeypatch.setattr(seccomp, "load_program", lacking)
    assert errno_of_mkdir(default_filter(str(tmp_path), DEFAULT)) == errno.ENOENT
