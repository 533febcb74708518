"""What all tests share: leaks fail the test that leaks, and workers keep out of each other's way.

An object in a reference cycle is freed only by a later collection, and its warning would
fail the test that happens to run at that moment.
"""

from __future__ import annotations

import gc
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from unionfs.light_typing import TYPE_CHECKING

if TYPE_CHECKING:
    from layerstore import Store

# A busy machine is not a fault: no test asserts a time.
settings.register_profile("pyunion", deadline=None)
settings.load_profile("pyunion")

_INTERRUPT = signal.default_int_handler

_torn_down: list[str] = []


def _collect() -> None:
    gc.collect()
    # The next collection skips what is alive now, so that it takes less than a millisecond.
    gc.freeze()


def pytest_configure(config: pytest.Config) -> None:
    """Let commands find bytecode and have signals as from a terminal.

    A worker that may mount does so unseen by the others.
    """
    # Under nohup, or in the background of a script, commands rightly go on after these.
    for number, usual in ((signal.SIGHUP, signal.SIG_DFL), (signal.SIGINT, _INTERRUPT)):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, usual)
    if os.environ.pop("PYTHONDONTWRITEBYTECODE", None):
        # With it each command of a test would compile all of our modules, as no installed one.
        os.environ["PYTHONPYCACHEPREFIX"] = str(config.rootpath / ".cache/bytecode")
    keep_on_disk()
    if hasattr(config, "workerinput") and "PYUNION_TEST_QUICK" not in os.environ:
        # Not at the top: coverage counts only what is imported after it has begun.
        from tests.helpers.workers import isolate

        isolate()


def keep_on_disk() -> None:
    """Make temporary files in /var/tmp if /tmp is a tmpfs, as it is on Debian 13.

    Much of what is tested is asked only of a filesystem on a disk.  $TMPDIR has the last word.
    """
    if "TMPDIR" in os.environ:
        return
    from unionfs.syscalls.statfs import TMPFS, filesystem_type

    folder = os.open(tempfile.gettempdir(), os.O_PATH)
    try:
        in_memory = filesystem_type(folder) == TMPFS
    finally:
        os.close(folder)
    if in_memory:
        os.environ["TMPDIR"] = "/var/tmp"
        tempfile.tempdir = None


@pytest.fixture
def as_root() -> None:
    """For what only root can do; a module uses it for all its tests by a `pytestmark`."""
    from tests.helpers.mounts import require_root

    require_root()


def pytest_fixture_post_finalizer(fixturedef: pytest.FixtureDef[object]) -> None:
    """Note a fixture whose value outlived a test, so that it was frozen."""
    if fixturedef.scope != "function":
        _torn_down.append(fixturedef.argname)


def pytest_sessionfinish() -> None:
    """Let pytest's own last collection see everything."""
    gc.unfreeze()


@pytest.fixture(scope="module", autouse=True)
def _modules_leak_nothing() -> Iterator[None]:
    gc.freeze()
    _torn_down.clear()
    yield
    if _torn_down:
        gc.unfreeze()
        _collect()


@pytest.fixture(autouse=True)
def _tests_leak_nothing(request: pytest.FixtureRequest) -> Iterator[None]:
    before = _umask()
    yield
    # pytest keeps the values of the fixtures, which are torn down by now.
    request.node.funcargs.clear()
    _collect()
    assert _umask() == before, "the files of all later tests would have other modes"


def _umask() -> str:
    """Return the umask of this process as /proc has it; umask(2) cannot ask without a change."""
    status = Path("/proc/self/status").read_text()
    return status.partition("\nUmask:")[2].partition("\n")[0]


@pytest.fixture
def empty_store(tmp_path: Path) -> Iterator[Store]:
    """An empty store, without syncs, which only a crash of the machine would show."""
    from layerstore import Store

    with Store.open(tmp_path / "store", sync=False) as opened:
        yield opened


@pytest.fixture
def store(empty_store: Store) -> Store:
    """The store of a test, which some directories and modules fill."""
    return empty_store
