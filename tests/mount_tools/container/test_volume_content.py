"""The first content of a volume: the image's files with all they have, whole or not yet."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from layerstore import Container, Store
from layerstore.errors import Conflict, StoreError
from layerstore.operations.check import check
from layerstore.operations.rootfs import import_image
from layerstore.volumes import FILLING, VolumeUse
from mount_tools.container.mount_words import Volume
from mount_tools.container.volume_content import fill_volumes, volumes_to_show
from tests.helpers.effort import examples
from tests.helpers.mounts import require_root
from tests.layerstore.crashes import count_changes, kill_at, points

DATA = {"data": VolumeUse("data", "/srv/data")}


@pytest.fixture
def store(empty_store: Store, tmp_path: Path) -> Store:
    """A store with full:1, whose /srv/data has a file of each kind."""
    require_root()
    root = tmp_path / "rootfs"
    folder = root / "srv/data"
    (folder / "sub/deep").mkdir(parents=True)
    (folder / "file").write_text("of the image")
    os.link(folder / "file", folder / "sub/linked")
    (folder / "sub/link").symlink_to("../file")
    os.mkfifo(folder / "sub/fifo")
    os.mknod(folder / "sub/device", stat.S_IFCHR | 0o640, os.makedev(1, 3))
    with (folder / "sparse").open("wb") as file:
        file.seek(10 << 20)
        file.write(b"end")
    os.setxattr(folder / "file", "user.note", b"kept")
    os.setxattr(folder / "sub/deep", "trusted.note", b"too")
    os.chown(folder / "file", 5, 6)
    (folder / "file").chmod(0o4750)
    os.chown(folder / "sub", 7, 8)
    (folder / "sub").chmod(0o2705)
    os.chown(folder, 9, 10)
    folder.chmod(0o1770)
    (root / "data").symlink_to("/srv/data")
    (root / "one-file").write_text("x")
    import_image(empty_store, root, "full:1")
    return empty_store


def create(store: Store, *uses: VolumeUse, name: str = "box") -> Container:
    image = store.images.resolve("full:1")
    return store.containers.create(image, name=name, volumes=uses)


def listing(top: Path) -> dict[str, tuple[object, ...]]:
    """Return every path beneath `top`, and `top` itself, with all that a copy keeps."""
    found: dict[str, tuple[object, ...]] = {}
    first: dict[int, str] = {}
    for path in [top, *sorted(top.rglob("*"))]:
        st = path.lstat()
        name = str(path.relative_to(top))
        regular = stat.S_ISREG(st.st_mode)
        found[name] = (
            oct(st.st_mode),
            st.st_uid,
            st.st_gid,
            st.st_rdev,
            st.st_mtime_ns,
            sorted(
                (key, os.getxattr(path, key, follow_symlinks=False))
                for key in os.listxattr(path, follow_symlinks=False)
            ),
            path.read_bytes() if regular else path.is_symlink() and os.readlink(path),
            first.setdefault(st.st_ino, name) if regular else "",
        )
    return found


def of_image(store: Store) -> dict[str, tuple[object, ...]]:
    (layer,) = store.layers.chain(store.images.resolve("full:1").top)
    return listing(layer.diff / "srv/data")


def test_an_empty_volume_gets_what_the_image_has(store: Store) -> None:
    box = create(store, DATA["data"], VolumeUse("linked", "/data"))
    fill_volumes(store, box)
    for name in ("data", "linked"):
        assert listing(store.volumes.data(name)) == of_image(store)
        sparse = store.volumes.data(name) / "sparse"
        assert sparse.stat().st_blocks * 512 < 1 << 20
    assert all(use.filled for use in store.volumes.uses_of(box.id))
    assert volumes_to_show(store, box) == [
        Volume(str(store.volumes.data("linked")), "/data", devices=False),
        Volume(str(store.volumes.data("data")), "/srv/data", devices=False),
    ]


def test_a_volume_that_has_something_stays_as_it_is(store: Store) -> None:
    store.volumes.create("data")
    (store.volumes.data("data") / "mine").write_text("mine")
    fill_volumes(store, create(store, DATA["data"]))
    assert os.listdir(store.volumes.data("data")) == ["mine"]


def test_what_is_removed_once_does_not_come_back(store: Store) -> None:
    box = create(store, DATA["data"])
    fill_volumes(store, box)
    data = store.volumes.data("data")
    for path in sorted(data.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    fill_volumes(store, box)
    assert os.listdir(data) == []
    fill_volumes(store, create(store, DATA["data"]._replace(filled=True), name="nocopy"))
    assert os.listdir(data) == []
    fill_volumes(store, create(store, DATA["data"], name="next"))
    assert listing(data) == of_image(store)


@pytest.mark.parametrize("target", ["/none", "/one-file/below", "/srv/data/file/x"])
def test_a_path_that_the_image_lacks_is_an_empty_volume(store: Store, target: str) -> None:
    fill_volumes(store, create(store, VolumeUse("data", target)))
    assert os.listdir(store.volumes.data("data")) == []


def test_a_file_is_no_place_for_a_volume(store: Store) -> None:
    with pytest.raises(Conflict) as refused:
        fill_volumes(store, create(store, VolumeUse("data", "/one-file")))
    assert str(refused.value) == "cannot mount volume over existing file, file exists /one-file"


def test_links_lead_nowhere_but_into_the_image(store: Store, tmp_path: Path) -> None:
    root = tmp_path / "evil"
    (root / "a").mkdir(parents=True)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    (root / "out").symlink_to(outside)
    (root / "up").symlink_to("../../../../.." + str(outside))
    (root / "round").symlink_to("round")
    (root / "a/link").symlink_to(outside)
    import_image(store, root, "evil:1")
    image = store.images.resolve("evil:1")
    uses = [VolumeUse(f"v{n}", path) for n, path in enumerate(("/out", "/up", "/round", "/a"))]
    fill_volumes(store, store.containers.create(image, volumes=uses))
    assert [os.listdir(store.volumes.data(f"v{n}")) for n in range(4)] == [[], [], [], ["link"]]
    assert (store.volumes.data("v3") / "link").is_symlink()


def test_a_tree_that_is_too_deep_is_refused(store: Store, tmp_path: Path) -> None:
    deep = tmp_path / "deep/a"
    deep.mkdir(parents=True)
    for _ in range(420):
        deep = deep / "d"
        deep.mkdir()
    import_image(store, tmp_path / "deep", "deep:1")
    box = store.containers.create(store.images.resolve("deep:1"), volumes=[VolumeUse("data", "/a")])
    with pytest.raises(StoreError, match="cannot get the image's files of /a: File name too long"):
        fill_volumes(store, box)
    assert os.listdir(store.volumes.data("data")) == []
    assert not (store.volumes.directory("data") / FILLING).exists()


def test_a_kill_at_any_moment_leaves_it_whole_or_to_be_completed(
    store: Store, tmp_path: Path
) -> None:
    box = create(store, *DATA.values())
    whole = of_image(store)

    def fill(store: Store) -> None:
        fill_volumes(store, store.containers.get(box.id))

    store.close()
    fresh = tmp_path / "fresh"
    os.rename(tmp_path / "store", fresh)

    def copied() -> Path:
        to = tmp_path / "store"
        os.system(f"rm -rf {to} && cp -a {fresh} {to}")
        return to

    for at in points(count_changes(copied(), fill), examples(8)):
        kill_at(copied(), fill, at)
        with Store.open(tmp_path / "store", sync=False) as opened:
            assert [str(one) for one in check(opened) if not one.harmless] == []
            fill(opened)
            assert listing(opened.volumes.data("data")) == whole, f"change {at}"
            assert check(opened) == []
