"""The user namespace of an ordinary user: entered when it must be; test_run_rootless is inside."""

from __future__ import annotations

import errno
import os

import pytest

from layerstore.errors import StoreError
from mount_tools.container import sub_ids, user_namespace
from tests.helpers.mounts import require_root


def refuse() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_root_enters_no_user_namespace(monkeypatch: pytest.MonkeyPatch) -> None:
    require_root()
    monkeypatch.setattr(sub_ids, "enter", refuse)
    before = os.stat("/proc/self/ns/user").st_ino
    user_namespace.be_root()
    user_namespace.read_all()
    assert os.stat("/proc/self/ns/user").st_ino == before


def test_where_there_is_none_it_is_said_by_what_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sub_ids, "enter", refuse)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(StoreError, match=r"kernel refuses \(No space left on device\); try sudo"):
        user_namespace.be_root()
    user_namespace.read_all()
