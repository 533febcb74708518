"""The client that the commands share."""

from __future__ import annotations

import pytest

from layerstore.oci.reference import parse_reference
from layerstore.registry.errors import Cancelled
from mount_tools.cli.commands.registry_client import registry_client
from tests.helpers.registry_server import RegistryServer


def test_an_interrupt_ends_what_the_client_does(hub: RegistryServer) -> None:
    with pytest.raises(KeyboardInterrupt), registry_client() as client:
        repository = client.repository(parse_reference(f"{hub.host}/{hub.name()}"))
        raise KeyboardInterrupt
    with pytest.raises(Cancelled):
        repository.tags()


def test_a_warning_goes_to_stderr(hub: RegistryServer, capsys: pytest.CaptureFixture[str]) -> None:
    with registry_client() as client:
        assert client._warn is not None
        client._warn("few pulls are left")
    assert capsys.readouterr().err == "WARNING: few pulls are left\n"
