"""The outcome of a detached process: what arrives is what was sent, and silence is death."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from mount_tools.daemon.report import Died, Failed, Live, Reporter, receive
from tests.helpers.children import spawn, wait


@pytest.fixture
def ends() -> Iterator[tuple[int, Reporter]]:
    reading, writing = os.pipe()
    reporter = Reporter(writing)
    try:
        yield reading, reporter
    finally:
        reporter.close()
        os.close(reading)


def test_silence_is_death(ends: tuple[int, Reporter]) -> None:
    reading, reporter = ends
    assert not reporter.sent
    reporter.close()
    assert receive(reading) == Died("ended without a report")


def test_the_last_message_counts(ends: tuple[int, Reporter]) -> None:
    reading, reporter = ends
    reporter.live()
    assert reporter.sent
    reporter.failed(126, "no: \udcff é")
    reporter.close()
    assert receive(reading) == Failed(126, "no: \udcff é")


def test_live(ends: tuple[int, Reporter]) -> None:
    reading, reporter = ends
    reporter.live()
    reporter.close()
    assert receive(reading) == Live()


def test_a_text_of_any_length_arrives_in_one_piece(ends: tuple[int, Reporter]) -> None:
    reading, reporter = ends
    reporter.failed(1, "x" * 100_000)
    reporter.close()
    report = receive(reading)
    assert isinstance(report, Failed)
    assert 4000 < len(report.text) < 4096 and set(report.text) == {"x"}


def test_a_failure_cannot_be_reported_as_a_success(ends: tuple[int, Reporter]) -> None:
    with pytest.raises(ValueError, match="status"):
        ends[1].failed(0, "it went well")
    assert not ends[1].sent


def test_a_reader_that_is_gone(ends: tuple[int, Reporter]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    alone = Reporter(writing)
    with pytest.raises(BrokenPipeError):
        alone.live()
    alone.failed(1, "nobody hears it")
    alone.close()


def test_execve_closes_the_pipe_and_a_killed_process_is_dead(ends: tuple[int, Reporter]) -> None:
    reading, reporter = ends

    def run() -> None:
        reporter.live()
        os.execv("/bin/true", ["true"])

    child = spawn(run)
    reporter.close()
    assert receive(reading) == Live()
    assert wait(child) == 0
    reading, writing = os.pipe()
    child = spawn(lambda: os.kill(os.getpid(), signal.SIGKILL))
    os.close(writing)
    assert receive(reading) == Died()
    assert wait(child) == -signal.SIGKILL
    os.close(reading)
