"""The n-th system call of an operation fails, for every n there is: all or nothing.

The union lives on afterwards: it shows the tree of before or of after, in
memory and on disk alike, does the operation when asked again, and has leaked
neither a staged file nor a descriptor.
"""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Callable

import pytest

from tests.faults.scenarios import (
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
from tests.helpers.faults import Countdown, DiskFull, system_calls
from tests.helpers.unions import discard_staged, settle
from unionfs.core.config import UnionConfig, WhiteoutForm
from unionfs.core.opening import open_union

MOST = 400


Hook = Countdown | DiskFull

DELETIONS = [scenario for scenario in SCENARIOS if "whiteout" in scenario.settings]
OTHERS = [scenario for scenario in SCENARIOS if "whiteout" not in scenario.settings]


def _fail_once(at: int) -> Hook:
    def fail() -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    return Countdown(at, fail)


def _fail_a_change(at: int) -> Hook:
    return DiskFull(at, errno.EIO, once=True)


def _stay_full(at: int) -> Hook:
    return DiskFull(at, errno.ENOSPC)


@pytest.mark.parametrize("scenario", OTHERS, ids=str)
def test_an_io_error_leaves_old_or_new(bench: Bench, scenario: Scenario) -> None:
    _try_every_call(bench, scenario, _fail_once, errno.EIO)


@pytest.mark.parametrize("scenario", DELETIONS, ids=str)
def test_an_io_error_at_a_change_leaves_old_or_new(bench: Bench, scenario: Scenario) -> None:
    """The other forms of whiteouts differ in what they write."""
    _try_every_call(bench, scenario, _fail_a_change, errno.EIO)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=str)
def test_a_full_disk_leaves_old_or_new(bench: Bench, scenario: Scenario) -> None:
    _try_every_call(bench, scenario, _stay_full, errno.ENOSPC)


def _try_every_call(
    bench: Bench,
    scenario: Scenario,
    make_hook: Callable[[int], Hook],
    code: int,
) -> None:
    old, new = bench.wanted(scenario)
    for number in itertools.count(1):
        assert number < MOST
        upper, work = bench.fresh(number)
        settle()
        fds = _open_fds()
        config = bench.config(upper, work, scenario)
        hook = make_hook(number)
        done = _fail_and_go_on(config, scenario, hook, code, old, new)
        assert trees.leftovers(work) == [], hook.struck
        if done:
            _reopen(config, new, hook)
        settle()
        assert _open_fds() == fds, f"descriptors leaked after {hook.struck}"
        if hook.struck is None:
            break


def _fail_and_go_on(
    config: UnionConfig,
    scenario: Scenario,
    hook: Hook,
    code: int,
    old: trees.Tree,
    new: trees.Tree,
) -> bool:
    """Return whether the operation is done in the end, as in all but the one case of `is_torn`."""
    union = scenario.open(config)
    try:
        driver = CoreDriver(union)
        scenario.prepare(driver)
        failed = _run(driver, scenario, hook)
        assert failed in (None, code) or _is_asked_to_copy(failed, hook), (
            f"gave {errno.errorcode[failed or 0]} after {hook.struck}"
        )
        found = forgive_mtimes(seen(driver), scenario, old)
        torn = scenario.settings.get("whiteout") is WhiteoutForm.XATTR and is_torn(found, old, new)
        if failed is None:
            trees.assert_same(new, found, f"succeeded in spite of {hook.struck}")
        elif not torn:
            assert_old_or_new(found, old, new, f"after {hook.struck}")
        elif found not in (old, new):
            return False
        if found == old:
            scenario.run(driver)
            trees.assert_same(new, seen(driver), f"done again after {hook.struck}")
        discard_staged(union)
        driver.finish(f"after {hook.struck}")
        return True
    finally:
        union.close()


def _is_asked_to_copy(failed: int | None, hook: Hook) -> bool:
    """Tell whether a directory's redirect could not be set, which overlayfs answers with EXDEV.

    The caller then copies instead (dir.c:ovl_set_redirect()).
    """
    return failed == errno.EXDEV and "overlay.redirect" in (hook.struck or "")


def _run(driver: CoreDriver, scenario: Scenario, hook: Hook) -> int | None:
    """Return the errno with which the operation fails, None where it does not."""
    try:
        with system_calls(hook):
            scenario.run(driver)
    except OSError as error:
        return error.errno
    return None


def _reopen(config: UnionConfig, wanted: trees.Tree, hook: Hook) -> None:
    """Compare what is on disk; a count of links that could not be written may be too high."""
    union = open_union(config)
    try:
        driver = CoreDriver(union)
        found = seen(driver)
        if hook.struck is not None:
            found = forgive_link_counts(found, wanted)
        trees.assert_same(wanted, found, f"reopened after {hook.struck}")
        driver.finish()
    finally:
        union.close()


def _open_fds() -> int:
    return len(os.listdir("/proc/self/fd"))
