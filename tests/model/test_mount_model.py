"""The model test on whole mounts: on PyUnion, and on kernel overlayfs to prove the test itself."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, settings

from tests.helpers.effort import examples
from tests.helpers.io_uring import io_uring_enabled, io_uring_unavailable
from tests.helpers.mounts import require_root
from tests.model.machine import Subject, UnionMachine
from tests.model.subjects import KernelOverlay, Mount

EXAMPLES = os.environ.get("PYUNION_EXAMPLES")

# Shrinking a failure mounts hundreds of times, for minutes: only for those who ask.
SHRINK = [Phase.shrink] if os.environ.get("PYUNION_SHRINK") else []

MOUNT_SETTINGS = settings(
    max_examples=examples(12),
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
        return Mount("transport=dev_fuse", "io_uring=off")


class Pyfuse3Machine(UnionMachine):
    def make_subject(self) -> Subject:
        require_root()
        return Mount("transport=pyfuse3")


class MetacopyMachine(UnionMachine):
    """Over io_uring, where the kernel offers it."""

    def make_subject(self) -> Subject:
        require_root()
        return Mount("metacopy=on", "transport=dev_fuse")


@pytest.fixture(autouse=True, scope="module")
def _rings() -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        if os.geteuid() == 0 and not io_uring_unavailable():
            stack.enter_context(io_uring_enabled())
        yield


KernelMachine.TestCase.settings = MOUNT_SETTINGS
MountMachine.TestCase.settings = MOUNT_SETTINGS
Pyfuse3Machine.TestCase.settings = MOUNT_SETTINGS
MetacopyMachine.TestCase.settings = MOUNT_SETTINGS

pytestmark = pytest.mark.timeout(3600 if EXAMPLES else 120)

TestKernelModel = KernelMachine.TestCase
TestMountModel = MountMachine.TestCase
TestPyfuse3Model = Pyfuse3Machine.TestCase
TestMetacopyModel = MetacopyMachine.TestCase
