"""Registries for these tests."""

from __future__ import annotations

from tests.helpers.registry_server import (
    password_registry,
    registry_server,
    tls_registry,
    token_registry,
)

__all__ = ["password_registry", "registry_server", "tls_registry", "token_registry"]
