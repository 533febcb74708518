"""Finding, storing and erasing credentials over all places."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from layerstore.registry.credential_files import CredentialFiles
from layerstore.registry.credentials import Credentials
from layerstore.registry.locations import Locations
from tests.layerstore.registry.helpers import make_helper
from tests.layerstore.registry.locations import places, write
from tests.layerstore.registry.test_auth_files import packed

ANN = Credentials("ann", "correct horse")
HUB = "https://index.docker.io/v1/"


@pytest.fixture
def where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Locations:
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    return places(tmp_path, XDG_RUNTIME_DIR=str(tmp_path / "run"))


def auths(path: Path) -> dict[str, object]:
    found = json.loads(path.read_text())["auths"]
    assert isinstance(found, dict)
    return found


def test_first_login_makes_dockers_file(where: Locations) -> None:
    files = CredentialFiles(where)
    assert files.find("r.example") is None
    assert files.store("r.example", ANN) == where.docker_auth
    assert files.store("docker.io", ANN) == where.docker_auth
    assert list(auths(where.docker_auth)) == ["r.example", HUB]
    assert files.find("r.example", "a/b") == ANN
    assert files.find("registry-1.docker.io", "library/x") == ANN
    assert stat.S_IMODE(where.docker_auth.stat().st_mode) == 0o600
    assert stat.S_IMODE(where.docker_auth.parent.stat().st_mode) == 0o700


def test_podmans_file_is_used_where_only_it_exists(where: Locations) -> None:
    write(where.podman_auth, "{}")
    files = CredentialFiles(where)
    assert files.store("docker.io", ANN) == where.podman_auth
    assert list(auths(where.podman_auth)) == ["docker.io"]
    assert files.find("docker.io") == ANN


def test_login_replaces_the_entry_that_would_hide_it(where: Locations) -> None:
    old = json.dumps({"auths": {"r.example": packed("old"), "other.example": packed("o")}})
    write(where.podman_auth, old)
    write(where.docker_auth, "{}")
    files = CredentialFiles(where)
    assert files.store("r.example", ANN) == where.podman_auth
    assert files.find("r.example") == ANN
    assert "other.example" in auths(where.podman_auth)


def test_identity_token_is_kept_as_docker_keeps_it(where: Locations) -> None:
    files = CredentialFiles(where)
    files.store("r.example", Credentials("ann", identity_token="tok"))
    assert auths(where.docker_auth)["r.example"] == {**packed("ann", ""), "identitytoken": "tok"}
    assert files.find("r.example") == Credentials("ann", identity_token="tok")


def test_logout_erases_from_each_file(where: Locations) -> None:
    for path in (where.podman_auth, where.docker_auth):
        write(path, json.dumps({"auths": {"r.example": packed("x"), "o.example": packed("o")}}))
    files = CredentialFiles(where)
    assert files.erase("r.example")
    assert files.find("r.example") is None
    assert not files.erase("r.example")
    assert list(auths(where.podman_auth)) == list(auths(where.docker_auth)) == ["o.example"]


def test_helper_for_one_host_comes_before_the_entries(where: Locations) -> None:
    log = make_helper(where.home.parent / "bin")
    write(
        where.docker_auth,
        json.dumps({"credHelpers": {"r.example": "tests"}, "auths": {"o.example": packed("o")}}),
    )
    files = CredentialFiles(where)
    assert files.store("r.example", ANN) is None
    assert auths(where.docker_auth)["r.example"] == {}
    assert files.find("r.example", "a/b") == ANN
    assert files.find("o.example") == Credentials("o", "s3cret:with:colons")
    assert files.erase("r.example") and files.find("r.example") is None
    assert "o.example" not in log.read_text()


def test_helper_for_all_hosts_gets_dockers_name_of_the_hub(where: Locations) -> None:
    log = make_helper(where.home.parent / "bin")
    write(where.docker_auth, json.dumps({"credsStore": "tests"}))
    files = CredentialFiles(where)
    assert files.store("docker.io", ANN) is None
    assert files.find("registry-1.docker.io", "library/x") == ANN
    assert "correct horse" not in where.docker_auth.read_text()
    assert f"store {HUB}" in log.read_text()


def test_helpers_of_registries_conf_are_asked_in_their_order(where: Locations) -> None:
    make_helper(where.home.parent / "bin", "first")
    write(where.docker_auth, json.dumps({"auths": {"r.example": packed("file")}}))
    files = CredentialFiles(where, ("first", "containers-auth.json"))
    found = files.find("r.example")
    assert found is not None and found.username == "file"
    assert CredentialFiles(where, ("first",)).find("r.example") is None


def test_older_file_is_read(where: Locations) -> None:
    write(where.home / ".dockercfg", json.dumps({"https://r.example/v1/": packed("older")}))
    found = CredentialFiles(where).find("r.example")
    assert found is not None and found.username == "older"


def test_files_that_exist_are_listed(where: Locations) -> None:
    write(where.docker_auth, "{}")
    assert CredentialFiles(where).files() == [where.docker_auth]
