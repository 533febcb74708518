"""Files with credentials: which entry is meant, and how a file is replaced."""

from __future__ import annotations

import base64
import json
import os
import stat
from pathlib import Path

import pytest

from layerstore.oci.json_values import Object
from layerstore.registry.auth_files import (
    AuthFile,
    change_auths,
    key_for,
    read_auth_file,
    read_auth_files,
)
from layerstore.registry.credentials import Credentials
from layerstore.registry.errors import BadConfiguration
from layerstore.registry.locations import read_file
from tests.layerstore.registry.locations import places, write

SECRET = "s3cret:with:colons"


def packed(user: str, password: str = SECRET) -> Object:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def file_of(*keys: str) -> AuthFile:
    return AuthFile(Path("/x.json"), {"auths": {key: packed(key.replace(":", "")) for key in keys}})


@pytest.mark.parametrize(
    ("keys", "host", "path", "found"),
    [
        (["r.example"], "r.example", "a/b", "r.example"),
        (["r.example", "r.example/a"], "r.example", "a/b", "r.example/a"),
        (["r.example/a", "r.example/a/b"], "r.example", "a/b", "r.example/a/b"),
        (["r.example/a"], "r.example", "ab", None),
        (["r.example/a"], "r.example", "", None),
        (["https://r.example"], "r.example", "a", "https://r.example"),
        (["https://r.example/v1/"], "r.example", "a", "https://r.example/v1/"),
        (["http://r.example/v2/", "r.example"], "r.example", "a", "r.example"),
        (["r.example:5000"], "r.example", "a", None),
        (["r.example"], "r.example:443", "a", None),
        (
            ["https://index.docker.io/v1/"],
            "registry-1.docker.io",
            "library/x",
            "https://index.docker.io/v1/",
        ),
        (["docker.io"], "registry-1.docker.io", "library/x", "docker.io"),
        (["docker.io/ann", "docker.io"], "docker.io", "ann/x", "docker.io/ann"),
        (["index.docker.io"], "docker.io", "ann/x", "index.docker.io"),
    ],
)
def test_most_exact_entry_is_meant(
    keys: list[str], host: str, path: str, found: str | None
) -> None:
    credentials = file_of(*keys).entry(host, path)
    assert credentials == (Credentials(found.replace(":", ""), SECRET) if found else None)


def test_identity_token_and_plain_fields() -> None:
    file = AuthFile(
        Path("/x"),
        {
            "auths": {
                "a.example": {**packed("ann", ""), "identitytoken": "tok"},
                "b.example": {"username": "ann", "password": "pw"},
                "c.example": {},
            }
        },
    )
    assert file.entry("a.example", "") == Credentials("ann", identity_token="tok")
    assert file.entry("b.example", "") == Credentials("ann", "pw")
    assert file.entry("c.example", "") is None


@pytest.mark.parametrize(
    "fields",
    [
        {"auths": []},
        {"auths": {"r.example": SECRET}},
        {"auths": {"r.example": {"auth": SECRET}}},
        {"auths": {"r.example": {"auth": base64.b64encode(b"nocolon").decode()}}},
        {"auths": {"r.example": {"auth": base64.b64encode(b"\xff:\xff").decode()}}},
        {"auths": {"r.example": {"auth": 5}}},
    ],
)
def test_wrong_entry_is_named_without_its_secret(fields: dict[str, object]) -> None:
    file = AuthFile(Path("/x.json"), json.loads(json.dumps(fields)))
    with pytest.raises(BadConfiguration, match=r'/x\.json has a wrong entry "') as caught:
        file.entry("r.example", "")
    assert SECRET not in str(caught.value) and SECRET not in repr(file)


def test_files_in_the_order_of_the_manual(tmp_path: Path) -> None:
    where = places(tmp_path, XDG_RUNTIME_DIR=str(tmp_path / "run"))
    write(where.home / ".dockercfg", json.dumps({"r.example": packed("4")}))
    for path in (where.docker_auth, where.config / "containers/auth.json", where.podman_auth):
        write(path, json.dumps({"auths": {"r.example": packed(path.parent.name)}}))
    users = [file.entry("r.example", "") for file in read_auth_files(where)]
    assert [user.username if user else "" for user in users] == [
        "containers",
        "containers",
        ".docker",
        "4",
    ]


def test_file_that_is_no_json_is_named_without_its_text(tmp_path: Path) -> None:
    path = write(tmp_path / "auth.json", '{"auths": {"x": ' + SECRET)
    with pytest.raises(BadConfiguration, match=r"auth\.json is not a JSON object") as caught:
        read_auth_file(path)
    assert SECRET not in str(caught.value)


def test_file_of_another_user_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = places(tmp_path, XDG_RUNTIME_DIR=str(tmp_path / "run"))
    for path in (where.podman_auth, where.docker_auth):
        write(path, json.dumps({"auths": {"r.example": packed(path.parent.name)}}))

    def read(path: Path) -> bytes | None:
        if path == where.podman_auth:
            raise PermissionError
        return read_file(path)

    monkeypatch.setattr("layerstore.registry.auth_files.read_file", read)
    assert [file.path for file in read_auth_files(where)] == [where.docker_auth]
    with pytest.raises(BadConfiguration, match="cannot be read by this user"):
        read_auth_file(where.podman_auth)


def test_change_keeps_the_rest_and_the_file_is_private(tmp_path: Path) -> None:
    path = write(tmp_path / "new" / "config.json", '{"auths": {"a": {}}, "psFormat": "{{.ID}}"}')
    path.chmod(0o644)
    change_auths(path, lambda auths: auths.update(b=packed("ann")))
    assert json.loads(path.read_text()) == {
        "auths": {"a": {}, "b": packed("ann")},
        "psFormat": "{{.ID}}",
    }
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(path.parent) == ["config.json"]


def test_link_to_a_file_stays_a_link(tmp_path: Path) -> None:
    real = write(tmp_path / "dotfiles" / "config.json", "{}")
    (tmp_path / "config.json").symlink_to(real)
    change_auths(tmp_path / "config.json", lambda auths: auths.update(a={}))
    assert (tmp_path / "config.json").is_symlink()
    assert json.loads(real.read_text()) == {"auths": {"a": {}}}


def test_failed_change_leaves_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "config.json", "{}")

    def fail(_: object) -> None:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        change_auths(path, fail)
    assert path.read_text() == "{}" and os.listdir(tmp_path) == ["config.json"]


def test_key_of_docker_hub_depends_on_the_file(tmp_path: Path) -> None:
    where = places(tmp_path)
    assert key_for("docker.io", where.docker_auth, where) == "https://index.docker.io/v1/"
    assert key_for("docker.io", where.podman_auth, where) == "docker.io"
    assert key_for("r.example:5000", where.docker_auth, where) == "r.example:5000"
