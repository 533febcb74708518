"""Which places a union may be mounted on."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from mount_tools.mount.point import check_layers_apart, checked_mount_point, inherited_fd
from tests.helpers.counting import count_calls
from tests.helpers.layers import MountLayers
from tests.helpers.mounts import DEADLINE, mount_type, mounted_union, run, unmount_command
from unionfs.core.config import UnionConfig
from unionfs.errors import ConfigError


def config(lower: Path, upper: Path | None = None, data: Path | None = None) -> UnionConfig:
    return UnionConfig(
        lowers=(os.fsencode(lower),),
        data=() if data is None else (os.fsencode(data),),
        upper=None if upper is None else os.fsencode(upper),
        work=None if upper is None else os.fsencode(upper) + b"-work",
    )


def test_descriptors_of_mount_fuse3() -> None:
    assert inherited_fd("/dev/fd/7") == 7
    assert inherited_fd("/dev/fd/7/x") is None
    assert inherited_fd("/mnt/dev/fd/7") is None


def test_links_are_resolved(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert checked_mount_point(f"{tmp_path}/link/../link") == f"{tmp_path.resolve()}/real"


def test_a_dead_mount_is_recognised(layers: MountLayers) -> None:
    with mounted_union([layers.low]) as union:
        union.process.kill()
        union.process.wait(DEADLINE)
        with pytest.raises(ConfigError, match=r"has died; clear it with umount -l"):
            checked_mount_point(str(union.root))
        union.ended = True
        run(*unmount_command(), union.root)
        assert mount_type(union.root) is None


@pytest.mark.parametrize(
    ("layer", "point", "says"),
    [
        ("a", "a/b", "contain itself"),
        ("a", "a/b/c", "contain itself"),
        ("a/b", "a", "beneath the mount point"),
        ("a/b/c", "a", "beneath the mount point"),
    ],
)
def test_lowers_inside_out(layer: str, point: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "a" / "b" / "c").mkdir(parents=True)
    base = tmp_path.resolve()
    with pytest.raises(ConfigError, match=says):
        check_layers_apart(config(base / layer), str(base / point))
    with pytest.raises(ConfigError, match=says):
        check_layers_apart(config(Path("/elsewhere"), data=base / layer), str(base / point))
    with pytest.raises(ConfigError, match=says):
        check_layers_apart(config(Path("/elsewhere"), upper=base / layer), str(base / point))


def test_links_do_not_hide_nesting(tmp_path: Path) -> None:
    base = tmp_path.resolve()
    (base / "a" / "b").mkdir(parents=True)
    (base / "link").symlink_to("a")
    with pytest.raises(ConfigError, match="contain itself"):
        check_layers_apart(config(base / "link"), str(base / "a" / "b"))


def test_layers_that_are_links_or_have_odd_paths_are_resolved(tmp_path: Path) -> None:
    (tmp_path / "layers/real/point/in").mkdir(parents=True)
    (tmp_path / "layers/link").symlink_to("real")
    (tmp_path / "to-layers").symlink_to("layers")
    point = os.fspath(tmp_path / "layers/real/point")
    for path in (
        "layers/link",
        "to-layers/link",
        "layers/link/.",
        "layers/link/",
        "to-layers/real",
    ):
        for lowers in ((path,), ("layers", path)):
            given = tuple(os.fsencode(f"{tmp_path}/{lower}") for lower in lowers)
            with pytest.raises(ConfigError, match="lies inside the lower layer"):
                check_layers_apart(UnionConfig(lowers=given), point)
    inside = os.fsencode(f"{tmp_path}/layers/link/point/in/..")
    check_layers_apart(UnionConfig(lowers=(inside,)), point)


def test_the_way_to_layers_in_one_directory_is_looked_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "a/b/c"
    for number in range(40):
        (place / str(number)).mkdir(parents=True)
    lowers = tuple(os.fsencode(place / str(number)) for number in range(40))

    def look(count: int) -> Counter[str]:
        config = UnionConfig(lowers=lowers[:count])
        return count_calls(monkeypatch, lambda: check_layers_apart(config, "/mnt"))

    assert look(40) - look(10) == Counter(lstat=30)


def test_over_a_lower_but_not_over_the_upper(tmp_path: Path) -> None:
    base = tmp_path.resolve()
    check_layers_apart(config(base / "low", upper=base / "up"), str(base / "low"))
    with pytest.raises(ConfigError, match="upperdir"):
        check_layers_apart(config(base / "low", upper=base / "up"), str(base / "up"))


def test_names_that_only_begin_alike_are_apart(tmp_path: Path) -> None:
    check_layers_apart(config(tmp_path / "a"), str(tmp_path / "ab"))
