"""The model test on the core alone, without FUSE: fast, so it looks at many more trees."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, Phase, settings

from tests.helpers.effort import examples
from tests.helpers.mounts import require_root
from tests.model.layers import WhiteoutForm
from tests.model.machine import Subject, UnionMachine
from tests.model.subjects import Core, CoreAhead
from unionfs.core.config import WhiteoutForm as Written

EXAMPLES = os.environ.get("PYUNION_EXAMPLES")

# Shrinking may take minutes: only for those who ask.
SHRINK = [Phase.shrink] if os.environ.get("PYUNION_SHRINK") else []

CORE_SETTINGS = settings(
    max_examples=examples(40),
    stateful_step_count=50,
    deadline=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate, *SHRINK],
)

pytestmark = pytest.mark.timeout(3600 if EXAMPLES else 120)


class CoreMachine(UnionMachine):
    can_freeze = True

    def make_subject(self) -> Subject:
        require_root()
        return Core()


class MetacopyMachine(UnionMachine):
    can_freeze = True

    def make_subject(self) -> Subject:
        require_root()
        return Core(metacopy=True)


class UserXattrMachine(UnionMachine):
    """As for an ordinary user: every mark in user.*, every whiteout an empty file."""

    whiteout_form = WhiteoutForm.XATTR
    mark_prefix = "user.overlay."

    can_freeze = True

    def make_subject(self) -> Subject:
        require_root()  # the start states hold devices and files of others
        return Core(userxattr=True, whiteout=Written.XATTR)


class AufsMachine(UnionMachine):
    whiteout_form = WhiteoutForm.AUFS

    can_freeze = True

    def make_subject(self) -> Subject:
        require_root()
        return Core(whiteout=Written.AUFS)


class AheadMachine(UnionMachine):
    """What a copy_up needs is there before it."""

    can_freeze = True

    def make_subject(self) -> Subject:
        require_root()
        return CoreAhead()


class TimeoutMachine(UnionMachine):
    """Nothing is remembered between operations."""

    can_freeze = True

    def make_subject(self) -> Subject:
        require_root()
        return Core(timeout=0)


for machine in (
    CoreMachine,
    MetacopyMachine,
    UserXattrMachine,
    AufsMachine,
    AheadMachine,
    TimeoutMachine,
):
    machine.TestCase.settings = CORE_SETTINGS

# Its copies wait for the disk.
AheadMachine.TestCase.settings = settings(CORE_SETTINGS, max_examples=examples(10))

TestCoreModel = CoreMachine.TestCase
TestMetacopyModel = MetacopyMachine.TestCase
TestUserXattrModel = UserXattrMachine.TestCase
TestAufsModel = AufsMachine.TestCase
TestAheadModel = AheadMachine.TestCase
TestTimeoutModel = TimeoutMachine.TestCase
