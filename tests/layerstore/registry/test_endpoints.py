"""The host that answers for a registry."""

from __future__ import annotations

from layerstore.registry.endpoints import host_of, login_command, name_of


def test_docker_hub_answers_at_another_host() -> None:
    assert host_of("docker.io") == "registry-1.docker.io"
    assert host_of("localhost:5000") == "localhost:5000"


def test_command_that_logs_in() -> None:
    assert login_command("registry-1.docker.io") == "pyunion login"
    assert login_command("r.example:5000") == "pyunion login r.example:5000"


def test_name_without_the_port() -> None:
    assert [name_of(host) for host in ("r.example:5000", "r.example", "[::1]:5000", "[::1]")] == [
        "r.example",
        "r.example",
        "[::1]",
        "[::1]",
    ]
