"""Records go to the sink of a mount, and to logging in a program that has the union."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.helpers.mounts import DEADLINE
from unionfs.light_logging import DEBUG, ERROR, INFO, WARNING, Logger, send_to, take_logging

Records = list[tuple[int, str, str]]
LOG = Logger("a.module")


@pytest.fixture
def records() -> Iterator[Records]:
    found: Records = []
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield found
    send_to(None)
    root.handlers[:] = handlers
    root.setLevel(level)


def send(records: Records, least: int = DEBUG) -> None:
    send_to(lambda level, name, text: records.append((level, name, text)), least)


def test_a_sink_gets_what_is_important_enough(records: Records) -> None:
    send(records, INFO)
    LOG.debug("no")
    LOG.info("%d %s", 1, "b")
    LOG.warning("100 %")
    LOG.error("%r", b"c")
    assert records == [
        (INFO, "a.module", "1 b"),
        (WARNING, "a.module", "100 %"),
        (ERROR, "a.module", "b'c'"),
    ]


def test_an_exception_has_its_traceback(records: Records) -> None:
    send(records)
    try:
        raise RuntimeError("of mine")
    except RuntimeError as error:
        LOG.exception("it broke")
        raised = error
    LOG.error("later", exc_info=raised)
    name = "test_an_exception_has_its_traceback"
    line = raised.__traceback__.tb_lineno if raised.__traceback__ is not None else 0
    trace = f'Traceback (most recent call last):\n  File "{__file__}", line {line}, in {name}'
    assert [text for _, _, text in records] == [
        f"{first}\n{trace}\nRuntimeError: of mine" for first in ("it broke", "later")
    ]


@pytest.mark.parametrize("caused", [True, False])
def test_an_exception_has_the_one_before(records: Records, caused: bool) -> None:
    send(records)
    try:
        try:
            raise KeyError("inner")
        except KeyError as inner:
            if caused:
                raise OSError("outer") from inner
            raise OSError("outer")  # noqa: B904
    except OSError:
        LOG.exception("both")
    kept = [line for line in records[0][2].splitlines() if not line.startswith("  ")]
    between = "It was the cause of:" if caused else "While it was handled there was:"
    trace = "Traceback (most recent call last):"
    assert kept == ["both", trace, "KeyError: 'inner'", between, trace, "OSError: outer"]


def test_without_a_sink_logging_gets_it(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        LOG.debug("no")
        LOG.info("%d", 1)
        try:
            raise RuntimeError("of mine")
        except RuntimeError:
            LOG.exception("it broke")
    assert [(one.name, one.levelno, one.getMessage()) for one in caplog.records] == [
        ("a.module", logging.INFO, "1"),
        ("a.module", logging.ERROR, "it broke"),
    ]
    assert caplog.records[1].exc_info is not None
    assert {one.filename for one in caplog.records} == {"test_light_logging.py"}


def test_logging_is_taken(records: Records) -> None:
    take_logging()
    assert not records
    send(records, INFO)
    take_logging()
    theirs = logging.getLogger("pyfuse3")
    theirs.debug("no")
    theirs.warning("%d", 2)
    theirs.critical("3")
    assert records == [(WARNING, "pyfuse3", "2"), (ERROR, "pyfuse3", "3")]


def test_logging_is_imported_for_a_warning_only() -> None:
    code = """
import sys
from unionfs.light_logging import Logger, send_to
Logger("one").info("no")
send_to(lambda *_: None)
Logger("one").error("no", exc_info=OSError())
send_to(None)
assert not {"logging", "traceback"} & {*sys.modules}
Logger("one").warning("yes")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=DEADLINE)
    assert (done.returncode, done.stderr) == (0, b"yes\n")
