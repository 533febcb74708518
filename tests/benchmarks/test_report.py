"""The table says what was measured, what was not, and why."""

from __future__ import annotations

import pytest

from benchmarks.report import figure, report, table
from benchmarks.results import Results


@pytest.mark.parametrize(
    ("value", "shown"),
    [(1234.5, "1234"), (12.34, "12.3"), (1.234, "1.23"), (0.1234, "0.12"), (0.01234, "0.012")],
)
def test_figures_have_the_digits_that_count(value: float, shown: str) -> None:
    assert figure(value) == shown


def test_table_is_in_columns() -> None:
    assert table([["", "one"], ["first", "2"]]) == "       one\nfirst    2"


def test_report_shows_medians_ratios_and_reasons(results: Results) -> None:
    lines = report(results).splitlines()
    find, touch = (
        next(line for line in lines if line.startswith(row)) for row in ("find", "touch")
    )
    assert "2.00 ±75%" in find
    assert "3.00 ±0% 1.50×" in find
    assert "failed" in touch
    assert "n/a" in touch
    assert "failed: touch, fuse-overlayfs: it <hung> & died" in lines
    assert any(line.split() == ["find", "fuse-overlayfs", "0.50×"] for line in lines)


def test_report_shows_processor_time_beside_the_peer_that_takes_least(results: Results) -> None:
    lines = report(results).splitlines()
    after = lines[lines.index("times that of the FUSE peer that takes least.") :]
    find = next(line for line in after if line.startswith("find"))
    assert find.split() == ["find", "2.00", "0.50×", "5.00", "1.25×", "4.00", "1.00×"]
