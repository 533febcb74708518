"""What the machine says of a difference that it finds, on a union that has one."""

from __future__ import annotations

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.mounts import require_root
from tests.model.machine import Subject, UnionMachine
from tests.model.subjects import KernelOverlay


class KernelMachine(UnionMachine):
    def make_subject(self) -> Subject:
        return KernelOverlay()


# `given`, since the machine writes notes.
@settings(max_examples=1, deadline=None)
@given(st.sampled_from([["held"], ["held", "also held"]]))
def test_a_difference_at_the_end_is_reported_while_files_are_held_open(names: list[str]) -> None:
    require_root()
    machine = KernelMachine()
    machine.start(stack=[[]])
    for number, name in enumerate(names):
        machine.hold_new(number, os.fsencode(name), os.O_RDWR | os.O_CREAT)
    assert len(machine.handles) == len(names)
    machine.union.mkdir(b"only in the union", 0o755)
    with pytest.raises(AssertionError, match="at the end"):
        machine.teardown()
    assert machine.handles == [] and not machine.base.exists()
