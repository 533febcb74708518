"""`pyunion images`: list images, a line for each of their names.

Source: docker/cli `cli/command/formatter/image.go`; moby `daemon/images/images.go`.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

from layerstore.images.filters import ImageFilters
from layerstore.images.images import Image
from layerstore.oci.reference import familiar, familiar_name
from layerstore.oci.timestamps import format_timestamp, parse_until
from layerstore.store import Store
from mount_tools.cli import framework
from mount_tools.cli.commands import filters
from mount_tools.cli.complete import named
from mount_tools.cli.gotemplate.values import Row
from mount_tools.cli.invocation import Invocation, say
from mount_tools.cli.output.human import age, go_time, human_size, short_id
from mount_tools.cli.output.listing import Listing, as_json
from unionfs.light_typing import NamedTuple

NONE = "<none>"
KNOWN = ("dangling", "label", "before", "since", "reference", "until")

LISTING = Listing(
    {
        "ID": "IMAGE ID",
        "Repository": "REPOSITORY",
        "Tag": "TAG",
        "Digest": "DIGEST",
        "CreatedSince": "CREATED",
        "CreatedAt": "CREATED AT",
        "Size": "SIZE",
        "Containers": "CONTAINERS",
        "VirtualSize": "SIZE",
        "SharedSize": "SHARED SIZE",
        "UniqueSize": "UNIQUE SIZE",
    },
    ("Repository", "Tag", "ID", "CreatedSince", "Size"),
)
WITH_DIGESTS = ("Repository", "Tag", "Digest", "ID", "CreatedSince", "Size")


class ImageRow(Row):
    type_name = "*formatter.imageContext"


class _Flags(NamedTuple):
    """The flags of `images`."""

    all: bool
    digests: bool
    wanted: tuple[tuple[str, str], ...]
    template: str | None
    json: bool
    no_trunc: bool
    quiet: bool


@framework.command("List images", "[REPOSITORY[:TAG]]", most=1, completes=named("image"))
@framework.flag("-a", "--all", says="Show all images (default hides intermediate images)")
@framework.flag("--digests", says="Show digests")
@framework.filters(
    says="Only images that match: dangling=BOOL, label=NAME[=VALUE], before=IMAGE, "
    "since=IMAGE, reference=PATTERN, until=TIME"
)
@framework.template("image")
@framework.flag("--json", "json", says="Print a JSON array, untruncated")
@framework.flag("--no-trunc", says="Don't truncate output")
@framework.flag("-q", "--quiet", says="Only show image IDs")
@framework.as_one(_Flags)
def images(invocation: Invocation, operands: tuple[str, ...], flags: _Flags) -> None:
    """With --json each image has id, tags, digests, parent, created, size (bytes),
    architecture and os."""
    named_by_operand = (("reference", operand) for operand in operands)
    wanted = (*flags.wanted, *named_by_operand)
    found = selected(invocation.store, wanted, intermediate=flags.all)
    if flags.json:
        say(as_json(map(as_object, found)), end="")
        return
    by_digest = flags.digests or "Digest" in (flags.template or "")
    rows = (row for image in found for row in rows_of(image, by_digest, whole=flags.no_trunc))
    plain = WITH_DIGESTS if flags.digests else None
    say(LISTING.text(rows, flags.template, quiet=flags.quiet, plain=plain), end="")


def selected(
    store: Store, wanted: Iterable[tuple[str, str]], *, intermediate: bool = False
) -> list[Image]:
    """Return the images that pass all filters, the newest first.  Raises StoreError."""
    asked = filters.gathered(wanted, KNOWN)
    untils = [parse_until(value, time.time_ns()) for value in asked.get("until", ())]
    chosen = ImageFilters(
        dangling=filters.boolean("dangling", asked["dangling"]) if "dangling" in asked else None,
        labels=filters.label_pairs(asked.get("label", ())),
        before=filters.single("before", asked),
        since=filters.single("since", asked),
        until_ns=min(untils, default=None),
        references=tuple(asked.get("reference", ())),
    )
    return store.images.list(chosen, intermediate=intermediate)


def rows_of(image: Image, by_digest: bool, *, whole: bool) -> Iterator[ImageRow]:
    """Yield a row for each name of the image; one row for an image without a name."""
    size = human_size(image.size, 3)
    common = {
        "ID": str(image.id) if whole else short_id(image.id),
        "CreatedSince": age(image.created_ns) if image.created_ns else "N/A",
        "CreatedAt": go_time(image.created_ns),
        "Size": size,
        "Containers": "N/A",
        "VirtualSize": human_size(image.size),
        "SharedSize": "N/A",
        "UniqueSize": "N/A",
    }
    for repository, tag, digest in _names(image, by_digest):
        yield ImageRow(common, Repository=repository, Tag=tag, Digest=digest)


def _names(image: Image, by_digest: bool) -> Iterator[tuple[str, str, str]]:
    digests: dict[str, list[str]] = {}
    for reference in image.repo_digests:
        digests.setdefault(reference.repository, []).append(str(reference.digest))
    for reference in image.tags:
        shown = familiar_name(reference.repository)
        of_repository = digests.get(reference.repository, []) if by_digest else []
        for digest in of_repository or [NONE]:
            yield shown, str(reference.tag), digest
    tagged = {reference.repository for reference in image.tags}
    for repository, names in digests.items():
        if repository not in tagged:
            for digest in names if by_digest else [""]:
                yield familiar_name(repository), NONE, digest
    if not image.references:
        yield NONE, NONE, NONE


def as_object(image: Image) -> dict[str, str | int | list[str] | None]:
    """Return an image as `--json` prints it."""
    return {
        "id": image.id,
        "tags": [familiar(reference) for reference in image.tags],
        "digests": [familiar(reference) for reference in image.repo_digests],
        "parent": image.parent,
        "created": format_timestamp(image.created_ns),
        "size": image.size,
        "architecture": image.architecture,
        "os": image.os,
    }
