"""Root filesystems in and out: tars, streams and directories."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import stat
import subprocess
import tarfile
from pathlib import Path

import pytest

from layerstore.archive.load import load
from layerstore.archive.save import save
from layerstore.db.staging import remove_tree
from layerstore.diff.union import UnionFiles
from layerstore.errors import InvalidImage, StoreError
from layerstore.layer.flatten import PackStream, write_flat_tar
from layerstore.layer.pack import pack
from layerstore.operations.rootfs import export_container, import_image
from layerstore.progress import Progress
from layerstore.store import Store
from tests.helpers.drivers import OsDriver
from tests.helpers.mounts import DEADLINE, require_root
from tests.helpers.trees import assert_same, merge_layers, snapshot
from tests.helpers.unions import fill
from tests.layerstore.archives import Site, as_nobody, file, folder, whole
from unionfs import UnionFs
from unionfs.types import Attr, NodeId

ROOTFS = whole(folder(b"./"), folder(b"./etc"), file(b"./etc/motd", b"hello"))


def test_import_of_a_stream(store: Store) -> None:
    image = import_image(
        store, io.BytesIO(gzip.compress(ROOTFS)), "box:1", config={"Cmd": ["sh"]}, message="mine"
    )
    assert [str(tag) for tag in image.tags] == ["docker.io/library/box:1"]
    config = store.images.config(image)
    assert config.config == {"Cmd": ["sh"]}
    assert config.os == "linux"
    (line,) = store.images.history(image)
    assert (line.comment, line.size) == ("mine", 5)
    (layer,) = store.layers.chain(image.top)
    assert (layer.diff / "etc/motd").read_bytes() == b"hello"


def test_import_of_a_file_and_of_a_directory_is_the_same_layer(
    store: Store, tmp_path: Path
) -> None:
    require_root()
    tree = tmp_path / "tree"
    tree.mkdir()
    fill(tree, {"etc": {"motd": "hello"}, "big": "x" * 3_000_000})
    os.link(tree / "big", tree / "hard")
    os.setxattr(tree / "big", "user.x", b"1")
    os.chown(tree / "etc", 5, 6)
    archive = tmp_path / "tar"
    with archive.open("wb", buffering=0) as out:
        write_flat_tar([tree], out)
    tops = {import_image(store, source).top for source in (tree, archive)}
    assert len(tops) == 1
    (layer,) = store.layers.chain(tops.pop())
    assert_same(snapshot(OsDriver(tree)), snapshot(OsDriver(layer.diff)))


@pytest.mark.parametrize("packed", [False, True])
def test_how_far_an_import_of_an_open_file_is(store: Store, tmp_path: Path, packed: bool) -> None:
    """Also of one that is stdin."""
    content = whole(file(b"./big", os.urandom(3 << 20)))
    data = gzip.compress(content) if packed else content
    (tmp_path / "file").write_bytes(b"before" + data)
    seen: list[Progress] = []
    with (tmp_path / "file").open("rb") as stream:
        stream.seek(len(b"before"))
        import_image(store, stream, report=seen.append)
    assert seen and {progress.total for progress in seen} == {len(data)}
    seen.clear()
    import_image(store, io.BytesIO(data), report=seen.append)
    assert seen and {progress.total for progress in seen} == {None}


def test_changes_and_names_that_cannot_be(store: Store) -> None:
    image = import_image(store, io.BytesIO(ROOTFS), changes=["CMD sh", "ENV a=b"])
    assert store.images.config(image).config["Env"] == ["a=b"]
    with pytest.raises(StoreError):
        import_image(store, io.BytesIO(ROOTFS), changes=["RUN sh"])
    with pytest.raises(StoreError, match="not a valid repository/tag"):
        import_image(store, io.BytesIO(ROOTFS), "Not:Valid:")
    assert len(store.images.all()) == 1


def test_a_full_disk(tmp_path: Path) -> None:
    require_root()
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8M", "tmpfs", small], check=True)
    try:
        with Store.open(small / "store") as store:
            big = [file(b"f%d" % number, os.urandom(1 << 20)) for number in range(12)]
            for source in (whole(*big), gzip.compress(whole(*big))):
                with pytest.raises(StoreError, match="No space left on device"):
                    import_image(store, io.BytesIO(source))
            archive = file(b"manifest.json", b"[]") + whole(*big)
            with pytest.raises(StoreError, match="No space left on device"):
                load(store, io.BytesIO(archive))
            assert store.images.all() == [] and store.layers.all() == []
            assert list(store.staging.path.iterdir()) == []
            import_image(store, io.BytesIO(ROOTFS))
    finally:
        subprocess.run(["umount", "-l", small], check=True)


@as_nobody
def test_without_privilege(site: Site) -> None:
    with Store.open(site.base / "store", sync=False) as store:
        owned = folder(b"./"), file(b"./shadow", b"x", mode=0, gid=42), folder(b"./closed", uid=7)
        image = import_image(store, io.BytesIO(whole(*owned)), "box:1")
        out = io.BytesIO()
        save(store, ["box:1"], out)
        container = store.containers.create(image)
        flat = io.BytesIO()
        export_container(store, container, flat)
    with tarfile.open(fileobj=io.BytesIO(flat.getvalue())) as tar:
        found = {member.name: (member.uid, member.gid, member.mode) for member in tar}
    assert found["shadow"] == (0, 42, 0) and found["closed"] == (7, 0, 0o755)
    with Store.open(site.base / "other", sync=False) as other:
        (line,) = load(other, io.BytesIO(out.getvalue()))
        assert line.image == image.id
    for name in ("store", "other"):
        remove_tree(site.base / name)


def test_a_root_filesystem_that_is_cut_short(store: Store) -> None:
    for archive in (ROOTFS[:-1024], ROOTFS[:700], b""):
        with pytest.raises(InvalidImage, match="cut short"):
            import_image(store, io.BytesIO(archive))
    with pytest.raises(StoreError, match="cannot be imported"):
        import_image(store, Path("/none"))
    assert store.layers.all() == []
    assert list(store.staging.path.iterdir()) == []


def test_export_shows_what_the_container_shows(store: Store, tmp_path: Path) -> None:
    require_root()
    image = import_image(store, io.BytesIO(ROOTFS), "box:1")
    container = store.containers.create(image)
    upper = container.upper
    fill(upper, {"etc": {"motd": None, "new": "1"}, "srv": {}})
    out = io.BytesIO()
    export_container(store, container, out)
    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as tar:
        assert sorted(tar.getnames()) == [".", "etc", "etc/new", "srv"]


GIB = 1 << 30
HUGE = {
    b"hole": (2 * GIB, {}),
    b"middle": (20 * GIB, {10 * GIB: b"middle" * 1000, 15 * GIB: b"more"}),
    b"d" * 120 + b"/" + b"n\xff" * 60: (3 * GIB + 3, {0: b"start", 3 * GIB: b"end"}),
    b"small": (900_000, {0: b"its hole is not worth it"}),
}


def make_sparse(tree: Path) -> None:
    for name, (size, pieces) in HUGE.items():
        path = os.path.join(os.fsencode(tree), name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as out:
            out.truncate(size)
            for at, data in pieces.items():
                out.seek(at)
                out.write(data)


def assert_sparse(tree: Path) -> None:
    for name, (size, pieces) in HUGE.items():
        path = os.path.join(os.fsencode(tree), name)
        st = os.stat(path)
        assert st.st_size == size
        if size > GIB:
            assert st.st_blocks * 512 < 1 << 20
        with open(path, "rb") as found:
            for at, data in pieces.items():
                found.seek(at)
                assert found.read(len(data)) == data


@pytest.fixture
def exported(store: Store) -> bytes:
    """The export of a container with huge sparse files."""
    require_root()
    container = store.containers.create(import_image(store, io.BytesIO(ROOTFS), "box:1"))
    make_sparse(container.upper)
    out = io.BytesIO()
    export_container(store, container, out)
    return out.getvalue()


def test_export_writes_no_large_holes(exported: bytes) -> None:
    """GNU's PAX format 1.0, which Python's tarfile reads, and Go's archive/tar (docker)."""
    assert len(exported) < 1 << 20
    with tarfile.open(fileobj=io.BytesIO(exported)) as tar:
        found = {os.fsencode(member.name): member for member in tar if member.isreg()}
        for name, (size, _) in HUGE.items():
            assert found[name].size == size
        assert not found[b"small"].issparse()
        middle = tar.extractfile(found[b"middle"])
        assert middle is not None
        middle.seek(15 * GIB - 1)
        assert middle.read(6) == b"\0more\0"


@pytest.mark.parametrize("program", ["tar", "bsdtar"])
def test_export_is_unpacked_by_other_programs(
    exported: bytes, tmp_path: Path, program: str
) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    (tmp_path / "out").mkdir()
    command: list[str | Path] = [program, "-xf", "-", "-C", tmp_path / "out"]
    subprocess.run(command, input=exported, check=True, timeout=DEADLINE)
    assert_sparse(tmp_path / "out")


def test_what_was_exported_is_imported(exported: bytes, store: Store) -> None:
    image = import_image(store, io.BytesIO(exported), "box:2")
    (layer,) = store.layers.chain(image.top)
    assert_sparse(layer.diff)


def test_export_while_the_container_changes(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    require_root()
    image = import_image(store, io.BytesIO(ROOTFS), "box:1")
    container = store.containers.create(image)
    upper = container.upper
    fill(upper, {name: {"f": "x", "g": "y"} for name in "abcd"} | {"e": "x", "f": "x"})
    read_names = UnionFiles.names

    def changing(union: UnionFiles, nodeid: NodeId) -> list[bytes]:
        names = read_names(union, nodeid)
        if b"g" in names:
            for name in "abcd":
                (upper / name / "g").unlink(missing_ok=True)
            shutil.rmtree(upper / "c", ignore_errors=True)
            shutil.rmtree(upper / "d", ignore_errors=True)
            (upper / "d").write_text("a file now")
            (upper / "e").unlink(missing_ok=True)
            (upper / "f").write_text("longer than it was")
        return names

    monkeypatch.setattr(UnionFiles, "names", changing)
    out = io.BytesIO()
    export_container(store, container, out)
    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as tar:
        names = {member.name for member in tar}
        longer = tar.extractfile("f")
        assert longer is not None and longer.read() == b"longer than it was"
    assert {"a", "a/f", "b", "b/f", "etc/motd"} <= names
    assert not {"a/g", "c/f", "e"} & names


def test_export_while_a_file_becomes_a_whiteout(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_root()
    container = store.containers.create(import_image(store, io.BytesIO(ROOTFS), "box:1"))
    fill(container.upper, {"etc": {"motd": "changed"}, "f": "x"})
    motd = container.upper / "etc" / "motd"
    look_up = UnionFs.lookup

    def deleting(fs: UnionFs, parent: NodeId, name: bytes) -> Attr | None:
        found = look_up(fs, parent, name)
        if name == b"motd":
            motd.unlink()
            os.mknod(motd, stat.S_IFCHR, os.makedev(0, 0))
        return found

    monkeypatch.setattr(UnionFs, "lookup", deleting)
    out = io.BytesIO()
    export_container(store, container, out)
    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as tar:
        names = {member.name for member in tar}
    assert {"etc", "f"} <= names and "etc/motd" not in names


def test_flat_is_the_merged_tree(tmp_path: Path) -> None:
    require_root()
    layers = [tmp_path / name for name in ("top", "middle", "base")]
    for layer in layers:
        layer.mkdir()
    fill(layers[2], {"d": {"a": "1", "b": "2"}, "gone": "3", "dir": {"x": "1"}})
    fill(layers[1], {"d": {"b": "new"}, "gone": None, "dir": "a file"})
    fill(layers[0], {"d": {"c": "4"}, "gone": {"now": "a directory"}})
    out = io.BytesIO()
    packed = write_flat_tar(layers, out, hashing=True)
    merged, unpacked = tmp_path / "merged", tmp_path / "unpacked"
    merge_layers(layers, merged)
    unpacked.mkdir()
    subprocess.run(["tar", "-C", unpacked, "-xpf", "-"], input=out.getvalue(), check=True)
    assert_same(snapshot(OsDriver(merged)), snapshot(OsDriver(unpacked)), skip=["mtime_ns"])
    assert pack(merged, [], privileged=True).size == packed.size


def test_a_tree_that_cannot_be_read(tmp_path: Path) -> None:
    with (
        pytest.raises(StoreError, match="cannot be read as one tree"),
        PackStream(lambda out: write_flat_tar([tmp_path / "none"], out)) as stream,
    ):
        stream.readall()


def test_a_tree_whose_reader_goes_away(tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(os.urandom(5 << 20))
    with PackStream(lambda out: write_flat_tar([tmp_path], out)) as stream:
        assert stream.read(100)
