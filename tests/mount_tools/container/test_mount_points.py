"""Mount points that an image lacks are in a layer of their own, made by the union itself."""

from __future__ import annotations

import os
from pathlib import Path

from mount_tools.container.mount_points import with_points
from mount_tools.container.root_options import Point
from tests.helpers.mounts import require_root
from tests.helpers.unions import Content, fill
from unionfs.core.config import UnionConfig

HOSTS = Point("/etc/hosts", folder=False)
FULL: Content = {"proc": {}, "sys": {}, "dev": {}}


def layer_on(base: Path, content: Content, *wanted: Point) -> Path | None:
    """Return the layer that was put on one of `content`, None where there is none."""
    lower = base / "lower"
    lower.mkdir(exist_ok=True)
    fill(lower, content)
    lowers = with_points(UnionConfig(lowers=(os.fsencode(lower),)), base, wanted).lowers
    assert lowers[-1] == os.fsencode(lower)
    return Path(os.fsdecode(lowers[0])) if len(lowers) == 2 else None


def listing(layer: Path | None) -> list[str]:
    assert layer is not None
    return sorted(str(path.relative_to(layer)) for path in layer.rglob("*"))


def test_nothing_lacking_is_no_layer(tmp_path: Path) -> None:
    require_root()
    assert layer_on(tmp_path, {**FULL, "etc": {"hosts": "mine"}}, HOSTS) is None


def test_what_is_lacking_is_made_and_nothing_else(tmp_path: Path) -> None:
    require_root()
    layer = layer_on(tmp_path, {"proc": {}, "bin": {"sh": ""}}, HOSTS, Point("/a/b", folder=True))
    assert listing(layer) == ["a", "a/b", "dev", "etc", "etc/hosts", "sys"]
    assert layer is not None and (layer / "etc/hosts").is_file() and (layer / "a/b").is_dir()
    assert sorted(os.listdir(tmp_path / "points")) == ["diff", "made-of"]


def test_the_umask_does_not_count(tmp_path: Path, umask_077: None) -> None:
    require_root()
    layer = layer_on(tmp_path, {"bin": {"sh": ""}}, HOSTS)
    assert layer is not None
    modes = [(layer / name).stat().st_mode & 0o777 for name in ("etc", "etc/hosts")]
    assert modes == [0o755, 0o644]


def test_a_directory_of_the_image_stays_as_it_is(tmp_path: Path) -> None:
    require_root()
    lower = tmp_path / "lower"
    lower.mkdir()
    fill(lower, {**FULL, "etc": {"passwd": ""}})
    (lower / "etc").chmod(0o751)
    os.chown(lower / "etc", 5, 6)
    os.setxattr(lower / "etc", "user.note", b"kept")
    os.utime(lower / "etc", ns=(10**9, 2 * 10**9))
    layer = layer_on(tmp_path, {}, HOSTS)
    assert listing(layer) == ["etc", "etc/hosts"] and layer is not None
    before, after = os.stat(lower / "etc"), os.stat(layer / "etc")
    for name in ("st_mode", "st_uid", "st_gid", "st_mtime_ns"):
        assert getattr(before, name) == getattr(after, name), name
    assert os.getxattr(layer / "etc", "user.note") == b"kept"


def test_links_lead_nowhere_but_into_the_container(tmp_path: Path) -> None:
    require_root()
    links = {
        "hosts": "../../../../outside-of-pyunion/hosts",
        "round": "round",
        "into": "/proc/sys/x",
    }
    lower = tmp_path / "lower"
    lower.mkdir()
    fill(lower, {**FULL, "etc": {}})
    for name, target in links.items():
        (lower / "etc" / name).symlink_to(target)
    others = [Point(f"/etc/{name}", folder=False) for name in ("round", "into")]
    layer = layer_on(tmp_path, {}, HOSTS, *others)
    assert listing(layer) == ["outside-of-pyunion", "outside-of-pyunion/hosts"]
    assert not os.path.exists("/outside-of-pyunion")


def test_what_cannot_be_made_stops_nothing(tmp_path: Path) -> None:
    require_root()
    layer = layer_on(tmp_path, {"proc": {}, "dev": {}, "etc": "a file"}, HOSTS)
    assert listing(layer) == ["sys"]


def test_the_lower_of_mount_points_is_made_once_and_anew_for_other_layers(tmp_path: Path) -> None:
    require_root()
    layer = layer_on(tmp_path, {}, HOSTS)
    assert layer is not None
    inode = (layer / "etc").stat().st_ino
    again = layer_on(tmp_path, {}, HOSTS)
    assert again is not None and (again / "etc").stat().st_ino == inode
    more = layer_on(tmp_path, {}, HOSTS, Point("/data", folder=True))
    assert "data" in listing(more)
    (tmp_path / "other").mkdir()
    fill(tmp_path / "other", {"data": {}, "sys": {}})
    lowers = (os.fsencode(tmp_path / "other"), os.fsencode(tmp_path / "lower"))
    over = with_points(UnionConfig(lowers=lowers), tmp_path, [HOSTS])
    assert over.lowers[1:] == lowers
    assert listing(Path(os.fsdecode(over.lowers[0]))) == ["dev", "etc", "etc/hosts", "proc"]


def test_one_cut_short_is_made_anew(tmp_path: Path) -> None:
    require_root()
    (tmp_path / "points/diff").mkdir(parents=True)
    (tmp_path / "points/work").mkdir()
    layer = layer_on(tmp_path, {}, HOSTS)
    assert listing(layer) == ["dev", "etc", "etc/hosts", "proc", "sys"]
