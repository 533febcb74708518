"""Which modules of the product have no test file of their own.

    python -m tests.mirror

prints them, a line each, and fails where there are any.  The test of
`layerstore/oci/digest.py` is `tests/layerstore/oci/test_digest.py`.
"""

from __future__ import annotations

import sys
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
PRODUCT = ("unionfs", "layerstore", "mount_tools")

# A package's face is tested where it has one: tests/unionfs/test_face.py.
NOT_MIRRORED = {"__init__.py"}


def mirrored(module: Path) -> Path:
    """Return where the test of `module`, a path below the top, has to be."""
    return Path("tests", module.parent, f"test_{module.name}")


def untested() -> list[Path]:
    """Return the modules, as paths below the top, whose test file is missing."""
    modules = (
        module.relative_to(TOP) for package in PRODUCT for module in (TOP / package).rglob("*.py")
    )
    return sorted(
        module
        for module in modules
        if module.name not in NOT_MIRRORED and not (TOP / mirrored(module)).exists()
    )


if __name__ == "__main__":
    missing = untested()
    for module in missing:
        print(f"{module} wants {mirrored(module)}")
    sys.exit(bool(missing))
