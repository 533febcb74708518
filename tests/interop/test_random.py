"""Random operations on layers that PyUnion and kernel overlayfs mount in turns.

The model test with one more move: at every remount either of the two may be
the one that mounts.  So each reads uppers, redirects, whiteouts, indexes and,
after a rotation, lowers that the other wrote, and must show the same tree.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import rule

from tests.helpers.drivers import Driver
from tests.helpers.effort import examples
from tests.helpers.mounts import require_root
from tests.model.deviations import Subject as Kind
from tests.model.machine import Subject, UnionMachine
from tests.model.subjects import KernelOverlay, Mount

EXAMPLES = os.environ.get("PYUNION_EXAMPLES")


class Either:
    """Whichever of the two was chosen last."""

    kind = Kind.KERNEL  # the more lenient of the two

    def __init__(self, kernel: KernelOverlay, union: Mount) -> None:
        self.both: dict[str, Subject] = {"kernel": kernel, "union": union}
        self.chosen: Subject = union

    def choose(self, name: str) -> None:
        self.chosen = self.both[name]

    def open(self, lowers: Sequence[Path], upper: Path, work: Path) -> Driver:
        return self.chosen.open(lowers, upper, work)

    def freeze(self, upper_to: Path) -> None:
        self.chosen.freeze(upper_to)

    def close(self) -> None:
        self.chosen.close()


class InTurnsMachine(UnionMachine):
    union_options: tuple[str, ...] = ()
    kernel_options: tuple[str, ...] = ()

    def make_subject(self) -> Subject:
        require_root()
        self.either = Either(KernelOverlay(*self.kernel_options), Mount(*self.union_options))
        return self.either

    @rule(name=st.sampled_from(("kernel", "union")))
    def change_over(self, name: str) -> None:
        """Remount, as `name`."""
        self.compare("before a change-over")
        self.close()
        self.inos.clear()  # Deviation.NEW_INO_BY_ROTATION
        note(f"now it is {name}")
        self.either.choose(name)
        self.open()


class MetacopyMachine(InTurnsMachine):
    union_options = ("metacopy=on",)
    kernel_options = ("metacopy=on",)


SETTINGS = settings(
    max_examples=examples(10),
    stateful_step_count=30,
    deadline=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
InTurnsMachine.TestCase.settings = SETTINGS
MetacopyMachine.TestCase.settings = SETTINGS

pytestmark = pytest.mark.timeout(3600 if EXAMPLES else 300)

TestInTurns = InTurnsMachine.TestCase
TestMetacopyInTurns = MetacopyMachine.TestCase
