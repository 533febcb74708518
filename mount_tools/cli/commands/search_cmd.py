"""`pyunion search`: find images in a registry or in the store.

Source: docker/cli `cli/command/registry/search.go`, `formatter_search.go`; podman-search(1)
for --list-tags.
Differs from docker: a registry without a search is asked for the names of all repositories,
and those that contain the term are shown.
"""

from __future__ import annotations

from collections.abc import Callable

from layerstore.errors import StoreError, shown
from layerstore.oci.reference import DEFAULT_DOMAIN, familiar_name, parse_reference
from mount_tools.cli import framework
from mount_tools.cli.commands import filters
from mount_tools.cli.commands.registry_client import registry_client
from mount_tools.cli.gotemplate.values import Row
from mount_tools.cli.invocation import Invocation, note, say
from mount_tools.cli.output.listing import Listing, as_json
from unionfs.light_typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from layerstore.registry.catalog import Found
    from layerstore.registry.client import Client

LIMIT, MOST = 25, 100
_DESCRIPTION = "org.opencontainers.image.description"
_WIDTH = 45
_KNOWN = frozenset(("stars", "is-official", "is-automated"))

LISTING = Listing(
    {
        "Name": "NAME",
        "Description": "DESCRIPTION",
        "StarCount": "STARS",
        "IsOfficial": "OFFICIAL",
        "IsAutomated": "AUTOMATED",
    },
    ("Name", "Description", "StarCount", "IsOfficial", "IsAutomated"),
    "Name",
)
TAGS = Listing({"Name": "NAME", "Tag": "TAG"}, ("Name", "Tag"), "Tag")


class _Flags(NamedTuple):
    """The flags of `search`."""

    wanted: tuple[tuple[str, str], ...]
    stars: int
    automated: bool
    limit: int
    no_trunc: bool
    template: str | None
    json: bool
    list_tags: bool
    local: bool


@framework.command("Search a registry for images", "TERM", least=1, most=1)
@framework.filters("-f", "--filter", says="Keep stars=N, is-official=BOOL, is-automated=BOOL")
@framework.number("-s", "--stars", says="Keep results with at least this many stars", default=0)
@framework.flag("--automated", says="Keep automated builds only")
@framework.number("--limit", says="Max number of search results, 1 to 100 (default 25)", default=0)
@framework.flag("--no-trunc", says="Don't truncate output")
@framework.text("--format", "template", says="Print each result by a Go template")
@framework.flag("--json", "json", says="Print a JSON array")
@framework.flag("--list-tags", says="List the tags of the repository TERM")
@framework.flag("--local", says="Search the images of the store")
@framework.as_one(_Flags)
def search(invocation: Invocation, operands: tuple[str, ...], flags: _Flags) -> None:
    """TERM is searched in Docker Hub, HOST/TERM in the registry HOST. If a registry offers no
    search, the names of its repositories are searched."""
    if flags.limit and not 1 <= flags.limit <= MOST:
        raise StoreError(f"Limit {flags.limit} is outside the range of [1, {MOST}]")
    term = operands[0]
    if flags.list_tags:
        _list_tags(term, flags)
        return
    keep = _filter(flags)
    limit = flags.limit or LIMIT
    if flags.local:
        found = _local(invocation, term)
    else:
        with registry_client() as client:
            found = _remote(client, term, limit)
    results = [result for result in found if keep(result)][:limit]
    if flags.json:
        say(as_json(result._asdict() for result in results), end="")
        return
    rows = (_row(result, whole=flags.no_trunc) for result in results)
    say(LISTING.text(rows, flags.template), end="")


def _filter(flags: _Flags) -> Callable[[Found], bool]:
    """Return a function that says whether a result passes all filters.  Raises StoreError."""
    asked, stars = filters.gathered(flags.wanted, _KNOWN), flags.stars
    for value in asked.get("stars", ()):
        if not value.isascii() or not value.isdecimal():
            raise StoreError(f"invalid filter 'stars={shown(value)}'")
        stars = max(stars, int(value[:18]))
    official, built = (
        filters.boolean(name, asked[name]) if name in asked else None
        for name in ("is-official", "is-automated")
    )
    if flags.automated:
        built = True

    def keep(result: Found) -> bool:
        return (
            result.stars >= stars
            and official in (None, result.is_official)
            and built in (None, result.is_automated)
        )

    return keep


def _remote(client: Client, text: str, limit: int) -> list[Found]:
    from layerstore.registry.catalog import Found
    from layerstore.registry.errors import Missing, Refused

    domain, term = _split(text)
    registry = client.registry(domain)
    prefix = "" if domain == DEFAULT_DOMAIN else f"{domain}/"
    try:
        if domain != DEFAULT_DOMAIN and not term:
            raise Missing(f"{domain} is asked for all that it has", domain)
        return [found._replace(name=prefix + found.name) for found in registry.search(term, limit)]
    except (Missing, Refused):
        if domain == DEFAULT_DOMAIN:
            raise
    found = [Found(prefix + name) for name in registry.catalog() if term in name]
    if term:
        note(f'{domain} offers no search: these are its repositories with "{term}" in their name')
    return found


def _split(text: str) -> tuple[str, str]:
    """Return the registry and the term that the user means."""
    first, _, rest = text.partition("/")
    is_host = "." in first or ":" in first or first == "localhost"
    return (first, rest) if is_host and first != DEFAULT_DOMAIN else (DEFAULT_DOMAIN, text)


def _local(invocation: Invocation, term: str) -> list[Found]:
    from layerstore.registry.catalog import Found

    found: dict[str, Found] = {}
    for image in invocation.store.images.all():
        for tag in image.tags:
            name = familiar_name(tag.repository)
            if term in name and name not in found:
                labels = invocation.store.images.config(image).labels
                found[name] = Found(name, labels.get(_DESCRIPTION, ""))
    return [found[name] for name in sorted(found)]


def _list_tags(text: str, flags: _Flags) -> None:
    name = parse_reference(text)
    with registry_client() as client:
        tags = client.repository(name).tags()
    shown_name = familiar_name(name.repository)
    rows = [{"Name": shown_name, "Tag": tag} for tag in tags[: flags.limit or None]]
    if flags.json:
        say(as_json([{"name": row["Name"], "tag": row["Tag"]} for row in rows]), end="")
        return
    say(TAGS.text((Row(row) for row in rows), flags.template), end="")


def _row(result: Found, *, whole: bool) -> Row:
    text = result.description.replace("\n", " ").replace("\r", " ").strip()
    if not whole and len(text) > _WIDTH:
        text = text[: _WIDTH - 1] + "…"
    return Row(
        {
            "Name": result.name,
            "Description": text,
            "StarCount": str(result.stars),
            "IsOfficial": "[OK]" if result.is_official else "",
            "IsAutomated": "[OK]" if result.is_automated else "",
        }
    )
