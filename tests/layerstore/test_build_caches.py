"""Caches of builds are shared as they ask for, and removed only where nobody uses them."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

import pytest

from layerstore.build_caches import all_of, claimed, prune, strangers
from layerstore.db.staging import StagingArea


@pytest.fixture
def staging(tmp_path: Path) -> StagingArea:
    (tmp_path / "staging").mkdir()
    return StagingArea(tmp_path / "staging")


def filled(path: Path) -> None:
    path.mkdir(exist_ok=True)
    (path / "file").write_bytes(b"x" * 1000)


def test_a_private_one_is_a_further_one_while_another_has_it(tmp_path: Path) -> None:
    caches = tmp_path / "caches"
    with ExitStack() as stack:
        shared = [stack.enter_context(claimed(caches, "/c", "shared")) for _ in range(2)]
        private = [stack.enter_context(claimed(caches, "/c", "private")) for _ in range(2)]
    assert shared[0] == shared[1]
    assert [one.name for one in private] == [f"{shared[0].name}-1", f"{shared[0].name}-2"]
    with claimed(caches, "/c", "locked") as locked:
        assert locked == shared[0]


def test_one_in_use_stays(tmp_path: Path, staging: StagingArea) -> None:
    caches = tmp_path / "caches"
    for identity in ("/a", "/b"):
        with claimed(caches, identity, "shared") as path:
            filled(path)
    with claimed(caches, "/a", "shared") as used:
        assert prune(caches, staging, dry_run=True) == 1000
        assert len(all_of(caches)) == 2
        assert prune(caches, staging) == 1000
        assert all_of(caches) == [used]
    assert prune(caches, staging) == 1000
    assert all_of(caches) == list(staging.path.iterdir()) == []


def test_the_last_use_counts(tmp_path: Path, staging: StagingArea) -> None:
    caches = tmp_path / "caches"
    with claimed(caches, "/a", "shared") as path:
        filled(path)
    os.utime(f"{path}.lock", ns=(5, 5))
    assert prune(caches, staging, until_ns=4) == 0
    with claimed(caches, "/a", "shared"):
        assert os.stat(f"{path}.lock").st_mtime_ns > 5
    os.utime(f"{path}.lock", ns=(5, 5))
    assert prune(caches, staging, until_ns=5) == 1000


def test_what_no_build_made_is_named_and_stays(tmp_path: Path, staging: StagingArea) -> None:
    caches = tmp_path / "caches"
    assert (all_of(caches), strangers(caches), prune(caches, staging)) == ([], [], 0)
    with claimed(caches, "/a", "shared") as path:
        filled(path)
    (caches / "notes").write_text("precious")
    (caches / f".{path.name}.pyunion-{'0' * 16}").mkdir()
    assert strangers(caches) == [caches / "notes"]
    prune(caches, staging)
    assert (caches / "notes").exists()
