"""The host that answers for a registry."""

from __future__ import annotations

from layerstore.registry.endpoints import host_of


def test_docker_hub_answers_at_another_host() -> None:
    assert host_of("docker.io") == "registry-1.docker.io"
    assert host_of("localhost:5000") == "localhost:5000"
