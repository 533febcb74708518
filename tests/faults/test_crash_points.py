"""The daemon dies after any system call that changes the disk: all or nothing.

Each operation runs in a forked child on the core, in process, and the child
exits without cleaning up.  Opened anew, the union must show the tree of before
or of after the operation, have swept its workdir, and do the operation.
"""

from __future__ import annotations

import os
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.faults.scenarios import (
    AHEAD,
    DEVICES,
    IN_PLACE,
    OVER_DEVICES,
    SCENARIOS,
    Bench,
    Scenario,
    assert_old_or_new,
    forgive_link_counts,
    forgive_mtimes,
    is_torn,
    seen,
)
from tests.helpers import trees
from tests.helpers.core_driver import CoreDriver
from tests.helpers.faults import READING, Countdown, system_calls, without_exchange
from tests.helpers.unions import discard_staged
from unionfs.core.config import UnionConfig, WhiteoutForm

CRASHED = 77


@pytest.mark.parametrize("scenario", SCENARIOS, ids=str)
def test_a_crash_leaves_old_or_new(bench: Bench, scenario: Scenario) -> None:
    _check_all_crashes(bench, scenario)


def test_what_is_staged_ahead_in_these_scenarios_is_used(bench: Bench) -> None:
    scenario = AHEAD[0]
    union = scenario.open(bench.config(*bench.fresh(0), scenario))
    driver = CoreDriver(union)
    scenario.prepare(driver)
    scenario.run(driver)
    assert union.counters()["copies_ahead"] == 1
    union.close()


@pytest.mark.parametrize("scenario", IN_PLACE, ids=str)
def test_a_crash_where_names_cannot_be_exchanged(bench: Bench, scenario: Scenario) -> None:
    with without_exchange():
        _check_all_crashes(bench, scenario)


@pytest.mark.parametrize("scenario", OVER_DEVICES, ids=str)
def test_a_crash_with_whiteouts_of_another_filesystem(bench: Bench, scenario: Scenario) -> None:
    with without_exchange():
        _check_all_crashes(replace(bench, given=DEVICES), scenario)


def _check_all_crashes(bench: Bench, scenario: Scenario) -> None:
    old, new = bench.wanted(scenario)
    points, end = _crash_points(bench, scenario)
    for number in (*points, end):
        upper, work = bench.fresh(number)
        config = bench.config(upper, work, scenario)
        assert _crash(config, scenario, number) == (number < end)
        _check_after_crash(config, work, scenario, old, new, f"crash at call {number}")


def _crash_points(bench: Bench, scenario: Scenario) -> tuple[list[int], int]:
    """Return before which calls to crash, and how many calls there are, plus one.

    After a call that only reads, the disk is as it was for the crash before.
    """
    upper, work = bench.fresh(0)
    union = scenario.open(bench.config(upper, work, scenario))
    changes: list[bool] = []

    def note(name: str, args: tuple[Any, ...]) -> None:
        reads = name in READING or (name == "open" and not args[1] & (os.O_CREAT | os.O_TRUNC))
        changes.append(not reads)

    try:
        driver = CoreDriver(union)
        scenario.prepare(driver)
        with system_calls(note):
            scenario.run(driver)
        discard_staged(union)
        driver.finish()
    finally:
        union.close()
    assert any(changes), "the operation changed nothing"
    points = [1, *(number for number, changed in enumerate(changes, start=2) if changed)]
    end = len(changes) + 1
    return [number for number in points if number < end], end


def _crash(config: UnionConfig, scenario: Scenario, number: int) -> bool:
    """Run the operation in a child that dies at call `number`; False where it came to its end."""
    child = os.fork()
    if child == 0:
        try:
            driver = CoreDriver(scenario.open(config))
            scenario.prepare(driver)
            hook = Countdown(number, lambda: os._exit(CRASHED))
            with system_calls(hook):
                scenario.run(driver)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in (0, CRASHED), "the operation failed without any fault"
    return code == CRASHED


def _check_after_crash(
    config: UnionConfig,
    work: Path,
    scenario: Scenario,
    old: trees.Tree,
    new: trees.Tree,
    when: str,
) -> None:
    union = scenario.open(config)
    try:
        driver = CoreDriver(union)
        found = forgive_link_counts(forgive_mtimes(seen(driver), scenario, old), old, new)
        torn = scenario.settings.get("whiteout") is WhiteoutForm.XATTR and is_torn(found, old, new)
        if not torn:
            assert_old_or_new(found, old, new, when)
        if found == old:
            scenario.run(driver)
            again = forgive_link_counts(seen(driver), new)
            trees.assert_same(new, again, f"done again after {when}")
        discard_staged(union)
        driver.finish()
    finally:
        union.close()
    assert trees.leftovers(work) == [], when
