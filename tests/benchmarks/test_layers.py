"""The layers: the same tree however it is dealt, and a fingerprint that tells a change."""

from __future__ import annotations

import os
from pathlib import Path

from benchmarks.layers import (
    NEEDLE,
    QUARTERS,
    Stack,
    dealt,
    large_file,
    many_files,
    needles,
    source_tree,
)


def files_in(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def test_source_tree_has_its_files_in_equal_quarters_over_two_layers(tmp_path: Path) -> None:
    stack = source_tree(tmp_path, 200)
    merged = files_in(stack.plain_copy())
    assert len(merged) == stack.files == 200
    for quarter in QUARTERS:
        assert sum(name.startswith(quarter) for name in merged) == 50
    assert len(files_in(tmp_path / "0")) == 20
    assert sum(NEEDLE.encode() in text for text in merged.values()) == needles(200)


def test_source_tree_is_the_same_in_every_run(tmp_path: Path) -> None:
    one, other = (source_tree(tmp_path / name, 40).plain_copy() for name in ("one", "other"))
    assert files_in(one) == files_in(other)


def test_dealt_tree_is_the_same_over_any_number_of_layers(tmp_path: Path) -> None:
    two, many = (dealt(tmp_path / str(n), n, 30, 3) for n in (2, 7))
    assert len(many.layers) == 7
    assert files_in(two.plain_copy()) == files_in(many.plain_copy())


def test_many_files_are_as_many_as_asked(tmp_path: Path) -> None:
    assert len(files_in(many_files(tmp_path, 250).plain_copy())) == 250


def test_large_file_has_no_holes(tmp_path: Path) -> None:
    stack = large_file(tmp_path, 2)
    (file,) = (path for path in stack.plain_copy().iterdir())
    assert file.stat().st_size == 2 << 20
    assert file.stat().st_blocks * 512 >= 2 << 20


def test_upper_layers_win_in_the_copy(tmp_path: Path) -> None:
    for layer in ("0", "1"):
        (tmp_path / layer).mkdir()
        (tmp_path / layer / "file").write_text(layer)
    assert (Stack(tmp_path, ("0", "1"), 1).plain_copy() / "file").read_text() == "0"


def test_fingerprint_changes_with_what_is_seen_of_a_file(tmp_path: Path) -> None:
    stack = source_tree(tmp_path, 40)
    seen = {stack.fingerprint()}
    file = next(path for path in (tmp_path / "1").rglob("*") if path.is_file())
    os.utime(file, ns=(1, 1))
    seen.add(stack.fingerprint())
    file.chmod(0o600)
    seen.add(stack.fingerprint())
    file.unlink()
    seen.add(stack.fingerprint())
    assert len(seen) == 4
    assert stack.fingerprint() == stack.fingerprint()
