"""The places of a repository, its registry and its mirrors: the host and the name there."""

from __future__ import annotations

from dataclasses import dataclass

from layerstore.oci.reference import DEFAULT_DOMAIN

_DOCKER_HUB = "registry-1.docker.io"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A repository at one host: `name` is its name there.

    `insecure` allows plain HTTP, and a certificate that no authority signed.
    """

    host: str
    name: str
    insecure: bool = False


SEARCH_HOST = "index.docker.io"


def login_command(host: str) -> str:
    """Return the command that logs in at `host`, for an error."""
    return "pyunion login" if host in (_DOCKER_HUB, SEARCH_HOST) else f"pyunion login {host}"


def name_of(host: str) -> str:
    """Return a "host:port" without its port."""
    name, _, port = host.rpartition(":")
    return name if port.isdigit() else host


def host_of(domain: str) -> str:
    """Return the host that answers for the registry `domain`."""
    return _DOCKER_HUB if domain == DEFAULT_DOMAIN else domain
