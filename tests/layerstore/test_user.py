"""The user of a process that became root of a user namespace: the defaults stay theirs."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import pytest

from layerstore import default_root
from layerstore.archive.engine_store import parse_source
from layerstore.registry.locations import Locations
from layerstore.user import home_directory, remember_user, user_id

ME = 4321


@pytest.fixture
def inside(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The user ME has become root of a namespace."""
    for name in ("PYUNION_ROOT", "XDG_DATA_HOME", "XDG_RUNTIME_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setattr(os, "geteuid", lambda: ME)
    remember_user(user_id())
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    remember_user(user_id())  # entered again
    yield
    remember_user(None)


@pytest.mark.usefixtures("inside")
def test_all_defaults_are_those_of_the_user() -> None:
    assert user_id() == ME
    assert default_root() == Path("/home/me/.local/share/pyunion")
    engines, _name = parse_source("containers-storage:x")
    assert engines.root == Path("/home/me/.local/share/containers/storage")
    locations = Locations.of_user()
    assert locations.runtime == Path(f"/run/containers/{ME}")
    assert locations.aliases == Path("/home/me/.cache/containers/short-name-aliases.conf")
    assert not locations.is_root


@pytest.mark.usefixtures("inside")
def test_without_home_the_directory_is_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME")
    found = Mock(return_value=Mock(pw_dir="/home/mine"))
    monkeypatch.setattr(pwd, "getpwuid", found)
    assert home_directory() == Path("/home/mine")
    found.assert_called_once_with(ME)


def test_a_root_who_entered_no_namespace_is_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert user_id() == 0
