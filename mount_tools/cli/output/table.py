"""Tables: columns left-aligned, at least ten wide, three spaces apart.

Source: docker/cli `cli/command/formatter/formatter.go`, which uses Go's
`tabwriter.NewWriter(output, 10, 1, 3, ' ', 0)`; the last cell of a line is not padded.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mount_tools.cli.output.human import one_line

MINIMUM = 10
PADDING = 3


def aligned(lines: Iterable[Sequence[str]]) -> str:
    """Return lines of cells as text, each line ended by a newline."""
    rows = [[one_line(cell) for cell in line] for line in lines]
    widths = [max(MINIMUM, max(map(len, column)) + PADDING) for column in zip(*rows, strict=True)]
    return "".join(
        "".join(map(str.ljust, row[:-1], widths)) + (row[-1] if row else "") + "\n" for row in rows
    )
