"""The settings of a union: what their docstrings say of paths, defaults and limits."""

from __future__ import annotations

import enum
import errno
import os
from pathlib import Path
from typing import Any

import pytest

from mount_tools.mount.options import parse_options
from tests.helpers.core_driver import CoreDriver
from tests.helpers.layers import Layers
from tests.helpers.unions import errno_of
from unionfs.core.config import MAX_LOWERS, Atime, RedirectDir, UnionConfig, WhiteoutForm
from unionfs.core.opening import open_union
from unionfs.errors import ConfigError


@pytest.mark.parametrize("kind", [WhiteoutForm, RedirectDir])
def test_values_are_the_words_of_the_option(kind: type[enum.Enum]) -> None:
    name = {WhiteoutForm: "whiteout", RedirectDir: "redirect_dir"}[kind]
    for member in kind:
        words = f"lowerdir=l,upperdir=u,workdir=w,{name}={member.value}"
        assert getattr(parse_options([words], privileged=True).union, name) is member


@pytest.mark.parametrize("atime", [*Atime])
def test_atime_is_named_as_in_mount(atime: Atime) -> None:
    words = f"lowerdir=l,upperdir=u,workdir=w,{atime.value}"
    assert parse_options([words], privileged=True).union.atime is atime


def test_the_topmost_lower_is_the_first(tmp_path: Path) -> None:
    layers = Layers(tmp_path, {"f": "top"}, {"f": "beneath"})
    with layers.union() as tree:
        assert tree.read(b"f") == b"top"


def test_paths_are_relative_to_where_the_union_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layers = Layers(tmp_path / "layers", {"f": "x"})
    config = UnionConfig(lowers=(b"lower0",), upper=b"upper", work=b"work")
    monkeypatch.chdir(layers.base)
    fs = open_union(config)
    monkeypatch.chdir("/")
    try:
        tree = CoreDriver(fs)
        tree.write(b"f", 0, b"y")
        tree.finish()
    finally:
        fs.close()
    assert (layers.upper / "f").read_text() == "y"


@pytest.mark.parametrize("settings", [{"upper": None, "work": None}, {"read_only": True}])
def test_read_only_without_an_upper_or_when_asked(tmp_path: Path, settings: dict[str, Any]) -> None:
    layers = Layers(tmp_path, {"f": "x"})
    with layers.union(**settings) as tree:
        assert errno_of(lambda: tree.mkdir(b"d", 0o755)) == errno.EROFS
        assert tree.read(b"f") == b"x"


@pytest.mark.parametrize("alone", ["upper", "work"])
def test_upper_and_work_come_together(tmp_path: Path, alone: str) -> None:
    layers = Layers(tmp_path, {"f": "x"})
    settings = {"upper": None, "work": None} | {alone: os.fsencode(getattr(layers, alone))}
    with pytest.raises(ConfigError):
        open_union(layers.config(**settings))


def test_as_many_lowers_as_the_limit_and_no_more(tmp_path: Path) -> None:
    layers = Layers(tmp_path, *({f"f{number}": "x"} for number in range(MAX_LOWERS + 1)))
    lowers = tuple(os.fsencode(lower) for lower in layers.lowers)
    with layers.union(lowers=lowers[:MAX_LOWERS]) as tree:
        assert len(tree.listdir(b"")) == MAX_LOWERS
    with pytest.raises(ConfigError, match=f"{MAX_LOWERS + 1} lower layers are too many"):
        open_union(layers.config(lowers=lowers))
