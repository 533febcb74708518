"""The figures of a run, what follows from them, and their form as JSON.

Decided here and only here: medians, ratios and means.  A figure is the median
of its rounds; a ratio is one of medians; a mean is geometric, over the rows that
are work and that both sides have.  Less is better throughout.

What a run leaves in .cache has every round.  `condensed` results have one value a
figure, the median, and its spread: these go into git.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import NotRequired, TypedDict

from benchmarks.subjects import BY_NAME, KERNEL
from benchmarks.workload import Row

FORMAT = 1


@dataclass
class Series:
    """What one subject gave for one row: a value a round, or why there is none.

    `cpu_ms` is the processor time of each round, in milliseconds; none where nothing is timed.
    """

    values: list[float] = field(default_factory=list)
    failed: str = ""
    not_applicable: str = ""
    condensed_spread: float | None = None
    cpu_ms: list[float] = field(default_factory=list)

    @property
    def cpu_median(self) -> float | None:
        return None if self.failed or not self.cpu_ms else statistics.median(self.cpu_ms)

    @property
    def median(self) -> float | None:
        if self.failed or not self.values:
            return None
        return statistics.median(self.values)

    @property
    def spread(self) -> float:
        """Half the way from the least to the largest value, as a part of the median."""
        if self.condensed_spread is not None:
            return self.condensed_spread
        median = self.median
        return (max(self.values) - min(self.values)) / 2 / median if median else 0.0

    def condensed(self) -> Series:
        """Return the same with its median for all values, to four digits."""
        values = [float(f"{median:.4g}") for median in (self.median,) if median is not None]
        cpu = [float(f"{median:.4g}") for median in (self.cpu_median,) if median is not None]
        return Series(values, self.failed, self.not_applicable, round(self.spread, 3), cpu)


@dataclass
class Results:
    """All figures of a run, by row and subject, in the order in which they are shown."""

    rows: dict[str, Row] = field(default_factory=dict)
    series: dict[str, dict[str, Series]] = field(default_factory=dict)
    subjects: list[str] = field(default_factory=list)
    about: dict[str, str] = field(default_factory=dict)

    def of(self, row: str, subject: str) -> Series:
        return self.series[row][subject]

    def add_row(self, row: Row) -> None:
        self.rows[row.name] = row
        self.series[row.name] = {subject: Series() for subject in self.subjects}

    # -- what follows --

    def median(self, row: str, subject: str) -> float | None:
        series = self.series[row].get(subject)
        return None if series is None else series.median

    def ratio(self, row: str, subject: str, base: str = KERNEL) -> float | None:
        """Return how many times as long as `base` it took `subject`."""
        return _quotient(self.median(row, subject), self.median(row, base))

    def growth(self, row: str, base: str, subject: str) -> float | None:
        """Return how many times as long as row `base` it took `subject` for `row`."""
        return _quotient(self.median(row, subject), self.median(base, subject))

    def best_peer(self, row: str) -> str | None:
        """Return the FUSE union of somebody else with the least figure."""
        medians = {
            subject: median
            for subject in self.subjects
            if BY_NAME[subject].is_peer and (median := self.median(row, subject)) is not None
        }
        return min(medians, key=medians.__getitem__) if medians else None

    def cpu(self, row: str, subject: str) -> float | None:
        """Return the median of the processor time, in ms."""
        series = self.series[row].get(subject)
        return None if series is None else series.cpu_median

    def least_cpu(self, row: str) -> float | None:
        """Return the processor time of the FUSE union of somebody else that takes least."""
        peers = [subject for subject in self.subjects if BY_NAME[subject].is_peer]
        times = [cpu for peer in peers if (cpu := self.cpu(row, peer)) is not None]
        return min(times, default=None)

    def mean_to_least_cpu(self, subject: str) -> tuple[float | None, int]:
        """As `mean_to_best_peer`, of processor time to that of the peer that takes least."""
        return _geometric(
            _quotient(self.cpu(row, subject), self.least_cpu(row)) for row in self._work()
        )

    def mean(self, subject: str, base: str = KERNEL) -> tuple[float | None, int]:
        """Return the geometric mean of the ratios to `base`, and of how many rows it is."""
        return _geometric(self.ratio(row, subject, base) for row in self._work())

    def mean_to_best_peer(self, subject: str) -> tuple[float | None, int]:
        """As `mean`, to the best peer of each row."""
        return _geometric(
            self.ratio(row, subject, peer) for row in self._work() if (peer := self.best_peer(row))
        )

    def _work(self) -> Sequence[str]:
        return [name for name, row in self.rows.items() if row.in_mean]

    # -- JSON --

    def condensed(self) -> Results:
        """Return the same figures with one value for each, the median."""
        series = {
            row: {subject: found.condensed() for subject, found in line.items()}
            for row, line in self.series.items()
        }
        return Results(self.rows, series, self.subjects, self.about)

    def to_json(self) -> str:
        """Return all figures, a line a row, with what follows from them."""
        rows = [
            {
                **asdict(row),
                "results": {
                    subject: self._cell(name, subject, series)
                    for subject, series in self.series[name].items()
                },
                "best_peer": self.best_peer(name),
            }
            for name, row in self.rows.items()
        ]
        means = {
            subject: {
                "to_overlayfs": self.mean(subject)[0],
                "rows": self.mean(subject)[1],
                "to_best_peer": self.mean_to_best_peer(subject)[0],
                "cpu_to_least": self.mean_to_least_cpu(subject)[0],
            }
            for subject in self.subjects
        }
        document: dict[str, object] = {
            "format": FORMAT,
            "about": self.about,
            "subjects": self.subjects,
            "geometric_means": means,
        }
        head = json.dumps(document, indent=1, ensure_ascii=False).removesuffix("\n}")
        lines = ",\n".join(f"  {json.dumps(row, ensure_ascii=False)}" for row in rows)
        return f'{head},\n "rows": [\n{lines}\n ]\n}}\n'

    def _cell(self, row: str, subject: str, series: Series) -> _SeriesJson:
        cell: _SeriesJson = {}
        if (median := series.median) is not None:
            cell["median"] = median
            cell["spread"] = round(series.spread, 4)
        if (ratio := self.ratio(row, subject)) is not None:
            cell["ratio_to_overlayfs"] = float(f"{ratio:.4g}")
        if series.condensed_spread is None and series.values:
            cell["values"] = series.values
        if series.cpu_ms:
            cell["cpu_ms"] = series.cpu_ms
        if series.failed:
            cell["failed"] = series.failed
        if series.not_applicable:
            cell["not_applicable"] = series.not_applicable
        return cell


class _SeriesJson(TypedDict):
    """`values` only where all rounds are kept, else the median and its spread are all.

    `cpu_ms` has one value then.
    """

    median: NotRequired[float]
    spread: NotRequired[float]
    ratio_to_overlayfs: NotRequired[float]
    values: NotRequired[list[float]]
    cpu_ms: NotRequired[list[float]]
    failed: NotRequired[str]
    not_applicable: NotRequired[str]


class _RowJson(TypedDict):
    name: str
    title: str
    how: str
    unit: str
    in_mean: bool
    results: dict[str, _SeriesJson]


class _DocumentJson(TypedDict):
    format: int
    about: dict[str, str]
    subjects: list[str]
    rows: list[_RowJson]


def from_json(text: str) -> Results:
    """Return the results that `to_json` wrote.  Raises ValueError for anything else."""
    try:
        document: _DocumentJson = json.loads(text)
        if document["format"] != FORMAT:
            raise ValueError(f"results of format {document['format']}, not {FORMAT}")
        results = Results(subjects=document["subjects"], about=document["about"])
        for line in document["rows"]:
            row = Row(
                name=line["name"],
                title=line["title"],
                how=line["how"],
                unit=line["unit"],
                in_mean=line["in_mean"],
            )
            results.rows[row.name] = row
            results.series[row.name] = {
                subject: _series(found) for subject, found in line["results"].items()
            }
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"these are no benchmark results: {error!r}") from None
    return results


def _series(found: _SeriesJson) -> Series:
    failed, not_applicable = found.get("failed", ""), found.get("not_applicable", "")
    cpu = found.get("cpu_ms", [])
    if "values" in found or "median" not in found:
        return Series(found.get("values", []), failed, not_applicable, cpu_ms=cpu)
    return Series([found["median"]], failed, not_applicable, found.get("spread", 0.0), cpu)


def _quotient(one: float | None, other: float | None) -> float | None:
    return one / other if one is not None and other else None


def _geometric(ratios: Iterable[float | None]) -> tuple[float | None, int]:
    logs = [math.log(ratio) for ratio in ratios if ratio is not None and ratio > 0]
    return (math.exp(statistics.fmean(logs)) if logs else None), len(logs)
