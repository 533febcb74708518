"""Which kind of union is opened."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from unionfs.core import setup
from unionfs.core.config import OverrideStat, UnionConfig
from unionfs.core.opening import open_union
from unionfs.core.override_union import OverrideUnion, RemoteOverrideUnion
from unionfs.core.remote import RemoteUnion
from unionfs.core.union import UnionFs
from unionfs.errors import ConfigError
from unionfs.syscalls.statfs import FUSE, filesystem_type


@pytest.mark.parametrize(
    ("remote", "override", "kind"),
    [
        (False, OverrideStat.NONE, UnionFs),
        (True, OverrideStat.NONE, RemoteUnion),
        (False, OverrideStat.CONTAINERS, OverrideUnion),
        (True, OverrideStat.CONTAINERS, RemoteOverrideUnion),
    ],
)
def test_the_layers_and_the_options_say_which(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    remote: bool,
    override: OverrideStat,
    kind: type[UnionFs],
) -> None:
    monkeypatch.setattr(
        setup, "filesystem_type", lambda fd: FUSE if remote else filesystem_type(fd)
    )
    union = open_union(UnionConfig(lowers=(os.fsencode(tmp_path),), override=override))
    try:
        assert type(union) is kind
        assert union.may_hang() is remote
    finally:
        union.close()


def test_what_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        open_union(UnionConfig(lowers=(os.fsencode(tmp_path / "missing"),)))
