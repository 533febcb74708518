"""`pyunion search`: docker's table and flags, a registry's list, tags, and what is here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.cli import Cli
from tests.helpers.hostile_registry import Exchange, HostileRegistry
from tests.helpers.images import add_image
from tests.helpers.registry_server import RegistryServer
from tests.mount_tools.cli.commands.conftest import at_home

RESULTS = [
    {
        "name": "team/app",
        "description": "An app\nthat does a great many things for a great many people",
        "star_count": 120,
        "is_official": False,
        "is_automated": True,
    },
    {"name": "base", "description": "The base", "star_count": 7, "is_official": True},
]


@pytest.fixture
def searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The host of a registry that offers a search."""
    at_home(tmp_path, monkeypatch)

    def search(exchange: Exchange) -> bool:
        if exchange.route != "/v1/search":
            return False
        return exchange.reply(200, json.dumps({"results": RESULTS}).encode())

    with HostileRegistry.running() as registry:
        registry.behave(search)
        yield registry.host


def test_the_table_is_dockers(cli: Cli, searched: str) -> None:
    width = len(f"{searched}/team/app") + 3
    cut = "An app that does a great many things for a g…"
    assert cli.ok("search", f"{searched}/app").splitlines() == [
        f"{'NAME':{width}}{'DESCRIPTION':48}STARS     OFFICIAL   AUTOMATED",
        f"{searched + '/team/app':{width}}{cut:48}120                  [OK]",
        f"{searched + '/base':{width}}{'The base':48}7         [OK]       ",
    ]
    assert "great many people" in cli.ok("search", "--no-trunc", f"{searched}/app")


def test_filters(cli: Cli, searched: str) -> None:
    def names(*words: str) -> list[str]:
        said = cli.ok("search", "--format", "{{.Name}}", *words, f"{searched}/app")
        return [line.rpartition("/")[2] for line in said.splitlines()]

    assert names() == ["app", "base"]
    assert names("-f", "stars=50") == names("-s", "50") == ["app"]
    assert names("-f", "is-official=true") == ["base"]
    assert names("--automated") == names("-f", "is-automated=true") == ["app"]
    assert names("--limit", "1") == ["app"]
    found = json.loads(cli.ok("search", "--json", f"{searched}/app"))
    assert found[1] == {
        "name": f"{searched}/base",
        "description": "The base",
        "stars": 7,
        "is_official": True,
        "is_automated": False,
    }


def test_refusals(cli: Cli, searched: str) -> None:
    for limit in ("101", "-1"):
        assert cli.fails("search", "--limit", limit, f"{searched}/x") == (
            f"Error: Limit {limit} is outside the range of [1, 100]\n"
        )
    assert "Invalid filter 'x'" in cli.fails("search", "-f", "x=1", f"{searched}/x")
    assert "invalid filter 'stars=many'" in cli.fails("search", "-f", "stars=many", "x")


def test_a_registry_without_a_search_lists_its_repositories(
    cli: Cli, hub: RegistryServer, tmp_path: Path
) -> None:
    (tmp_path / "tree").mkdir()
    one, other = hub.name("needle"), hub.name("hay")
    for name in (one, other):
        cli.ok("import", str(tmp_path / "tree"), f"{hub.host}/{name}:1")
        cli.ok("push", "-q", f"{hub.host}/{name}:1")
    done = cli("search", f"{hub.host}/{one}")
    assert done.err == (
        f'{hub.host} offers no search: these are its repositories with "{one}" in their name\n'
    )
    assert [line.split()[0] for line in done.out.splitlines()[1:]] == [f"{hub.host}/{one}"]
    listed = cli.ok("search", "--limit", "100", "--format", "{{.Name}}", f"{hub.host}/")
    assert {f"{hub.host}/{one}", f"{hub.host}/{other}"} <= set(listed.splitlines())
    assert cli.ok("search", "--list-tags", "--format", "{{.Tag}}", f"{hub.host}/{one}") == "1\n"
    tags = json.loads(cli.ok("search", "--list-tags", "--json", f"{hub.host}/{one}"))
    assert tags == [{"name": f"{hub.host}/{one}", "tag": "1"}]


def test_a_registry_that_wants_a_login_says_only_that(
    cli: Cli, hub: RegistryServer, password_registry: RegistryServer
) -> None:
    host = password_registry.host
    assert cli.fails("search", f"{host}/app") == (
        f"Error: {host} needs a login, or does not exist: `pyunion login {host}` first\n"
    )


def test_what_is_here_is_searched_too(cli: Cli) -> None:
    label = {"org.opencontainers.image.description": "words"}
    with cli.store() as store:
        add_image(store, {"f": b"x"}, names=["needle:1", "needle:2"], config={"Labels": label})
        add_image(store, {"f": b"y"}, names=["hay:1"])
    said = cli.ok("search", "--local", "eedl").splitlines()
    assert len(said) == 2 and said[1].split() == ["needle", "words", "0"]
