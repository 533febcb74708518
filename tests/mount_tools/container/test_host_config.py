"""Volumes: written once, read the same wherever they are read."""

from __future__ import annotations

from pathlib import Path

import pytest

from layerstore.errors import StoreError
from layerstore.oci.json_values import Object
from layerstore.oci.run_config import RunConfig
from mount_tools.container.host_config import HostConfig, Volume, host_config, parse_volume


def test_volumes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/tmp")
    monkeypatch.setenv("HOME", "/home/me")
    assert parse_volume("/a:/b") == Volume("/a", "/b")
    assert parse_volume("/a:/b:rw") == Volume("/a", "/b")
    assert parse_volume("./a:/b/:ro") == Volume("/tmp/a", "/b", read_only=True)
    assert parse_volume("~/a:/b/../c") == Volume("/home/me/a", "/c")


def test_what_is_stored_is_read_back() -> None:
    host = HostConfig((Volume("/a", "/b"), Volume("/c", "/d", read_only=True)), read_only=True)
    assert host.fields == {"Binds": ["/a:/b", "/c:/d:ro"], "ReadonlyRootfs": True}
    assert host_config(RunConfig({"HostConfig": host.fields})) == host
    odd_ones: list[Object] = [{}, {"HostConfig": None}, {"HostConfig": {"ReadonlyRootfs": 1}}]
    for odd in odd_ones:
        assert host_config(RunConfig(odd)) == HostConfig()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "a bind mount is SOURCE:TARGET"),
        ("x", "there are no volumes without a source"),
        ("/a:/b:bad", "^invalid mode: bad$"),
        ("/a:/b:ro:ro", "^invalid mode: ro:ro$"),
        ("/a:rel", "mount path must be absolute$"),
        ("name:/b", "no volumes with names here; for the directory name write ./name$"),
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
