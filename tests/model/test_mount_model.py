"""The model test on whole mounts: on PyUnion, and on kernel overlayfs to prove the test itself."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, Phase, settings

from tests.helpers.mounts import require_root
from tests.model.machine import Subject, UnionMachine
from tests.model.subjects import KernelOverlay, Mount

EXAMPLES = os.environ.get("PYUNION_EXAMPLES")

# Shrinking a failure mounts hundreds of times, for minutes: only for those who ask.
SHRINK = [Phase.shrink] if os.environ.get("PYUNION_SHRINK") else []

MOUNT_SETTINGS = settings(
    max_examples=int(EXAMPLES or 12),
    stateful_step_count=40,
    deadline=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate, *SHRINK],
)


class KernelMachine(UnionMachine):
    def make_subject(self) -> Subject:
        require_root()
        return KernelOverlay()


class MountMachine(UnionMachine):
    def make_subject(self) -> Subject:
        require_root()
        return Mount()


class MetacopyMachine(UnionMachine):
    def make_subject(self) -> Subject:
        require_root()
        return Mount("metacopy=on")


KernelMachine.TestCase.settings = MOUNT_SETTINGS
MountMachine.TestCase.settings = MOUNT_SETTINGS
MetacopyMachine.TestCase.settings = MOUNT_SETTINGS

pytestmark = pytest.mark.timeout(3600 if EXAMPLES else 120)

TestKernelModel = KernelMachine.TestCase
TestMountModel = MountMachine.TestCase
TestMetacopyModel = MetacopyMachine.TestCase
