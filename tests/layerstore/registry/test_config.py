"""Where a repository is read and written, by what the machine is configured with."""

from __future__ import annotations

from pathlib import Path

import pytest

from layerstore.oci.reference import parse_reference
from layerstore.registry.config import Configuration
from layerstore.registry.endpoints import Endpoint
from layerstore.registry.errors import BadConfiguration, Blocked
from tests.layerstore.registry.locations import places, write

DIGEST = "sha256:" + "ab" * 32
CONF = """
[aliases]
"fedora" = "registry.example/fedora"
"own/tool" = "registry.example/tools/tool"
"broken" = "UPPER"
[[registry]]
location = "docker.io"
[[registry.mirror]]
location = "mirror.example/hub"
[[registry.mirror]]
location = "digests.example"
pull-from-mirror = "digest-only"
[[registry.mirror]]
location = "tags.example"
pull-from-mirror = "tag-only"
[[registry]]
prefix = "moved.example/team"
location = "new.example:5000/other"
insecure = true
[[registry]]
prefix = "moved.example/team/closed"
location = "moved.example/team/closed"
blocked = true
[[registry]]
prefix = "*.dev.example"
insecure = true
"""


@pytest.fixture
def config(tmp_path: Path) -> Configuration:
    write(tmp_path / "etc/containers/registries.conf", CONF)
    write(tmp_path / "etc/docker/daemon.json", '{"insecure-registries": ["unread.example"]}')
    return Configuration.read(places(tmp_path))


@pytest.mark.parametrize(
    ("name", "endpoint"),
    [
        ("debian", Endpoint("registry-1.docker.io", "library/debian")),
        ("registry.example/a/b", Endpoint("registry.example", "a/b")),
        ("moved.example/team/x", Endpoint("new.example:5000", "other/x", insecure=True)),
        ("moved.example/elsewhere", Endpoint("moved.example", "elsewhere")),
        ("a.dev.example/x", Endpoint("a.dev.example", "x", insecure=True)),
        ("a.dev.example:5000/x", Endpoint("a.dev.example:5000", "x", insecure=True)),
        ("localhost/x", Endpoint("localhost", "x", insecure=True)),
        ("localhost:5000/x", Endpoint("localhost:5000", "x", insecure=True)),
        ("127.1.2.3:5000/x", Endpoint("127.1.2.3:5000", "x", insecure=True)),
        ("[::1]:5000/x", Endpoint("[::1]:5000", "x", insecure=True)),
        ("localhost.example/x", Endpoint("localhost.example", "x")),
    ],
)
def test_home_of_a_repository(config: Configuration, name: str, endpoint: Endpoint) -> None:
    assert config.home(parse_reference(name)) == endpoint


def test_blocked_registry_is_named_with_its_file(config: Configuration) -> None:
    with pytest.raises(Blocked, match=r"blocked by the entry moved\.example/team/closed in /"):
        config.home(parse_reference("moved.example/team/closed/x"))


def test_mirrors_in_order_and_by_the_kind_of_pull(config: Configuration) -> None:
    first = Endpoint("mirror.example", "hub/library/debian")
    assert config.mirrors(parse_reference("debian:12")) == [
        first,
        Endpoint("tags.example", "library/debian"),
    ]
    assert config.mirrors(parse_reference(f"debian@{DIGEST}")) == [
        first,
        Endpoint("digests.example", "library/debian"),
    ]
    assert config.mirrors(parse_reference("registry.example/x")) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("fedora", "registry.example/fedora"),
        ("fedora:40", "registry.example/fedora:40"),
        (f"fedora@{DIGEST}", f"registry.example/fedora@{DIGEST}"),
        ("own/tool:1", "registry.example/tools/tool:1"),
        ("debian", "docker.io/library/debian"),
        ("localhost:5000/fedora", "localhost:5000/fedora"),
    ],
)
def test_short_names(config: Configuration, text: str, found: str) -> None:
    assert str(config.resolve(text)) == found


def test_alias_of_what_is_no_name(config: Configuration) -> None:
    with pytest.raises(BadConfiguration, match='"broken" is an alias of an invalid name'):
        config.resolve("broken")


def test_insecure_hosts(config: Configuration) -> None:
    assert config.is_insecure("new.example:5000")
    assert config.is_insecure("x.dev.example")
    assert config.is_insecure("localhost:5000")
    for host in ("new.example", "moved.example", "registry-1.docker.io", "unread.example"):
        assert not config.is_insecure(host)


def test_sources_say_what_was_read(config: Configuration, tmp_path: Path) -> None:
    write(tmp_path / "etc/docker/certs.d/x.example/ca.crt", "")
    said = [(source.path.removeprefix(str(tmp_path)), source.what) for source in config.sources()]
    assert said == [
        ("/etc/containers/registries.conf", "registries"),
        ("/etc/docker/daemon.json", "not read, since there is a registries.conf"),
        ("/etc/docker/certs.d", "certificates"),
    ]


def test_dockers_file_counts_where_podmans_is_not(tmp_path: Path) -> None:
    write(
        tmp_path / "etc/docker/daemon.json",
        '{"insecure-registries": ["r.example:5000", "10.0.0.0/8"], '
        '"registry-mirrors": ["https://m.example"]}',
    )
    config = Configuration.read(places(tmp_path))
    assert config.home(parse_reference("r.example:5000/x")).insecure
    assert config.home(parse_reference("10.9.9.9/x")).insecure
    assert not config.home(parse_reference("r.example/x")).insecure
    assert config.mirrors(parse_reference("debian")) == [Endpoint("m.example", "library/debian")]
    assert [source.what for source in config.sources()] == ["registries"]
