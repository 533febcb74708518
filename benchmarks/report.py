"""The results as a table for a terminal.

Decided here and only here: what of them is shown, and how.  One line a row: the
median, its spread, and how many times kernel overlayfs it is; then PyUnion
beside the best of the FUSE peers, processor time, what grows with clients and layers, the means,
and what failed and why.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks.results import Results
from benchmarks.subjects import BY_NAME, KERNEL


def report(results: Results) -> str:
    """Return the whole report."""
    parts = [_about(results), _figures(results), _against_peers(results)]
    parts += [_processor_time(results), _growth(results)]
    parts += [_means(results), "\n".join(_failures(results))]
    return "\n\n".join(part for part in parts if part) + "\n"


def figure(value: float) -> str:
    """Return `value` with three digits that count."""
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"


def times(ratio: float | None) -> str:
    """Return a ratio as it is shown, an empty text for none."""
    return "" if ratio is None else f"{figure(ratio)}×"


def table(lines: Sequence[Sequence[str]], left: Sequence[int] = (0,)) -> str:
    """Return lines of cells in columns, those of `left` to the left and the others to the right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if index in left else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def _about(results: Results) -> str:
    return "\n".join(f"{name}: {what}" for name, what in results.about.items())


def _figures(results: Results) -> str:
    lines = [["", "", *(BY_NAME[subject].title for subject in results.subjects)]]
    for name, row in results.rows.items():
        lines.append([row.title, row.unit, *(_cell(results, name, s) for s in results.subjects)])
    note = "Medians, half the spread of the rounds, and how many times kernel overlayfs.\n"
    return note + table(lines)


def _cell(results: Results, row: str, subject: str) -> str:
    series = results.of(row, subject)
    if series.not_applicable:
        return "n/a"
    if series.failed:
        return "failed"
    if series.median is None:
        return "-"
    parts = [figure(series.median)]
    if len(series.values) > 1:
        parts.append(f"±{series.spread:.0%}")
    if subject != KERNEL and (ratio := results.ratio(row, subject)) is not None:
        parts.append(times(ratio))
    return " ".join(parts)


def _against_peers(results: Results) -> str:
    ours = [subject for subject in results.subjects if BY_NAME[subject].ours]
    lines = [["", "the best FUSE peer", *(BY_NAME[subject].title for subject in ours)]]
    for name, row in results.rows.items():
        peer = results.best_peer(name)
        if peer is not None:
            ratios = [times(results.ratio(name, subject, peer)) for subject in ours]
            lines.append([row.title, BY_NAME[peer].title, *ratios])
    if len(lines) == 1 or not ours:
        return ""
    return f"How many times the best FUSE peer of each row; below 1 is faster.\n{table(lines)}"


def _processor_time(results: Results) -> str:
    lines = [["", *(BY_NAME[subject].title for subject in results.subjects)]]
    for name, row in results.rows.items():
        least = results.least_cpu(name)
        if least is None:
            continue
        cells = []
        for subject in results.subjects:
            cpu = results.cpu(name, subject)
            cells.append("" if cpu is None else f"{figure(cpu)} {times(cpu / least)}")
        lines.append([row.title, *cells])
    if len(lines) == 1:
        return ""
    means = [times(results.mean_to_least_cpu(subject)[0]) for subject in results.subjects]
    note = (
        "Processor time of commands and daemon together, in ms for the whole row, and how many\n"
        "times that of the FUSE peer that takes least.\n"
    )
    return note + table([*lines, ["geometric mean", *means]])


# What is told, and the rows of which it is the ratio.
_GROWTH = (
    ("lookups, throughput of 2 clients to 1", "miss", "miss-2"),
    ("create … unlink, of 2 clients to 1", "churn", "churn-2"),
    ("lookups, time over 256 layers to 2", "miss-256-layers", "miss-2-layers"),
    ("find, over 256 layers to 2", "find-256-layers", "find-2-layers"),
)


def _growth(results: Results) -> str:
    lines = [["", *(BY_NAME[subject].title for subject in results.subjects)]]
    for title, row, base in _GROWTH:
        if row in results.rows and base in results.rows:
            ratios = [results.growth(row, base, subject) for subject in results.subjects]
            lines.append([title, *map(times, ratios)])
    return f"What more clients and more layers do.\n{table(lines)}" if len(lines) > 1 else ""


def _means(results: Results) -> str:
    lines = [["", "× kernel overlayfs", "rows", "× the best FUSE peer", "rows"]]
    for subject in results.subjects:
        kernel, of = results.mean(subject)
        peer, of_peer = results.mean_to_best_peer(subject)
        lines.append([BY_NAME[subject].title, times(kernel), str(of), times(peer), str(of_peer)])
    return f"Geometric means over the rows that are work.\n{table(lines)}"


def _failures(results: Results) -> Iterator[str]:
    for name in results.rows:
        for subject in results.subjects:
            if why := results.of(name, subject).failed:
                yield f"failed: {name}, {BY_NAME[subject].title}: {why}"
