"""A source that is another one when it is copied, without a trace, does not get into the cache.

What a stranger who owns the context can do: write through a mapping, which changes no time of
the file as long as its pages are dirty.
"""

from __future__ import annotations

import io
import os
import tarfile
import time
from pathlib import Path

import pytest

from layerstore.build.source_digest import Digester, SourceDigest
from layerstore.build.sources import digest_sources, find_sources
from layerstore.build.tree import Tree
from layerstore.containerfile.instructions import Copy
from layerstore.containerfile.parse import parse
from layerstore.db.build_table import FileKey
from layerstore.errors import StoreError
from tests.helpers.mappings import mapped
from tests.helpers.mounts import require_root, run
from tests.layerstore.build import mini_build
from tests.layerstore.build.mini_build import build, written

GOOD, EVIL = b"good content", b"evil content"


def tar_of(content: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        info = tarfile.TarInfo("file")
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


@pytest.mark.parametrize(
    ("line", "good", "evil"),
    [
        ("COPY app /app", GOOD, EVIL),
        ("COPY . /all", GOOD, EVIL),
        ("COPY --parents ./app /", GOOD, EVIL),
        ("ADD app /app", GOOD, EVIL),
        ("ADD app /app/", tar_of(GOOD), tar_of(EVIL)),
        ("ADD app /app/", tar_of(GOOD), bytes(len(tar_of(GOOD)))),
    ],
)
def test_a_swap_after_the_digest_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, good: bytes, evil: bytes
) -> None:
    context = written(tmp_path / "context", {})
    with mapped(context / "app", good) as store:

        def digested(*given: object) -> tuple[str, bytes, list[bytes]]:
            found = digest_sources(*given)  # type: ignore[arg-type]
            store(evil)
            return found

        monkeypatch.setattr(mini_build, "digest_sources", digested)
        with pytest.raises(StoreError, match="app changed while it was read"):
            build(f"FROM scratch\n{line}", context, tmp_path)


@pytest.mark.parametrize("line", ["COPY app /app", "ADD app /app", "COPY . /all"])
def test_what_was_not_swapped_is_copied(tmp_path: Path, line: str) -> None:
    context = written(tmp_path / "context", {})
    with mapped(context / "app", GOOD):
        root = build(f"FROM scratch\n{line}", context, tmp_path).root
    (made,) = [path for path in root.rglob("*") if path.is_file()]
    assert made.read_bytes() == GOOD


class Memo:
    def __init__(self) -> None:
        self.kept: dict[FileKey, bytes] = {}

    def find(self, known: FileKey) -> bytes | None:
        return self.kept.get(known)

    def keep(self, known: FileKey, digest: bytes) -> None:
        self.kept[known] = digest


def test_no_digest_of_a_file_in_memory_is_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There no write through a mapping ever shows in a time."""
    require_root()
    context = tmp_path / "context"
    context.mkdir()
    run("mount", "-t", "tmpfs", "none", context)
    later = time.time_ns() + 3600 * 10**9
    monkeypatch.setattr(time, "time_ns", lambda: later)
    memo = Memo()
    try:
        with mapped(context / "app", GOOD) as store:
            before = digest(context, "COPY app /", memo)
            store(EVIL)
            assert digest(context, "COPY app /", memo).key != before.key
            assert any(before.seen[16:])
    finally:
        run("umount", context)


def test_two_links_to_a_file_are_two_sources(tmp_path: Path) -> None:
    """They are copied under their own names."""
    context = written(tmp_path / "context", {"file": "x", "one": "->file", "two": "->file"})
    found = [digest(context, f"COPY {name} /d/") for name in ("one", "two", "file")]
    assert len({one.key for one in found}) == 3
    assert len({one.docker for one in found}) == 1


def digest(context: Path, line: str, memo: Memo | None = None) -> SourceDigest:
    (_, one) = parse(f"FROM scratch\n{line}").instructions
    assert isinstance(one, Copy)
    fd = os.open(context, os.O_RDONLY | os.O_DIRECTORY)
    try:
        tree = Tree(fd)
        docker, key, (seen,) = digest_sources(find_sources(one, tree), Digester(tree, memo))
        return SourceDigest(docker, key, seen)
    finally:
        os.close(fd)
