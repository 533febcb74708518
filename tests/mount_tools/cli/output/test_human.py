"""Sizes and ages read as docker's do; what is expected here docker 20.10 printed."""

from __future__ import annotations

import time

import pytest

from mount_tools.cli.output import human
from unionfs.types import NS

HOUR = 3600


@pytest.mark.parametrize(
    ("size", "four", "three"),
    [
        (0, "0B", "0B"),
        (3, "3B", "3B"),
        (999, "999B", "999B"),
        (1_000, "1kB", "1kB"),
        (1_982_346, "1.982MB", "1.98MB"),
        (593_000_000, "593MB", "593MB"),
        (1_234_567_890, "1.235GB", "1.23GB"),
    ],
)
def test_sizes_have_decimal_units_and_significant_digits(size: int, four: str, three: str) -> None:
    assert human.human_size(size) == four
    assert human.human_size(size, 3) == three


def test_a_size_that_rounds_to_a_thousand_takes_the_next_unit() -> None:
    assert human.human_size(999_600, 3) == "1MB"
    assert human.human_size(999_400, 3) == "999kB"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.4, "Less than a second"),
        (1.9, "1 second"),
        (59, "59 seconds"),
        (60, "About a minute"),
        (119, "About a minute"),
        (120, "2 minutes"),
        (59 * 60, "59 minutes"),
        (HOUR, "About an hour"),
        (1.6 * HOUR, "2 hours"),
        (47 * HOUR, "47 hours"),
        (48 * HOUR, "2 days"),
        (13 * 24 * HOUR, "13 days"),
        (14 * 24 * HOUR, "2 weeks"),
        (59 * 24 * HOUR, "8 weeks"),
        (61 * 24 * HOUR, "2 months"),
        (729 * 24 * HOUR, "24 months"),
        (731 * 24 * HOUR, "2 years"),
    ],
)
def test_ages_are_said_in_the_one_unit_that_matters(seconds: float, said: str) -> None:
    assert human.human_duration(seconds) == said


@pytest.mark.parametrize(
    ("zone", "shown", "rfc3339"),
    [
        ("UTC", "2026-11-24 23:15:35 +0000 UTC", "2026-11-24T23:15:35Z"),
        ("JST-9", "2026-11-25 08:15:35 +0900 JST", "2026-11-25T08:15:35+09:00"),
        ("<-0330>3:30", "2026-11-24 19:45:35 -0330 -0330", "2026-11-24T19:45:35-03:30"),
    ],
)
def test_times_are_local_as_in_docker(
    monkeypatch: pytest.MonkeyPatch, zone: str, shown: str, rfc3339: str
) -> None:
    moment = 1_795_562_135_514_421_543
    with monkeypatch.context() as patch:
        patch.setenv("TZ", zone)
        time.tzset()
        assert (human.go_time(moment), human.go_rfc3339(moment)) == (shown, rfc3339)
    time.tzset()


def test_times_ids_and_long_texts() -> None:
    moment = 1_795_562_135_514_421_543
    assert human.age(moment, moment + 2 * NS) == "2 seconds ago"
    assert human.short_id("sha256:fcbfba63d1ebd5496b8b") == "fcbfba63d1eb"
    assert human.ellipsis("/bin/sh -c 'echo hi > /etc/new'", 20) == "/bin/sh -c 'echo hi…"
    assert human.ellipsis("short", 5) == "short"
