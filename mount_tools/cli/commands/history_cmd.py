"""`pyunion history`: the steps that made an image, the newest first.

Source: docker/cli `cli/command/image/formatter_history.go`.
"""

from __future__ import annotations

from layerstore.images.images import HistoryLine
from layerstore.oci.reference import familiar
from layerstore.oci.timestamps import format_timestamp
from mount_tools.cli import framework
from mount_tools.cli.complete import named
from mount_tools.cli.gotemplate.values import Row, Value
from mount_tools.cli.invocation import Invocation, say
from mount_tools.cli.output.human import age, ellipsis, go_rfc3339, human_size, short_id
from mount_tools.cli.output.listing import Listing, as_json

MISSING = "<missing>"
CREATED_BY_WIDTH = 45

LISTING = Listing(
    {
        "ID": "IMAGE",
        "CreatedSince": "CREATED",
        "CreatedAt": "CREATED AT",
        "CreatedBy": "CREATED BY",
        "Size": "SIZE",
        "Comment": "COMMENT",
    },
    ("ID", "CreatedSince", "CreatedBy", "Size", "Comment"),
)
NOT_HUMAN = ("ID", "CreatedAt", "CreatedBy", "Size", "Comment")


class HistoryRow(Row):
    type_name = "*image.historyContext"


@framework.command(
    "Show the history of an image", "IMAGE", least=1, most=1, completes=named("image")
)
@framework.template("step")
@framework.flag(
    "-H", "--human", says="Print sizes and dates in human readable format (default true)",
    default=True,
)  # fmt: skip
@framework.flag("--json", "json", says="Print a JSON array, untruncated")
@framework.flag("--no-trunc", says="Don't truncate output")
@framework.flag("-q", "--quiet", says="Only show image IDs")
def history(
    invocation: Invocation,
    operands: tuple[str, ...],
    template: str | None,
    human: bool,
    json: bool,
    no_trunc: bool,
    quiet: bool,
) -> None:
    """With --json each step has id, tags, created, created_by, size (bytes) and comment."""
    images = invocation.store.images
    lines = images.history(images.resolve(operands[0]))
    if json:
        say(as_json(map(as_object, lines)), end="")
        return
    rows = [_row(line, human=human, whole=no_trunc) for line in lines]
    say(LISTING.text(rows, template, quiet=quiet, plain=None if human else NOT_HUMAN), end="")


def _row(line: HistoryLine, *, human: bool, whole: bool) -> HistoryRow:
    identity = str(line.id) if line.id else MISSING
    created_by = line.created_by.replace("\t", " ")
    return HistoryRow(
        ID=identity if whole or not line.id else short_id(identity),
        CreatedSince=age(line.created_ns) if line.created_ns else "N/A",
        CreatedAt=go_rfc3339(line.created_ns),
        CreatedBy=created_by if whole else ellipsis(created_by, CREATED_BY_WIDTH),
        Size=human_size(line.size, 3) if human else str(line.size),
        Comment=line.comment,
    )


def as_object(line: HistoryLine) -> dict[str, Value]:
    """Return a step as `--json` prints it."""
    return {
        "id": line.id,
        "tags": [familiar(reference) for reference in line.tags],
        "created": format_timestamp(line.created_ns),
        "created_by": line.created_by,
        "size": line.size,
        "comment": line.comment,
    }
