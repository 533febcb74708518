"""How often a test with random choices tries."""

from __future__ import annotations

import os

from tests.helpers.mounts import QUICK


def examples(usual: int) -> int:
    """Return PYUNION_EXAMPLES where that is set, else `usual`, or a third in the quick tests."""
    return int(os.environ.get("PYUNION_EXAMPLES") or (usual // 3 + 1 if QUICK else usual))
