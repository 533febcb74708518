"""Doing without CAP_FSETID for a moment."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import pytest

from tests.helpers.mounts import require_root
from unionfs.credentials import Credentials
from unionfs.syscalls import lowered
from unionfs.syscalls.fsids import FsIds
from unionfs.syscalls.lowered import (
    WithoutFsetid,
    give_up,
    keeping_suid,
    lower_thread,
    with_fsetid,
)

T = TypeVar("T")

CAP_SYS_PACCT = 20


def test_the_kernel_takes_suid_from_what_is_written_meanwhile(tmp_path: Path) -> None:
    require_root()
    path = tmp_path / "file"
    path.write_bytes(b"data")
    for mode, left in ((0o6755, 0o755), (0o2666, 0o666)):
        path.chmod(mode)
        with open(path, "r+b", buffering=0) as file:
            file.write(b"by root")
            assert stat.S_IMODE(path.stat().st_mode) == mode
            with WithoutFsetid():
                file.write(b"without")
        assert stat.S_IMODE(path.stat().st_mode) == left


def test_the_thread_has_its_rights_back_afterwards() -> None:
    require_root()
    thread = Credentials(threading.get_native_id(), os.getegid())
    groups = os.getgroups()
    with WithoutFsetid():
        assert not thread.keeps_suid()
        assert os.getgroups() == []
    assert thread.keeps_suid()
    assert os.getgroups() == groups


def in_thread(action: Callable[[], T]) -> T:
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(action).result()


def keeps_suid() -> bool:
    return Credentials(threading.get_native_id(), os.getegid()).keeps_suid()


def test_a_thread_is_lowered_for_good() -> None:
    """A change of fsuid and fsgid does not give the capability back; other threads have it."""
    require_root()

    def lower() -> bool:
        assert lower_thread()
        with FsIds(1234, 5678):
            assert not keeps_suid()
        assert os.getgroups() == []
        return keeps_suid()

    assert not in_thread(lower)
    assert keeps_suid()


def test_a_lowered_thread_has_it_where_it_is_needed(tmp_path: Path) -> None:
    require_root()
    path = tmp_path / "file"
    path.write_bytes(b"data")

    def raised() -> None:
        assert lower_thread()
        with with_fsetid():
            assert keeps_suid()
            with with_fsetid(), FsIds(1234, 5678):
                assert keeps_suid()
            assert keeps_suid()
        assert not keeps_suid()
        path.chmod(0o4755)
        with open(path, "r+b", buffering=0) as file:
            with keeping_suid(file.fileno()):
                file.write(b"kept")
            assert stat.S_IMODE(path.stat().st_mode) == 0o4755
            file.write(b"gone")
        assert stat.S_IMODE(path.stat().st_mode) == 0o755

    in_thread(raised)


def test_a_thread_started_by_a_lowered_one_is_lowered_too() -> None:
    require_root()

    def parent() -> tuple[bool, bool]:
        assert lower_thread()

        def child() -> bool:
            with with_fsetid():
                return keeps_suid()

        return in_thread(keeps_suid), in_thread(child)

    assert in_thread(parent) == (False, True)


def test_lowering_fails_if_capabilities_cannot_be_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    require_root()
    monkeypatch.setattr(lowered, "keep_capabilities", lambda: False)
    assert in_thread(lambda: (lower_thread(), keeps_suid())) == (False, True)


def test_a_capability_is_given_up_by_a_thread_and_those_it_starts() -> None:
    require_root()

    def has_it() -> bool:
        status = Path("/proc/thread-self/status").read_text()
        return bool(int(status.split("CapEff:")[1].split()[0], 16) & 1 << CAP_SYS_PACCT)

    def without() -> tuple[bool, bool]:
        give_up(CAP_SYS_PACCT)
        give_up(CAP_SYS_PACCT)
        return has_it(), in_thread(has_it)

    assert has_it()
    assert in_thread(without) == (False, False)
    assert has_it()
