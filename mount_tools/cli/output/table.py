"""Tables: columns left-aligned, at least ten wide, three spaces apart.

Source: docker/cli `cli/command/formatter/formatter.go`, which uses Go's
`tabwriter.NewWriter(output, 10, 1, 3, ' ', 0)`; the last cell of a line is not padded.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from mount_tools.cli.output.terminal import for_stream

MINIMUM = 10
PADDING = 3

_ONE_LINE = str.maketrans("\n\t", "  ")


def aligned(lines: Iterable[Sequence[str]], minimum: int = MINIMUM) -> str:
    """Return lines of cells as text for stdout, each line ended by a newline.

    A column takes at least `minimum` characters, as docker's commands have it.
    A cell has one line: its line feeds and tabs become spaces.  On a terminal its control
    characters are escaped before it is measured.
    """
    rows = [[for_stream(cell.translate(_ONE_LINE), sys.stdout) for cell in line] for line in lines]
    widths = [max(minimum, max(map(len, column)) + PADDING) for column in zip(*rows, strict=True)]
    return "".join(
        "".join(map(str.ljust, row[:-1], widths)) + (row[-1] if row else "") + "\n" for row in rows
    )
