"""A registry for the commands that talk to one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.registry_server import (
    RegistryServer,
    password_registry,
    registry_server,
    tls_registry,
)

__all__ = ["hub", "password_registry", "registry_server", "tls_registry"]


@pytest.fixture
def hub(
    registry_server: RegistryServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> RegistryServer:
    """A registry that needs no login, and a user without any configuration."""
    at_home(tmp_path, monkeypatch)
    return registry_server


def at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give this process a home, and a place for credentials, of its own."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(home / "run"))
    for name in ("DOCKER_CONFIG", "REGISTRY_AUTH_FILE", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    return home
