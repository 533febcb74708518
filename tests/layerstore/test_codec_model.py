"""Uppers made by random operations, through a tar and back: the tree must be the same.

The model test of the core with one difference: an upper that becomes a lower
is packed over its lowers, and unpacked again.  So every redirect, metacopy,
opaque directory and whiteout that the core writes is resolved by the codec, and
what comes of it is held against the plain directory and goes on being used.
"""

from __future__ import annotations

import io
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings

from layerstore.layer.index import compare, read_index
from layerstore.layer.pack import pack
from layerstore.layer.tar_split import assemble
from layerstore.layer.unpack import unpack
from tests.helpers.effort import examples
from tests.helpers.mounts import require_root
from tests.model.layers import WhiteoutForm
from tests.model.machine import Subject, UnionMachine
from tests.model.subjects import Core
from unionfs.core.config import WhiteoutForm as Written

EXAMPLES = os.environ.get("PYUNION_EXAMPLES")

SETTINGS = settings(
    max_examples=examples(25),
    stateful_step_count=40,
    deadline=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)

pytestmark = pytest.mark.timeout(3600 if EXAMPLES else 120)


class CodecMachine(UnionMachine):
    def make_subject(self) -> Subject:
        require_root()
        return Core()

    def as_lower(self, upper: Path) -> Path:
        layer, staging = (self.base / f"{kind}{self.rotations}" for kind in ("packed", "unpacked"))
        layer.mkdir()
        staging.mkdir()
        (layer / "diff").symlink_to(upper)
        out, again = io.BytesIO(), io.BytesIO()
        packed = pack(upper, self.lowers, out, privileged=True, record=layer)
        assert assemble(layer, again, lowers=self.lowers).diff_id == packed.diff_id
        assert again.getvalue() == out.getvalue()
        self._check_index(upper, layer / "index")
        out.seek(0)
        done = unpack(out, staging, privileged=True, lowers=self.lowers)
        assert done.diff_id == packed.diff_id
        self._check_index(staging / "diff", staging / "index")
        repacked = pack(staging / "diff", self.lowers, privileged=True)
        assert repacked.diff_id == packed.diff_id, "the same change in another form"
        # A root that is no entry of the archive has the times of the one beneath.
        st = os.stat(upper)
        os.utime(staging / "diff", ns=(st.st_atime_ns, st.st_mtime_ns))
        shutil.rmtree(upper)
        return staging / "diff"

    def _check_index(self, diff: Path, index: Path) -> None:
        entries = {entry.path: entry for entry in read_index(index)}
        assert list(compare(diff.resolve(), entries)) == []


class MetacopyMachine(CodecMachine):
    def make_subject(self) -> Subject:
        require_root()
        return Core(metacopy=True)


class AufsMachine(CodecMachine):
    whiteout_form = WhiteoutForm.AUFS

    def make_subject(self) -> Subject:
        require_root()
        return Core(whiteout=Written.AUFS)


for machine in (CodecMachine, MetacopyMachine, AufsMachine):
    machine.TestCase.settings = SETTINGS

TestCodec = CodecMachine.TestCase
TestMetacopy = MetacopyMachine.TestCase
TestAufs = AufsMachine.TestCase
