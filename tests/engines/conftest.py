"""The fixtures of the tests with container engines: a private store, on PyUnion."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engines.store import Store
from tests.helpers.mounts import REPOSITORY, require_fuse, require_root

_PROGRAM = """#!/bin/sh
export PYTHONPATH={checkout}
exec {python} -m mount_tools.helper.main "$@"
"""

_STORAGE = """[storage]
driver = "overlay"
graphroot = "{base}/root"
runroot = "{base}/run"
[storage.options.overlay]
mount_program = "{base}/program"
"""


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    """A containers/storage store of its own, with one image, `base`, and buildah to work on it."""
    require_root()
    require_fuse()
    for program in ("buildah", "busybox"):
        if not shutil.which(program):
            pytest.skip(f"{program} is not installed")
    # Not beneath pytest's directory: an engine's paths are long, and a socket's are not.
    base = Path(tempfile.mkdtemp(prefix="pyunion-engine-"))
    (base / "program").write_text(_PROGRAM.format(checkout=REPOSITORY, python=sys.executable))
    (base / "program").chmod(0o755)
    (base / "storage.conf").write_text(_STORAGE.format(base=base))
    (base / "policy.json").write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
    store = Store(base)
    try:
        store.make_base_image()
        yield store
    finally:
        store.close()
        shutil.rmtree(base)
