"""The face of the core: every name that the package offers, and where it comes from."""

from __future__ import annotations

import subprocess
import sys

import pytest

import unionfs


@pytest.mark.parametrize("name", unionfs.__all__)
def test_every_name_of_the_face_is_there(name: str) -> None:
    assert getattr(unionfs, name) is not None


def test_the_face_lists_what_it_can_load() -> None:
    assert sorted(unionfs._HOME) == sorted(unionfs.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nope'"):
        _ = unionfs.nope  # type: ignore[attr-defined]


def test_the_core_is_loaded_only_when_asked_for() -> None:
    code = (
        "import sys, unionfs\n"
        "assert not any(name.startswith('unionfs.core') for name in sys.modules)\n"
        "unionfs.UnionConfig\n"
        "assert 'unionfs.core.config' in sys.modules\n"
        "assert 'unionfs.core.union' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
