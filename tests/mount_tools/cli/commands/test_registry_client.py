"""The client that the commands share."""

from __future__ import annotations

from pathlib import Path

import pytest

from layerstore.oci.reference import parse_reference
from layerstore.registry.errors import Cancelled
from mount_tools.cli.commands.registry_client import registry_client
from tests.helpers.hostile_registry import HostileRegistry, always
from tests.helpers.registry_server import RegistryServer
from tests.mount_tools.cli.commands.conftest import at_home


def test_an_interrupt_ends_what_the_client_does(hub: RegistryServer) -> None:
    with pytest.raises(KeyboardInterrupt), registry_client() as client:
        repository = client.repository(parse_reference(f"{hub.host}/{hub.name()}"))
        raise KeyboardInterrupt
    with pytest.raises(Cancelled):
        repository.tags()


def test_a_warning_goes_to_stderr(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    at_home(tmp_path, monkeypatch)
    with HostileRegistry.running() as registry, registry_client() as client:
        registry.behave(always(200, "/tags", b"{}", {"Warning": '299 - "few pulls are left"'}))
        client.repository(parse_reference(f"{registry.host}/x")).tags()
    assert capsys.readouterr().err == f"WARNING: {registry.host}: few pulls are left\n"
