"""Medians, ratios and means, and their way through JSON."""

from __future__ import annotations

import json

import pytest

from benchmarks.results import Results, Series, from_json


def test_median_and_spread() -> None:
    series = Series([2.0, 1.0, 4.0])
    assert series.median == 2.0
    assert series.spread == pytest.approx(0.75)


def test_failure_has_no_figure_even_after_good_rounds() -> None:
    assert Series([1.0, 2.0], failed="in round 3").median is None


def test_ratio_is_to_overlayfs_or_another(results: Results) -> None:
    assert results.ratio("find", "pyunion-uring") == 1.5
    assert results.ratio("find", "pyunion-uring", "fuse-overlayfs") == 0.5
    assert results.ratio("touch", "fuse-overlayfs") is None


def test_growth_is_of_one_subject(results: Results) -> None:
    assert results.growth("touch", "find", "overlayfs") == 5.0
    assert results.growth("touch", "find", "mergerfs") is None


def test_best_peer_is_neither_ours_nor_the_kernel(results: Results) -> None:
    assert results.best_peer("find") == "fuse-overlayfs"
    assert results.best_peer("touch") is None


def test_processor_time_is_compared_with_the_peer_that_takes_least(results: Results) -> None:
    assert results.cpu("find", "pyunion-uring") == 2.0
    assert results.least_cpu("find") == 4.0
    mean, rows = results.mean_to_least_cpu("pyunion-uring")
    assert mean == pytest.approx(0.5)
    assert rows == 1
    assert results.cpu("touch", "pyunion-uring") is None
    assert results.least_cpu("touch") is None
    again = from_json(results.condensed().to_json())
    assert again.cpu("find", "pyunion-uring") == 2.0


def test_mean_is_geometric_over_work_that_both_did(results: Results) -> None:
    mean, rows = results.mean("pyunion-uring")
    assert mean == pytest.approx((1.5 * 2.0) ** 0.5)
    assert rows == 2
    to_best, rows = results.mean_to_best_peer("pyunion-uring")
    assert to_best == pytest.approx(0.5)
    assert rows == 1


def test_json_holds_everything(results: Results) -> None:
    text = results.to_json()
    again = from_json(text)
    assert again.series == results.series
    assert again.rows == results.rows
    assert again.to_json() == text


def test_json_can_be_read_without_us(results: Results) -> None:
    find, touch, _ = json.loads(results.to_json())["rows"]
    assert find["results"]["pyunion-uring"]["ratio_to_overlayfs"] == 1.5
    assert touch["results"]["fuse-overlayfs"]["failed"] == "it <hung> & died"


def test_condensed_results_keep_medians_and_spreads(results: Results) -> None:
    condensed = from_json(results.condensed().to_json())
    for row, line in results.series.items():
        for subject, series in line.items():
            found = condensed.of(row, subject)
            assert len(found.values) <= 1
            if series.median is None:
                assert found.median is None
            else:
                assert found.median == pytest.approx(series.median, rel=1e-3)
            assert found.spread == pytest.approx(series.spread, abs=1e-3)
            assert (found.failed, found.not_applicable) == (series.failed, series.not_applicable)
    assert condensed.to_json() == from_json(condensed.to_json()).to_json()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 99}', '{"format": 1, "rows": 3}'])
def test_what_is_no_result_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        from_json(text)
