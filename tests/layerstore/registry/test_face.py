"""The face of the client for programs, and that it costs nothing before it is used."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from importlib import import_module
from pathlib import Path

import pytest

import layerstore.registry
from layerstore import Store
from layerstore.oci.digest import sha256_digest
from layerstore.oci.reference import parse_reference
from layerstore.registry import copy_image, pull_image
from layerstore.registry.copy import RegistryGoal
from layerstore.registry.origins import RepositoryOrigin
from tests.helpers.registries import LAYERS, MemoryRegistry
from tests.helpers.registry_server import RegistryServer
from tests.layerstore.registry.clients import opened
from tests.layerstore.registry.locations import write


@pytest.mark.parametrize("name", layerstore.registry.__all__)
def test_each_name_is_there(name: str) -> None:
    assert getattr(layerstore.registry, name).__doc__
    assert name in dir(layerstore.registry)


def test_no_other_name_is_there() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        layerstore.registry.nothing  # type: ignore[attr-defined]  # noqa: B018  # what it raises


@pytest.mark.parametrize("module", ["layerstore.registry", "layerstore.registry.errors"])
def test_import_brings_no_network(module: str) -> None:
    program = (
        f"import sys, {module}\n"
        "print({'http.client', 'ssl', 'socket', 'tomllib', 'subprocess'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "set()\n", done.stderr


def test_protocol_needs_no_store(tmp_path: Path, registry_server: RegistryServer) -> None:
    with opened(tmp_path) as client:
        name = parse_reference(f"{registry_server.host}/{registry_server.name()}")
        assert client.repository(name).upload_blob([b"alone"]) == sha256_digest(b"alone")
    assert registry_server.blob(sha256_digest(b"alone")).read_bytes() == b"alone"


def test_pull_by_the_face(tmp_path: Path, registry_server: RegistryServer, store: Store) -> None:
    with opened(tmp_path) as client:
        name = parse_reference(f"{registry_server.host}/{registry_server.name()}:none")
        with pytest.raises(layerstore.registry.RegistryError):
            pull_image(store, client.repository(name), name)


@pytest.mark.parametrize("name", ["layerstore.registry", "layerstore.registry.client"])
def test_the_example_of_the_docstring_runs(
    name: str,
    tmp_path: Path,
    registry_server: RegistryServer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It pulls from Docker Hub, for which a registry on this machine stands here."""
    host = registry_server.host
    memory = MemoryRegistry(f"{host}/library/debian")
    memory.image(*LAYERS, tags=("12",))
    with opened(tmp_path) as client:
        own = parse_reference(f"{host}/library/debian")
        copy_image(RepositoryOrigin(memory, "12"), RegistryGoal(client.repository(own), "12"))
    conf = f'[[registry]]\nprefix = "docker.io"\nlocation = "{host}"\n'
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(write(tmp_path / "registries.conf", conf)))
    monkeypatch.setenv("PYUNION_ROOT", str(tmp_path / "store"))
    doc = import_module(name).__doc__ or ""
    example = re.search(r"\n\n((?:    .*\n|\n)+?)\n(?=\S)", doc)
    assert example is not None
    exec(compile(textwrap.dedent(example[1]), name, "exec"), {})
    digest = memory.manifests["12"].digest
    said = capsys.readouterr().out.splitlines()
    assert said[-1].split()[-1] == "['12']" or said[-1].split()[0] == digest
