"""Where the files are: as docker and podman look for them."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from layerstore.registry.auth_files import auth_paths
from layerstore.registry.locations import Locations, read_file
from layerstore.store import user_data


def test_variables_name_the_directories(tmp_path: Path) -> None:
    found = Locations.of_user(
        {
            "HOME": "/home/ann",
            "XDG_CONFIG_HOME": "/c",
            "XDG_RUNTIME_DIR": "/r",
            "DOCKER_CONFIG": "/d",
        }
    )
    assert auth_paths(found) == [
        Path("/r/containers/auth.json"),
        Path("/c/containers/auth.json"),
        Path("/d/config.json"),
        Path("/home/ann/.dockercfg"),
    ]
    assert found.certificates()[0] == Path("/c/containers/certs.d")


def test_relative_directories_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """They would be in the working directory, which may be a stranger's."""
    names = ("XDG_CONFIG_HOME", "XDG_RUNTIME_DIR", "XDG_CACHE_HOME", "XDG_DATA_HOME")
    relative = dict.fromkeys(names, "here")
    assert Locations.of_user({"HOME": "/h", **relative}) == Locations.of_user({"HOME": "/h"})
    assert Locations.of_user({"HOME": "."}).home.is_absolute()
    for name, value in relative.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HOME", "/h")
    assert user_data() == Path("/h/.local/share")


def test_another_environment_is_the_only_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/of/this/process")
    monkeypatch.setenv("XDG_CONFIG_HOME", "/config/of/this/process")
    found = Locations.of_user({})
    assert found.home == Path(pwd.getpwuid(os.geteuid()).pw_dir)
    assert found.config == found.home / ".config"


def test_defaults_are_below_home() -> None:
    found = Locations.of_user({"HOME": "/home/ann"})
    assert found.podman_auth.name == "auth.json"
    assert found.docker_auth == Path("/home/ann/.docker/config.json")
    assert found.certificates()[-1] == Path("/etc/docker/certs.d")
    assert Path("/etc/docker/daemon.json") in found.daemon_json()


def test_auth_file_of_the_environment_is_the_only_one() -> None:
    found = Locations.of_user({"HOME": "/h", "REGISTRY_AUTH_FILE": "/x.json"})
    assert auth_paths(found) == [Path("/x.json")]


def test_file_that_is_not_there_or_too_large(tmp_path: Path) -> None:
    assert read_file(tmp_path / "none") is None
    assert read_file(tmp_path / "none" / "below") is None
    (tmp_path / "huge").touch()
    with open(tmp_path / "huge", "r+b") as huge:
        huge.truncate(9 << 20)
    with pytest.raises(OSError):
        read_file(tmp_path / "huge")
