"""Limits as they are written, docker's checks, and the files of a control group."""

from __future__ import annotations

import os

import pytest

from layerstore.errors import StoreError
from mount_tools.container.limits import UNLIMITED, Limits, parse_limits

MIB = 1 << 20


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("64m", 64 * MIB),
        ("64M", 64 * MIB),
        ("64mb", 64 * MIB),
        ("64MiB", 64 * MIB),
        ("0.5g", 512 * MIB),
        ("67108864", 64 * MIB),
        ("67108864b", 64 * MIB),
        ("99999999999p", 2**63 - 1),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_limits(text, None, None, 0) == Limits(memory=size)


def test_all_of_them() -> None:
    assert parse_limits("64m", "-1", "0.5", -1) == Limits(64 * MIB, UNLIMITED, 5 * 10**8, 0)
    assert parse_limits(None, None, None, 0) == Limits()
    assert Limits().controllers == [] and Limits().files == {}


def test_what_a_control_group_gets() -> None:
    limits = Limits(64 * MIB, 0, 15 * 10**8, 7)
    assert limits.controllers == ["memory", "cpu", "pids"]
    assert limits.files == {
        "memory.max": str(64 * MIB),
        "memory.swap.max": str(64 * MIB),
        "cpu.max": "150000 100000",
        "pids.max": "7",
    }
    assert Limits(64 * MIB, 100 * MIB).files["memory.swap.max"] == str(36 * MIB)
    assert Limits(64 * MIB, 64 * MIB).files["memory.swap.max"] == "0"
    assert Limits(64 * MIB, UNLIMITED).files["memory.swap.max"] == "max"
    assert Limits(cpus=1).files == {"cpu.max": "1000 100000"}


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        (("5m", None, None), "^Minimum memory limit allowed is 6MB$"),
        (("64m", "32m", None), "Minimum memoryswap limit should be larger than memory limit"),
        ((None, "64m", None), "always set the Memory limit when using Memoryswap limit"),
        (("x", None, None), 'invalid argument "x" for "-m, --memory" flag: invalid size: \'x\''),
        (("-1", None, None), "invalid size: '-1'"),
        (("1" * 50, None, None), "invalid size"),
        (("64m", "y", None), 'for "--memory-swap" flag'),
        ((None, None, "x"), "failed to parse x as a rational number"),
        ((None, None, "."), "failed to parse . as a rational number"),
        ((None, None, "0.0000000001"), "value is too precise"),
        ((None, None, "1000000"), "^Range of CPUs is from 0.01 to "),
    ],
)
def test_limits_that_cannot_be(
    given: tuple[str | None, str | None, str | None], complaint: str
) -> None:
    with pytest.raises(StoreError, match=complaint):
        parse_limits(*given, 0)


def test_every_processor_may_be_used() -> None:
    there = os.cpu_count() or 1
    assert parse_limits(None, None, str(there), 0).cpus == there * 10**9
