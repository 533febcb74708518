"""A union with a few files, and a session that serves it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unionfs.wire.kernel import Kernel
from unionfs.core.config import UnionConfig
from unionfs.core.opening import open_union
from unionfs.core.union import UnionFs
from unionfs.wire.session import Terms


@pytest.fixture
def fs(tmp_path: Path) -> Iterator[UnionFs]:
    for name in ("lower", "upper", "work"):
        (tmp_path / name).mkdir()
    (tmp_path / "lower/f").write_bytes(b"data")
    for name in ("big", "big1", "big2"):
        (tmp_path / "lower" / name).write_bytes(bytes(100_000))
    (tmp_path / "lower/d").mkdir()
    for number in range(50):
        (tmp_path / f"lower/d/name{number}").touch()
    lower, upper, work = (bytes(tmp_path / name) for name in ("lower", "upper", "work"))
    union = open_union(UnionConfig(lowers=(lower,), upper=upper, work=work))
    yield union
    union.close()


@pytest.fixture
def kernel(fs: UnionFs) -> Kernel:
    return Kernel(fs, Terms())
