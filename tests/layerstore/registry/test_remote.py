"""What pull and push need of a repository is what the client's repository has."""

from __future__ import annotations

from pathlib import Path

from layerstore.oci.reference import Reference
from layerstore.registry.remote import Source, Target
from tests.helpers.registries import REPOSITORY, MemoryRegistry
from tests.layerstore.registry.clients import opened


def methods(protocol: type) -> set[str]:
    return {name for name in dir(protocol) if not name.startswith("_")}


def test_the_repository_and_the_one_in_memory_fit(tmp_path: Path) -> None:
    with opened(tmp_path) as client:
        real: Target = client.repository(Reference(REPOSITORY))
        memory: Target = MemoryRegistry()
        for one in (real, memory):
            assert methods(Target) <= {*dir(one)}
            assert one.name == REPOSITORY and one.host == "registry.test"
    assert methods(Source) < methods(Target)
