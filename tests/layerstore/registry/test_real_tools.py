"""Side by side with skopeo: the same credentials in the same files, the same mirrors."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from layerstore.oci.digest import sha256_digest
from layerstore.oci.reference import parse_reference
from layerstore.registry.client import Client
from layerstore.registry.config import Configuration
from layerstore.registry.credential_files import CredentialFiles
from layerstore.registry.credentials import Credentials
from tests.helpers.mounts import DEADLINE
from tests.helpers.registry_server import PASSWORD, USER, RegistryServer
from tests.layerstore.registry.clients import opened
from tests.layerstore.registry.locations import places, write
from tests.layerstore.registry.test_repository import put_image

pytestmark = pytest.mark.skipif(shutil.which("skopeo") is None, reason="skopeo is not here")

ANN = Credentials(USER, PASSWORD)


def skopeo(base: Path, *arguments: str, given: str = "") -> str:
    """Run skopeo as a user whose files are below `base`; return its output."""
    policy = base / "policy.json"
    policy.write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
    (base / "run").mkdir(exist_ok=True)
    variables = {
        "PATH": os.environ["PATH"],
        "HOME": str(base / "home"),
        "XDG_RUNTIME_DIR": str(base / "run"),
    }
    done = subprocess.run(
        ["skopeo", "--policy", policy, *arguments],
        input=given,
        capture_output=True,
        text=True,
        env=variables,
        timeout=DEADLINE,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_we_find_what_skopeo_stored(tmp_path: Path, password_registry: RegistryServer) -> None:
    where = places(tmp_path, XDG_RUNTIME_DIR=str(tmp_path / "run"))
    host = password_registry.host
    skopeo(
        tmp_path,
        *("login", "--tls-verify=false", "-u", USER, "--password-stdin", host),
        given=PASSWORD,
    )
    assert where.podman_auth.exists()
    files = CredentialFiles(where)
    assert files.find(host, "some/repository") == ANN
    with Client(configuration=Configuration.read(where)) as client:
        client.registry(host).ping()
    assert files.erase(host)
    assert json.loads(where.podman_auth.read_text()) == {"auths": {}}


@pytest.mark.parametrize("only_podmans", [True, False])
def test_skopeo_finds_what_we_stored(
    tmp_path: Path, password_registry: RegistryServer, only_podmans: bool
) -> None:
    where = places(tmp_path, XDG_RUNTIME_DIR=str(tmp_path / "run"))
    if only_podmans:
        write(where.podman_auth, "{}")
    host = password_registry.host
    with Client(configuration=Configuration.read(where)) as client:
        path = client.credential_files.store(host, ANN)
        name = password_registry.name()
        manifest = put_image(client.repository(parse_reference(f"{host}/{name}")), "v1")
    assert path == (where.podman_auth if only_podmans else where.docker_auth)
    raw = skopeo(tmp_path, "inspect", "--raw", "--tls-verify=false", f"docker://{host}/{name}:v1")
    assert sha256_digest(raw.encode()) == manifest.digest


def test_both_read_from_the_mirror_that_is_configured(
    tmp_path: Path, registry_server: RegistryServer
) -> None:
    name = registry_server.name("mirrored/deep")
    text = (
        f'[[registry]]\nprefix = "none.invalid/of"\nlocation = "none.invalid/of"\n'
        f'[[registry.mirror]]\nlocation = "{registry_server.host}/mirrored"\ninsecure = true\n'
    )
    write(tmp_path / "home/.config/containers/registries.conf", text)
    with opened(tmp_path) as client:
        at_mirror = client.repository(parse_reference(f"{registry_server.host}/{name}"))
        manifest = put_image(at_mirror, "v1")
        asked = "none.invalid/of/" + name.removeprefix("mirrored/")
        found = client.repository(parse_reference(asked)).get_manifest("v1")
    raw = skopeo(tmp_path, "inspect", "--raw", f"docker://{asked}:v1")
    assert found.digest == manifest.digest == sha256_digest(raw.encode())
