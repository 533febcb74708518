"""The client with real registries: passwords, tokens, TLS, and what is configured."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from layerstore.oci.reference import parse_reference
from layerstore.registry.client import Client
from layerstore.registry.config import Configuration
from layerstore.registry.credentials import Credentials
from layerstore.registry.errors import (
    Blocked,
    Cancelled,
    CertificateRefused,
    Denied,
    NoConnection,
    Unauthorized,
)
from layerstore.registry.repository import Repository
from tests.helpers.certificates import Authority
from tests.helpers.hostile_registry import Exchange, HostileRegistry
from tests.helpers.registry_server import PASSWORD, USER, RegistryServer, running
from tests.helpers.token_server import REFRESH_TOKEN
from tests.layerstore.registry.clients import described, opened
from tests.layerstore.registry.locations import places, write

ANN = Credentials(USER, PASSWORD)
WRONG = Credentials(USER, "wrong password")


def new(client: Client, server: RegistryServer) -> Repository:
    return client.repository(parse_reference(f"{server.host}/{server.name()}"))


def round_trip(repository: Repository, data: bytes = b"some bytes") -> None:
    """Write a blob and read it again."""
    digest = repository.upload_blob([data])
    assert repository.has_blob(digest)
    assert repository.read_blob(described(data)) == data


class TestPasswords:
    def test_right_ones(self, tmp_path: Path, password_registry: RegistryServer) -> None:
        with opened(tmp_path, ANN) as client:
            round_trip(new(client, password_registry))
            assert client.login(password_registry.host, ANN) == ANN

    def test_none(self, tmp_path: Path, password_registry: RegistryServer) -> None:
        with (
            opened(tmp_path) as client,
            pytest.raises(Unauthorized, match=f"`pyunion login {password_registry.host}` first"),
        ):
            client.registry(password_registry.host).ping()

    def test_wrong_ones(self, tmp_path: Path, password_registry: RegistryServer) -> None:
        with opened(tmp_path, WRONG) as client:
            with pytest.raises(Unauthorized, match="refused the credentials") as caught:
                new(client, password_registry).tags()
            assert WRONG.password not in str(caught.value)
            with pytest.raises(Unauthorized):
                client.login(password_registry.host, WRONG)

    def test_login_where_none_is_wanted(
        self, tmp_path: Path, registry_server: RegistryServer
    ) -> None:
        with opened(tmp_path) as client:
            assert client.login(registry_server.host, ANN) == ANN

    def test_they_are_found_in_the_users_files(
        self, tmp_path: Path, password_registry: RegistryServer
    ) -> None:
        config = Configuration.read(places(tmp_path))
        with Client(configuration=config) as client:
            client.credential_files.store(password_registry.host, ANN)
            round_trip(new(client, password_registry))
            sources = [(Path(source.path).name, source.what) for source in client.sources()]
            assert ("config.json", "credentials") in sources


class TestTokens:
    def test_write_and_read(self, tmp_path: Path, token_registry: RegistryServer) -> None:
        with opened(tmp_path, ANN) as client:
            round_trip(new(client, token_registry))

    def test_everyone_may_read(self, tmp_path: Path, token_registry: RegistryServer) -> None:
        with opened(tmp_path, ANN) as client:
            repository = new(client, token_registry)
            repository.upload_blob([b"public"])
        with opened(tmp_path) as client:
            again = client.repository(parse_reference(repository.name))
            assert again.read_blob(described(b"public")) == b"public"
            with pytest.raises((Unauthorized, Denied)):
                again.upload_blob([b"not mine"])

    def test_one_token_serves_many_requests(
        self, tmp_path: Path, token_registry: RegistryServer
    ) -> None:
        tokens = token_registry.tokens
        assert tokens is not None
        with opened(tmp_path, ANN) as client:
            repository = new(client, token_registry)
            repository.upload_blob([b"first"])
            before = len(tokens.asked)
            for number in range(5):
                repository.upload_blob([b"%d" % number])
            assert len(tokens.asked) == before

    def test_threads_share_one_token(self, tmp_path: Path, token_registry: RegistryServer) -> None:
        tokens = token_registry.tokens
        assert tokens is not None
        with opened(tmp_path, ANN) as client:
            repository = new(client, token_registry)
            client.registry(token_registry.host).ping()
            before = len(tokens.asked)
            threads = [
                threading.Thread(target=repository.upload_blob, args=([b"%d" % number],))
                for number in range(4)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert all(repository.has_blob(described(b"%d" % n).digest) for n in range(4))
            assert len(tokens.asked) == before + 1

    def test_token_that_ends_is_renewed_in_the_middle_of_an_upload(
        self, tmp_path: Path, token_registry: RegistryServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        now = [1000.0]
        monkeypatch.setattr("layerstore.registry.auth.time.monotonic", lambda: now[0])
        with opened(tmp_path, ANN) as client, new(client, token_registry).upload(64) as upload:
            tokens = token_registry.tokens
            assert tokens is not None
            upload.write(bytes(64))
            before = len(tokens.asked)
            now[0] += 1000
            upload.write(bytes(64))
            upload.commit()
            assert len(tokens.asked) == before + 1

    def test_mount_asks_for_both_repositories(
        self, tmp_path: Path, token_registry: RegistryServer
    ) -> None:
        with opened(tmp_path, ANN) as client:
            source, target = new(client, token_registry), new(client, token_registry)
            digest = source.upload_blob([b"shared"])
            assert target.mount_blob(digest, source.name.partition("/")[2]) is None
            assert target.has_blob(digest)

    def test_login_keeps_an_identity_token(
        self, tmp_path: Path, token_registry: RegistryServer
    ) -> None:
        with opened(tmp_path) as client:
            kept = client.login(token_registry.host, ANN)
        assert kept == Credentials(USER, identity_token=REFRESH_TOKEN)
        with opened(tmp_path, kept) as client:
            round_trip(new(client, token_registry))
        tokens = token_registry.tokens
        assert tokens is not None and tokens.asked[-1][0] == "POST"

    def test_identity_token_where_there_is_no_post(
        self, tmp_path: Path, token_registry: RegistryServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(token_registry.tokens, "posts", False)
        with opened(tmp_path, Credentials(USER, identity_token=REFRESH_TOKEN)) as client:
            round_trip(new(client, token_registry))

    def test_wrong_password(self, tmp_path: Path, token_registry: RegistryServer) -> None:
        with opened(tmp_path, WRONG) as client:
            with pytest.raises(Unauthorized, match="refused the credentials") as caught:
                new(client, token_registry).tags()
            assert WRONG.password not in str(caught.value)
            with pytest.raises(Unauthorized):
                client.login(token_registry.host, WRONG)


class TestTls:
    def test_any_certificate_of_this_machine_is_taken(
        self, tmp_path: Path, tls_registry: RegistryServer
    ) -> None:
        with opened(tmp_path, ANN) as client:
            round_trip(new(client, tls_registry))

    def test_authority_of_certs_d(self, tmp_path: Path, tls_registry: RegistryServer) -> None:
        assert tls_registry.authority is not None
        directory = tmp_path / "etc/docker/certs.d" / tls_registry.host
        write(directory / "ca.crt", tls_registry.authority.certificate.read_text())
        with opened(tmp_path, ANN) as client:
            round_trip(new(client, tls_registry))

    def test_another_authority_is_refused(
        self, tmp_path: Path, tls_registry: RegistryServer
    ) -> None:
        other = Authority.make(tmp_path / "other")
        directory = tmp_path / "etc/containers/certs.d" / tls_registry.host
        write(directory / "ca.crt", other.certificate.read_text())
        refused = pytest.raises(CertificateRefused, match=r"is not trusted here .*certs\.d/")
        with opened(tmp_path, ANN) as client, refused:
            new(client, tls_registry).tags()

    def test_client_certificate(self, tmp_path: Path) -> None:
        with running(tmp_path / "server", tls=True, client_certificate=True) as server:
            assert server.authority is not None
            with opened(tmp_path) as client, pytest.raises(CertificateRefused, match="client"):
                client.registry(server.host).ping()
            pair = server.authority.issue("127.0.0.1", "a-client")
            places = ("home/.config/containers", "etc/containers", "etc/docker")
            for number, place in enumerate(places):
                base = tmp_path / str(number)
                directory = base / place / "certs.d" / server.host
                write(directory / "a.cert", pair.certificate.read_text())
                write(directory / "a.key", pair.key.read_text())
                write(directory / "ca.crt", server.authority.certificate.read_text())
                with opened(base) as client:
                    round_trip(new(client, server))


class TestRedirects:
    """A registry that keeps its blobs at another host, as those in a cloud do."""

    @pytest.mark.parametrize("auth", ["htpasswd", "token"])
    def test_credentials_are_for_the_registry_alone(self, tmp_path: Path, auth: str) -> None:
        with HostileRegistry.running() as files:

            def serve(exchange: Exchange) -> bool:
                data = (tmp_path / "server/registry" / exchange.route.lstrip("/")).read_bytes()
                part = f"bytes {exchange.offset}-{len(data) - 1}/{len(data)}"
                if exchange.offset:
                    return exchange.reply(206, data[exchange.offset :], {"Content-Range": part})
                return exchange.reply(200, data)

            files.behave(serve)
            address = f"http://{files.host}"
            with running(tmp_path / "server", auth=auth, blobs_at=address) as server:
                with opened(tmp_path, ANN) as client:
                    repository = new(client, server)
                    round_trip(repository)
                    with repository.open_blob(described(b"some bytes"), 5) as body:
                        assert (body.offset, b"".join(body.chunks())) == (5, b"bytes")
                assert any('"GET /v2/' in line and " 307 " in line for line in server.requests())
        assert files.count("GET") == 2
        assert all("Authorization" not in headers for _, _, headers in files.requests)


class TestConfiguration:
    def test_mirror_is_read_and_the_registry_where_it_lacks_something(
        self,
        tmp_path: Path,
        registry_server: RegistryServer,
        tmp_path_factory: pytest.TempPathFactory,
    ) -> None:
        name = registry_server.name()
        with running(tmp_path / "mirror") as mirror:
            write(
                tmp_path / "etc/containers/registries.conf",
                f'[[registry]]\nlocation = "{registry_server.host}"\n'
                f'[[registry.mirror]]\nlocation = "{mirror.host}"\n'
                '[[registry.mirror]]\nlocation = "127.0.0.1:1"\n',
            )
            with opened(tmp_path) as client:
                both = client.repository(parse_reference(f"{registry_server.host}/{name}"))
                there = client.repository(parse_reference(f"{mirror.host}/{name}"))
                there.upload_blob([b"in the mirror"])
                assert both.read_blob(described(b"in the mirror")) == b"in the mirror"
                both.upload_blob([b"at home"])
                assert both.read_blob(described(b"at home")) == b"at home"
                assert not there.has_blob(described(b"at home").digest)

    def test_mirror_of_docker_hub_in_daemon_json(
        self, tmp_path: Path, registry_server: RegistryServer
    ) -> None:
        name = registry_server.name()
        there = json.dumps({"registry-mirrors": [f"http://{registry_server.host}"]})
        write(tmp_path / "etc/docker/daemon.json", there)
        with opened(tmp_path) as client:
            client.repository(parse_reference(f"{registry_server.host}/{name}")).upload_blob([b"x"])
            asked = client.repository(parse_reference(name))
            assert asked.name == f"docker.io/{name}"
            assert asked.read_blob(described(b"x")) == b"x"

    def test_proxy_of_the_environment(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, registry_server: RegistryServer
    ) -> None:
        write(
            tmp_path / "etc/containers/registries.conf",
            '[[registry]]\nlocation = "far.invalid"\ninsecure = true\n'
            '[[registry]]\nlocation = "near.invalid"\ninsecure = true\n',
        )
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.setenv("NO_PROXY", "near.invalid")
        with HostileRegistry.running() as proxy, opened(tmp_path) as client:
            monkeypatch.setenv("HTTP_PROXY", f"http://ann:secret@{proxy.host}")
            proxy.add_blob(b"by the proxy")
            far = client.repository(parse_reference("far.invalid/x"))
            assert far.read_blob(described(b"by the proxy")) == b"by the proxy"
            asked = len(proxy.requests)
            assert {path.partition("/v2/")[0] for _, path, _ in proxy.requests} == {
                "http://far.invalid"
            }
            with pytest.raises(NoConnection, match=r"near\.invalid has no address"):
                client.repository(parse_reference("near.invalid/x")).tags()
            round_trip(new(client, registry_server))
            assert len(proxy.requests) == asked, "neither of these goes by the proxy"

    def test_blocked_registry(self, tmp_path: Path) -> None:
        write(
            tmp_path / "etc/containers/registries.conf",
            '[[registry]]\nlocation = "bad.example"\nblocked = true',
        )
        with opened(tmp_path) as client, pytest.raises(Blocked):
            client.repository(parse_reference("bad.example/x"))

    def test_nothing_is_read_before_it_is_needed(self, tmp_path: Path) -> None:
        with Client() as client:
            client.cancel()
            with pytest.raises(Cancelled):
                client.registry("localhost:1").ping()

    def test_sources_name_proxies_without_their_values(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HTTPS_PROXY", "http://user:secret@proxy.example:3128")
        with opened(tmp_path) as client:
            said = json.dumps(client.sources())
        assert "$HTTPS_PROXY" in said and "secret" not in said


def test_host_that_is_not_there(tmp_path: Path) -> None:
    with opened(tmp_path) as client:
        with pytest.raises(NoConnection, match=r"127\.0\.0\.1:1 refuses connections"):
            client.registry("127.0.0.1:1").ping()
        with pytest.raises(NoConnection, match=r"the host none\.invalid has no address"):
            client.registry("none.invalid").ping()
