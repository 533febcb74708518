"""Contexts and Containerfiles: what may be given, and how a refusal reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from layerstore.build.context import (
    empty_context,
    open_context,
    path_inside,
    read_containerfile,
    refuse_remote,
)
from layerstore.errors import NotFound, StoreError
from tests.layerstore.build.mini_build import written


def test_a_directory_with_its_ignore_file(tmp_path: Path) -> None:
    written(tmp_path, {".dockerignore": "b", "a": "", "b": ""})
    with open_context(str(tmp_path)) as tree:
        assert tree.find("a") is not None
        assert tree.find("b") is None
        assert not tree.owners


def test_an_empty_context() -> None:
    with empty_context() as tree:
        assert [entry.path for entry in tree.walk("")] == [""]


@pytest.mark.parametrize(
    "context",
    ["https://x/y.git", "http://x", "git://x", "git@host:x", "github.com/a/b", "ssh://x"],
)
def test_a_url_is_refused_in_a_sentence(context: str) -> None:
    with pytest.raises(StoreError, match="contexts are not fetched: clone or download it"):
        refuse_remote(context)


@pytest.mark.parametrize("context", [".", "a/b", "-", "githubcom", "https"])
def test_a_path_is_not_taken_for_a_url(context: str) -> None:
    refuse_remote(context)


def test_a_context_that_is_missing_or_no_directory(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match='path "/nope" not found'), open_context("/nope"):
        pass
    file = tmp_path / "f"
    file.write_text("")
    with pytest.raises(StoreError, match="is not a directory: give"), open_context(str(file)):
        pass


def test_the_containerfile_of_a_context(tmp_path: Path) -> None:
    written(tmp_path, {"Dockerfile": "FROM d", ".dockerignore": "*"})
    with open_context(str(tmp_path)) as tree:
        assert read_containerfile(None, tree) == (b"FROM d", "Dockerfile")
        (tmp_path / "Containerfile").write_text("FROM c")
        assert read_containerfile(None, tree) == (b"FROM c", "Containerfile")


def test_a_containerfile_elsewhere(tmp_path: Path) -> None:
    path = str(tmp_path / "My")
    with pytest.raises(StoreError, match=r"Containerfile: .*My: No such file"):
        read_containerfile(path, None)
    Path(path).write_text("FROM x")
    assert read_containerfile(path, None) == (b"FROM x", path)
    with pytest.raises(StoreError, match=r"failed to read .*: Is a directory"):
        read_containerfile(str(tmp_path), None)


def test_a_context_without_a_containerfile(tmp_path: Path) -> None:
    with (
        open_context(str(tmp_path)) as tree,
        pytest.raises(NotFound, match="the context has no Containerfile and no Dockerfile"),
    ):
        read_containerfile(None, tree)


def test_a_containerfile_that_leads_out_of_the_context(tmp_path: Path) -> None:
    context = written(tmp_path / "c", {"Dockerfile": "->../secret"})
    written(tmp_path, {"secret": "FROM x"})
    with open_context(str(context)) as tree, pytest.raises(NotFound):
        read_containerfile(None, tree)


def test_a_file_in_the_context_leads_to_none_outside(tmp_path: Path) -> None:
    """A message about the file would show what the link of a stranger leads to."""
    context, outside = tmp_path / "context", tmp_path / "secret"
    context.mkdir()
    outside.write_text("secret")
    (context / "Linked").symlink_to(outside)
    (context / "Same").symlink_to("Plain")
    (context / "Plain").write_text("FROM x")
    (context / "up").symlink_to(tmp_path)
    (context / "Plain.dockerignore").symlink_to(outside)
    (tmp_path / "alias").symlink_to(context)
    found = {}
    for path in ("Linked", "up/secret", "Same", "Plain"):
        inside = path_inside(f"{tmp_path}/alias/{path}", f"{tmp_path}/alias")
        assert inside == path == path_inside(f"{context}/{path}", f"{tmp_path}/alias")
        with open_context(str(context), f"{context}/{path}", inside) as tree:
            assert tree.find("Plain") is not None
            if path in ("Same", "Plain"):
                found[path] = read_containerfile(f"{context}/{path}", tree, inside)[0]
                continue
            with pytest.raises(StoreError, match="No such file or directory"):
                read_containerfile(f"{context}/{path}", tree, inside)
    assert found == {"Same": b"FROM x", "Plain": b"FROM x"}
    assert path_inside(str(outside), str(context)) is None
    assert path_inside(f"{context}-2/file", str(context)) is None
