"""Listings: one set of rows as a table, as ids, through a template, or as JSON.

Each kind of listing is a `Listing`: its fields with their headings, and the fields of the
default table.

Source: docker/cli `cli/command/formatter/formatter.go`.
Differs from docker 20.10: `--format json` prints one object a line, as docker does since
23.0; docker 20.10 prints the word "json".  `--json` prints one JSON array with whole ids,
bytes and RFC 3339 times; its field names are stable.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from mount_tools.cli.gotemplate.values import Row, Value
from mount_tools.cli.output.table import aligned
from unionfs.light_typing import NamedTuple

TABLE = "table"
_NOT_UTF8 = re.compile("[\ud800-\udfff]")


class Listing(NamedTuple):
    """One kind of rows: the heading of each field, and the fields of the plain table."""

    headings: Mapping[str, str]
    plain: tuple[str, ...]
    identity: str = "ID"

    def text(
        self,
        rows: Iterable[Row],
        template: str | None = None,
        *,
        quiet: bool = False,
        plain: Sequence[str] | None = None,
    ) -> str:
        """Return the rows as text.  Raises TemplateError."""
        template = (template or TABLE).strip()
        is_table = template.startswith(TABLE)
        if quiet and (is_table or template == "raw"):
            return "".join(f"{row[self.identity]}\n" for row in rows)
        if template == TABLE:
            fields = self.plain if plain is None else plain
            lines = [[self.headings[field] for field in fields]]
            lines.extend([str(row[field]) for field in fields] for row in rows)
            return aligned(lines)
        if template == "json":
            template = "{{json .}}"
        return self._templated(rows, template.removeprefix(TABLE), is_table)

    def _templated(self, rows: Iterable[Row], text: str, is_table: bool) -> str:
        # Imported here, since most calls need no template: they start faster.
        from mount_tools.cli.gotemplate.functions import HEADER_FUNCTIONS
        from mount_tools.cli.gotemplate.template import Template

        text = text.strip() if is_table else text
        template = Template(text.replace(r"\t", "\t").replace(r"\n", "\n"))
        lines = [template.render(row) for row in rows]
        if not is_table:
            return "".join(f"{line}\n" for line in lines)
        heading = template.render(dict(self.headings), HEADER_FUNCTIONS)
        cells = [line.split("\t") for line in (heading, *lines)]
        longest = max(map(len, cells))
        return aligned(line + [""] * (longest - len(line)) for line in cells)


def as_json(rows: Iterable[Mapping[str, Value]]) -> str:
    """Return the array that `--json` prints, indented.

    Bytes of a file name that are not UTF-8 become \\udc80 to \\udcff, as Python reads them.
    """
    from json import dumps  # few listings

    text = dumps(list(rows), indent=2, ensure_ascii=False)
    return _NOT_UTF8.sub(lambda match: f"\\u{ord(match.group()):04x}", text) + "\n"
