"""Mounts as they are written: each form read once, and refused in docker's words."""

from __future__ import annotations

from pathlib import Path

import pytest

from layerstore.errors import StoreError
from mount_tools.container.mount_words import (
    StoreVolume,
    Tmpfs,
    Volume,
    parse_mount,
    parse_tmpfs,
    parse_volume,
)
from unionfs.syscalls.mount import MS_NODEV, MS_NOSUID, MS_RDONLY


def test_volumes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/tmp")
    monkeypatch.setenv("HOME", "/home/me")
    assert parse_volume("/a:/b") == Volume("/a", "/b")
    assert parse_volume("/a:/b:rw") == Volume("/a", "/b")
    assert parse_volume("./a:/b/:ro") == Volume("/tmp/a", "/b", read_only=True)
    assert parse_volume("~/a:/b/../c") == Volume("/home/me/a", "/c")
    assert parse_volume("/a:/b:z,ro") == Volume("/a", "/b", read_only=True)
    assert parse_volume("name:/b") == StoreVolume("name", "/b")
    assert parse_volume("name:/b:ro,nocopy") == StoreVolume("name", "/b", True, copy=False)
    assert parse_volume("//b") == StoreVolume("", "/b")


@pytest.mark.parametrize(
    "volume",
    [
        Volume("/a", "/b"),
        Volume("/a", "/b", read_only=True),
        StoreVolume("name", "/b"),
        StoreVolume("name", "/b", read_only=True, copy=False),
        StoreVolume("", "/b"),
    ],
)
def test_the_text_of_a_volume_is_read_back(volume: Volume | StoreVolume) -> None:
    assert parse_volume(volume.text) == volume


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "mount path must be absolute$"),
        ("x", "invalid mount path: 'x' mount path must be absolute$"),
        (":/b", "^invalid volume specification: ':/b'$"),
        ("/a:", "^invalid volume specification: '/a:'$"),
        ("/a:/b:nocopy", "^invalid mode: nocopy$"),
        ("name:/b:ro,rw", "^invalid mode: ro,rw$"),
        ("name:/b\0", "a NUL byte is in it$"),
        ("/a:/b:bad", "^invalid mode: bad$"),
        ("/a:/b:ro:ro", "^invalid mode: ro:ro$"),
        ("/a:rel", "mount path must be absolute$"),
        ("n:/b", "volume name is too short.* write ./n$"),
        ("a/b:/b", "includes invalid characters for a local volume name.* write ./a/b$"),
        ("/a:/", "destination can't be '/'$"),
        ("/a:/b/..", "destination can't be '/'$"),
    ],
)
def test_volumes_that_cannot_be(text: str, complaint: str) -> None:
    with pytest.raises(StoreError, match=complaint):
        parse_volume(text)


def test_a_working_directory_with_a_colon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a:b").mkdir()
    monkeypatch.chdir(tmp_path / "a:b")
    with pytest.raises(StoreError, match="has a colon in its name"):
        parse_volume("./x:/y")


def test_mounts_by_words() -> None:
    assert parse_mount("type=bind,source=/a,target=/b") == Volume("/a", "/b")
    assert parse_mount("type=bind,src=/a,dst=/b/,ro") == Volume("/a", "/b", read_only=True)
    assert parse_mount("type=tmpfs,destination=/b,tmpfs-size=1m,tmpfs-mode=1777") == Tmpfs(
        "/b", "size=1m,mode=1777"
    )
    assert parse_mount("src=name,dst=/b") == StoreVolume("name", "/b")
    assert parse_mount("type=volume,dst=/b,readonly,volume-nocopy") == StoreVolume(
        "", "/b", read_only=True, copy=False
    )
    assert parse_tmpfs("/b:size=1m,exec") == Tmpfs("/b", "size=1m,exec")
    assert Tmpfs("/b", "size=1m,exec,ro").mount_options() == (
        MS_NOSUID | MS_NODEV | MS_RDONLY,
        b"size=1m",
    )


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("type=bind,target=/b", "source is required"),
        ("type=bind,source=/a", "target is required"),
        ("source=/a,target=/b", "includes invalid characters for a local volume name"),
        ("type=npipe,source=/a,target=/b", "mount type unknown"),
        ("type=bind,source=/a,target=b", "must be absolute"),
        ("type=bind,source,target=/b", "must be a key=value pair"),
        ("kind=bind", "unexpected key kind=bind"),
        ("type=tmpfs,target=/", "destination can't be '/'"),
    ],
)
def test_mounts_that_cannot_be(text: str, complaint: str) -> None:
    with pytest.raises(StoreError, match=complaint):
        parse_mount(text)
