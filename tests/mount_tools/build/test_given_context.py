"""Where a context and its Containerfile come from."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from layerstore import Store
from layerstore.containerfile.grammar import LARGEST
from layerstore.errors import StoreError
from mount_tools.build.given_context import opened


@pytest.fixture
def store(empty_store: Store) -> Store:
    return empty_store


def packed(mode: str = "w:", **files: str) -> io.BytesIO:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as tar:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content.encode()))
    out.seek(0)
    return out


@pytest.mark.parametrize("mode", ["w:", "w:gz"])
def test_a_tar_on_stdin_is_the_context(store: Store, mode: str) -> None:
    with opened(store, "-", None, packed(mode, Dockerfile="FROM x", a="b")) as given:
        assert (given.content, given.name) == (b"FROM x", "Dockerfile")
        assert given.context.find("a") is not None
    with opened(store, "-", "other", packed(mode, other="FROM y")) as given:
        assert given.content == b"FROM y"
    with (
        pytest.raises(StoreError, match="No such file"),
        opened(store, "-", "missing", packed(mode, other="FROM y")),
    ):
        pass


def test_a_compressed_tar_that_is_cut_short_is_no_containerfile(store: Store) -> None:
    data = packed("w:gz", Dockerfile="FROM x").getvalue()
    with (
        pytest.raises(StoreError, match="it may be cut short"),
        opened(store, "-", None, io.BytesIO(data[: len(data) // 2])),
    ):
        pass


def test_what_is_no_tar_is_not_read_to_its_end(store: Store) -> None:
    with open("/dev/zero", "rb") as endless, opened(store, "-", None, endless) as given:
        assert len(given.content) == LARGEST + 1


def test_a_tar_that_is_larger_than_a_containerfile_is_read_whole(store: Store) -> None:
    packed_twice = packed("w", big="x" * LARGEST, Dockerfile="FROM x")
    with opened(store, "-", None, packed_twice) as given:
        assert given.content == b"FROM x"


def test_text_on_stdin_is_the_file(store: Store, tmp_path: Path) -> None:
    with opened(store, "-", None, io.BytesIO(b"FROM x")) as given:
        assert (given.content, given.name) == (b"FROM x", "-")
        assert given.context.find("Dockerfile") is None
    with opened(store, str(tmp_path), "-", io.BytesIO(b"FROM x")) as given:
        assert given.content == b"FROM x"
        assert given.context.find("store") is not None
    with (
        pytest.raises(StoreError, match="is no tar"),
        opened(store, "-", "file", io.BytesIO(b"FROM x")),
    ):
        pass


def test_a_link_of_the_context_leads_to_no_file_outside(store: Store, tmp_path: Path) -> None:
    context = tmp_path / "context"
    context.mkdir()
    (tmp_path / "secret").write_text("secret")
    (context / "Dockerfile").symlink_to(tmp_path / "secret")
    with (
        pytest.raises(StoreError, match="Dockerfile: No such file"),
        opened(store, str(context), f"{context}/Dockerfile", io.BytesIO()) as given,
    ):
        assert given.content != b"secret"
    # What is named outside of it is the user's own.
    (tmp_path / "link").symlink_to("secret")
    with opened(store, str(context), f"{tmp_path}/link", io.BytesIO()) as given:
        assert given.content == b"secret"


def test_a_containerfile_in_a_tar_is_read_in_part(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sparse file of a stranger would take the memory of the machine."""
    monkeypatch.setattr("mount_tools.build.given_context.LARGEST", 4)
    with opened(store, "-", "other", packed(other="FROM xyz")) as given:
        assert given.content == b"FROM "
