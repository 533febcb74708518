"""Certificates by host, as docker and podman lay them out."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from layerstore.registry.certificates import context_for
from layerstore.registry.errors import BadConfiguration
from tests.helpers.certificates import Authority


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.make(tmp_path_factory.mktemp("authority") / "a")


def test_host_is_checked_by_the_trust_store() -> None:
    context = context_for("r.example", [], insecure=False)
    assert context.verify_mode == ssl.CERT_REQUIRED and context.check_hostname
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2


def test_host_whose_directory_cannot_be_looked_at(tmp_path: Path) -> None:
    context = context_for("r" * 300, [tmp_path], insecure=False)
    assert context.verify_mode == ssl.CERT_REQUIRED


def test_insecure_host_may_have_any_certificate() -> None:
    context = context_for("r.example", [], insecure=True)
    assert context.verify_mode == ssl.CERT_NONE


def test_authority_makes_an_insecure_host_checked(tmp_path: Path, authority: Authority) -> None:
    host = tmp_path / "r.example:5000"
    host.mkdir()
    (host / "ca.crt").write_bytes(authority.certificate.read_bytes())
    before = context_for("r.example", [tmp_path], insecure=False).cert_store_stats()["x509_ca"]
    context = context_for("r.example:5000", [tmp_path], insecure=True)
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.cert_store_stats()["x509_ca"] == before + 1


def test_first_directory_of_the_host_is_the_only_one(tmp_path: Path, authority: Authority) -> None:
    first, second = tmp_path / "one", tmp_path / "two"
    (first / "r.example").mkdir(parents=True)
    (second / "r.example").mkdir(parents=True)
    (second / "r.example" / "bad.crt").write_text("no certificate")
    context_for("r.example", [tmp_path / "none", first, second], insecure=False)
    with pytest.raises(BadConfiguration, match=r"bad\.crt cannot be used"):
        context_for("r.example", [second, first], insecure=False)


def test_client_certificate_needs_its_key(tmp_path: Path, authority: Authority) -> None:
    pair = authority.issue("127.0.0.1", "client")
    host = tmp_path / "r.example"
    host.mkdir()
    (host / "a.cert").write_bytes(pair.certificate.read_bytes())
    with pytest.raises(BadConfiguration, match=r"a\.cert has no a\.key"):
        context_for("r.example", [tmp_path], insecure=False)
    (host / "a.key").write_bytes(pair.key.read_bytes())
    context_for("r.example", [tmp_path], insecure=False)
    (host / "a.cert").unlink()
    with pytest.raises(BadConfiguration, match=r"a\.key has no a\.cert"):
        context_for("r.example", [tmp_path], insecure=False)
