"""registries.conf as podman reads it, both formats, and files that are wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from layerstore.registry.errors import BadConfiguration
from layerstore.registry.registries_conf import (
    Mirror,
    PullFrom,
    RegistriesConf,
    RegistryEntry,
    read_registries_conf,
)
from tests.layerstore.registry.locations import places, write

FULL = """
unqualified-search-registries = ["docker.io"]
credential-helpers = ["containers-auth.json", "secret"]
[aliases]
"fedora" = "registry.example/fedora"
[[registry]]
prefix = "example.com/foo"
location = "internal.example/bar/"
insecure = true
[[registry.mirror]]
location = "mirror.example:5000/x"
insecure = true
[[registry.mirror]]
location = "other.example"
pull-from-mirror = "digest-only"
[[registry]]
location = "bad.example"
blocked = true
"""


def read(base: Path, text: str) -> RegistriesConf:
    write(base / "etc/containers/registries.conf", text)
    return read_registries_conf(places(base))


def test_everything_that_a_file_says(tmp_path: Path) -> None:
    conf = read(tmp_path, FULL)
    path = tmp_path / "etc/containers/registries.conf"
    assert conf.registries == {
        "example.com/foo": RegistryEntry(
            "example.com/foo",
            "internal.example/bar",
            insecure=True,
            mirrors=(
                Mirror("mirror.example:5000/x", insecure=True),
                Mirror("other.example", pull_from=PullFrom.DIGEST_ONLY),
            ),
            file=path,
        ),
        "bad.example": RegistryEntry("bad.example", "bad.example", blocked=True, file=path),
    }
    assert conf.aliases == {"fedora": "registry.example/fedora"}
    assert conf.search == ("docker.io",)
    assert conf.helpers == ("containers-auth.json", "secret")
    assert conf.files == (path,)


def test_files_of_the_directory_come_later_and_replace(tmp_path: Path) -> None:
    write(tmp_path / "etc/containers/registries.conf.d/20.conf", '[aliases]\nx = "two.example/x"')
    write(
        tmp_path / "etc/containers/registries.conf.d/10.conf",
        '[aliases]\nx = "one.example/x"\ny = "y.example/y"\n'
        '[[registry]]\nlocation = "bad.example"\nblocked = false',
    )
    write(tmp_path / "etc/containers/registries.conf.d/note.txt", "no TOML")
    conf = read(tmp_path, FULL)
    assert conf.aliases["x"] == "two.example/x" and conf.aliases["y"] == "y.example/y"
    assert not conf.registries["bad.example"].blocked
    assert len(conf.files) == 3


def test_file_of_the_user_replaces_the_machines(tmp_path: Path) -> None:
    write(
        tmp_path / "home/.config/containers/registries.conf",
        '[[registry]]\nlocation = "own.example"',
    )
    assert list(read(tmp_path, FULL).registries) == ["own.example"]


def test_variable_names_the_only_file(tmp_path: Path) -> None:
    own = write(tmp_path / "own.conf", '[[registry]]\nlocation = "own.example"')
    write(tmp_path / "etc/containers/registries.conf", FULL)
    conf = read_registries_conf(places(tmp_path, CONTAINERS_REGISTRIES_CONF=str(own)))
    assert list(conf.registries) == ["own.example"]


def test_chosen_short_names_win(tmp_path: Path) -> None:
    write(
        tmp_path / "var/cache/containers/short-name-aliases.conf",
        '[aliases]\nfedora = "chosen.example/fedora"',
    )
    user = tmp_path / "home/.cache/containers/short-name-aliases.conf"
    write(user, '[aliases]\nfedora = "chosen.example/fedora"')
    assert read(tmp_path, FULL).aliases["fedora"] == "chosen.example/fedora"


def test_older_format(tmp_path: Path) -> None:
    conf = read(
        tmp_path,
        "[registries.search]\nregistries = ['a.example']\n"
        "[registries.insecure]\nregistries = ['b.example:5000']\n"
        "[registries.block]\nregistries = ['c.example']\n",
    )
    assert conf.search == ("a.example",)
    assert conf.registries["b.example:5000"].insecure
    assert conf.registries["c.example"].blocked


@pytest.mark.parametrize(
    ("prefix", "name", "matched"),
    [
        ("a.example", "a.example/x", 9),
        ("a.example", "a.example.org/x", 0),
        ("a.example", "a.example:5000/x", 0),
        ("a.example/x", "a.example/x:tag", 11),
        ("a.example/x", "a.example/x@sha256:0", 11),
        ("a.example/x", "a.example/xy", 0),
        ("a.example/x", "a.example/x/y", 11),
        ("*.example", "a.example/x", 9),
        ("*.example", "b.a.example:5000/x", 11),
        ("*.example", "example/x", 0),
        ("*.example", "a.example.org/x.example", 0),
    ],
)
def test_prefix_ends_at_a_component(prefix: str, name: str, matched: int) -> None:
    assert RegistryEntry(prefix, "").matched(name) == matched


@pytest.mark.parametrize(
    "text",
    [
        "no = [toml",
        "[[registry]]\nlocation = 'https://a.example'",
        "[[registry]]\nlocation = 5",
        "[[registry]]\nprefix = 'a.example'",
        "[[registry]]\nprefix = '*.a.example/x'\nlocation = 'b.example'",
        "registry = 'a.example'",
        "registry = ['a.example']",
        "[[registry]]\nlocation = 'a.example'\ninsecure = 'yes'",
        "[[registry]]\nlocation = 'a.example'\n[[registry.mirror]]\nlocation = 'a b'",
        "[[registry]]\nlocation = 'a.example'\n[[registry.mirror]]\nlocation = 'b.example'\n"
        "pull-from-mirror = 'never'",
        "[[registry]]\nlocation = 'a.example'\nmirror-by-digest-only = true\n"
        "[[registry.mirror]]\nlocation = 'b.example'\npull-from-mirror = 'all'",
        "[aliases]\nx = 5",
        "unqualified-search-registries = 'a'",
        "[registries.search]\nregistries = ['a.example']\n[[registry]]\nlocation = 'b.example'",
        "[registries.insecure]\nregistries = ['a b']",
    ],
)
def test_file_that_is_wrong_is_named(tmp_path: Path, text: str) -> None:
    with pytest.raises(BadConfiguration, match=r"registries\.conf"):
        read(tmp_path, text)
