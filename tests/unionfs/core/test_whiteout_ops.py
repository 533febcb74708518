"""What removing a name writes into the upper, in each form of whiteout."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tests.helpers.layers import Layers
from unionfs.core.config import WhiteoutForm


@pytest.mark.parametrize("form", list(WhiteoutForm))
def test_a_whiteout_hides_a_lower_name_until_it_is_made_again(
    tmp_path: Path, form: WhiteoutForm
) -> None:
    layers = Layers(tmp_path, {"d": {"gone": "low", "again": "low"}})
    with layers.union(whiteout=form) as tree:
        tree.unlink(b"d/gone")
        tree.unlink(b"d/again")
        tree.create(b"d/again", 0o600)
    seen = layers.look()
    assert b"d/gone" not in seen
    assert seen[b"d/again"].content == b""
    upper = layers.upper / "d"
    if form is WhiteoutForm.AUFS:
        assert sorted(os.listdir(upper)) == [".wh.gone", "again"]
    elif form is WhiteoutForm.XATTR:
        assert os.getxattr(upper, "trusted.overlay.opaque") == b"x"
        assert os.getxattr(upper / "gone", "trusted.overlay.whiteout") == b"y"
    else:
        found = os.lstat(upper / "gone")
        assert stat.S_ISCHR(found.st_mode) and found.st_rdev == 0


@pytest.mark.parametrize("form", list(WhiteoutForm))
@pytest.mark.parametrize("stranger", [None, ".wh..wh.plnk", ".wh.unknown"])
def test_nothing_is_left_of_a_directory_whose_names_are_all_hidden(
    tmp_path: Path, form: WhiteoutForm, stranger: str | None
) -> None:
    layers = Layers(tmp_path, {"d": {"one": "low", "two": {"three": "low"}}})
    (layers.upper / "d").mkdir()
    if stranger is not None:
        (layers.upper / "d" / stranger).touch()
    with layers.union(whiteout=form) as tree:
        tree.unlink(b"d/two/three")
        tree.rmdir(b"d/two")
        tree.unlink(b"d/one")
        tree.rmdir(b"d")
        staged = [path for path in (layers.work / "work").iterdir() if path.is_dir()]
        assert [path.name for path in staged] in ([], ["incompat"])
        assert tree.listdir(b"") == []
    assert list(layers.look()) == [b""]
