"""docker's daemon.json: mirrors of Docker Hub, and registries without TLS."""

from __future__ import annotations

from pathlib import Path

import pytest

from layerstore.registry.daemon_json import DaemonJson, read_daemon_json
from layerstore.registry.errors import BadConfiguration
from layerstore.registry.registries_conf import Mirror
from tests.layerstore.registry.locations import places, write


def read(base: Path, text: str) -> DaemonJson:
    write(base / "etc/docker/daemon.json", text)
    return read_daemon_json(places(base))


def test_what_it_says(tmp_path: Path) -> None:
    daemon = read(
        tmp_path,
        '{"registry-mirrors": ["https://m.example/", "http://n.example:5000"], '
        '"insecure-registries": ["r.example:5000", "10.0.0.0/8"], "debug": true}',
    )
    assert daemon.mirrors == (Mirror("m.example"), Mirror("n.example:5000", insecure=True))
    entries = daemon.entries()
    assert entries["r.example:5000"].insecure
    assert entries["docker.io"].mirrors == daemon.mirrors
    assert daemon.is_insecure("10.1.2.3:5000") and daemon.is_insecure("10.1.2.3")
    assert not daemon.is_insecure("11.1.2.3:5000")


def test_no_file_says_nothing(tmp_path: Path) -> None:
    daemon = read_daemon_json(places(tmp_path))
    assert daemon == DaemonJson() and daemon.entries() == {}
    assert not daemon.is_insecure("10.1.2.3")


def test_file_that_this_user_may_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Path) -> bytes:
        raise PermissionError

    monkeypatch.setattr("layerstore.registry.daemon_json.read_file", refuse)
    assert read_daemon_json(places(tmp_path)) == DaemonJson()


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{",
        '{"registry-mirrors": "https://m.example"}',
        '{"registry-mirrors": ["ftp://m.example"]}',
        '{"registry-mirrors": ["https://m.example/path"]}',
        '{"registry-mirrors": ["https://[m.example"]}',
        '{"insecure-registries": [5]}',
    ],
)
def test_file_that_is_wrong_is_named(tmp_path: Path, text: str) -> None:
    with pytest.raises(BadConfiguration, match=r"daemon\.json"):
        read(tmp_path, text)
