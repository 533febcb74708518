"""What of a layer goes into its archive, and that the same change is always the same bytes."""

from __future__ import annotations

import io
import os
import shutil
import stat
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from layerstore.errors import InvalidImage, StoreError
from layerstore.layer.index import compare, read_index
from layerstore.layer.pack import Packed, Packing, pack
from layerstore.layer.tar_split import assemble
from layerstore.layer.unpack import unpack
from tests.helpers.descriptors import make_deep
from tests.helpers.mounts import require_root
from tests.helpers.trees import merge_layers, raw
from tests.helpers.unions import Content, fill
from tests.layerstore.archives import PRIVILEGED, Site, as_nobody

SPACE = "trusted.overlay." if PRIVILEGED else "user.overlay."


class Box:
    """A layer over others, packed."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.diff = base / "layer" / "diff"
        self.lower = base / "lower"
        self.record = base / "layer"
        self.diff.mkdir(parents=True)
        self.lower.mkdir()

    def fill(self, lower: Content, diff: Content) -> None:
        fill(self.lower, lower)
        fill(self.diff, diff)

    def mark(self, path: str, name: str, value: bytes) -> None:
        os.setxattr(self.diff / path, SPACE + name, value)

    def pack(self, lowers: Sequence[Path] | None = None) -> tuple[bytes, Packed]:
        """Pack the layer; index and tar-split have to be right as well."""
        lowers = [self.lower] if lowers is None else lowers
        for name in ("index", "tar-split"):
            (self.record / name).unlink(missing_ok=True)
        before = [raw(layer) for layer in (self.diff, *lowers)]
        out = io.BytesIO()
        packed = pack(self.diff, lowers, out, privileged=PRIVILEGED, record=self.record)
        assert [raw(layer) for layer in (self.diff, *lowers)] == before
        archive = out.getvalue()
        assert packed.archive_size == len(archive)
        again = io.BytesIO()
        assert assemble(self.record, again, lowers=lowers).diff_id == packed.diff_id
        assert again.getvalue() == archive
        index = {entry.path: entry for entry in read_index(self.record / "index")}
        assert list(compare(self.diff, index)) == []
        assert pack(self.diff, lowers, privileged=PRIVILEGED) == packed, "nowhere is no different"
        return archive, packed

    def names(self) -> list[str]:
        return members(self.pack()[0])

    def merged(self, *layers: Path) -> Path:
        target = self.base / f"merged{len(os.listdir(self.base))}"
        merge_layers(layers, target)
        return target


def members(archive: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:") as tar:
        return [member.name + ("/" if member.isdir() else "") for member in tar]


@pytest.fixture
def box(tmp_path: Path) -> Box:
    require_root()
    return Box(tmp_path)


def test_nothing_changed_is_no_entry(box: Box) -> None:
    box.fill({"a": "1"}, {})
    shutil.copystat(box.lower, box.diff)
    assert box.pack()[1].entries == 0


def test_order_whiteouts_first(box: Box) -> None:
    box.fill(
        {"d": {"b": "1", "z": "1", "a": {"x": "1"}}, "gone": {"in": "1"}, "kept": "1"},
        {"d": {"c": "new", "z": None, "a": None, "b": "changed"}, "gone": None, "new": "1"},
    )
    shutil.copystat(box.lower, box.diff)
    assert box.names() == [".wh.gone", "d/", "d/.wh.a", "d/.wh.z", "d/b", "d/c", "new"]


def test_root_is_an_entry_where_it_changed(box: Box) -> None:
    box.fill({"a": "1"}, {"b": "1"})
    os.chmod(box.diff, 0o700)
    assert box.names() == ["./", "b"]
    assert members(box.pack([])[0])[0] == "./"


def test_root_of_a_first_layer_is_no_entry_unless_it_is_special(box: Box) -> None:
    """So the same files make the same layer on scratch at any time, as in docker."""
    box.fill({}, {"b": "1"})
    os.chmod(box.diff, 0o755)
    assert members(box.pack([])[0]) == ["b"]
    os.setxattr(box.diff, "user.x", b"1")
    assert members(box.pack([])[0]) == ["./", "b"]


def test_redirect_is_the_whole_directory(box: Box) -> None:
    box.fill(
        {"old": {"deep": {"file": "content"}, "other": "1"}, "taken": {"mine": "1", "other": "2"}},
        {"old": None, "new": {"added": "1"}, "taken": {}},
    )
    box.mark("new", "redirect", b"old")
    box.mark("taken", "redirect", b"/old")
    assert box.names() == [
        ".wh.old",
        "new/",
        "new/added",
        "new/deep/",
        "new/deep/file",
        "new/other",
        "taken/",
        "taken/.wh.mine",
        "taken/deep/",
        "taken/deep/file",
        "taken/other",
    ]


def test_metacopy_is_the_whole_file(box: Box) -> None:
    box.fill({"file": "content of the lower"}, {"file": ""})
    os.truncate(box.diff / "file", len("content of the lower"))
    box.mark("file", "metacopy", b"")
    os.chmod(box.diff / "file", 0o711)
    archive, _ = box.pack()
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        member = tar.getmember("file")
        found = tar.extractfile(member)
        assert found is not None and found.read() == b"content of the lower"
        assert member.mode == 0o711


def test_opaque_is_explicit_whiteouts(box: Box) -> None:
    box.fill({"d": {"a": "1", "b": {"c": "1"}}}, {"d": {"b": {}, "new": "1"}})
    box.mark("d", "opaque", b"y")
    assert box.names() == ["d/", "d/.wh.a", "d/b/", "d/b/.wh.c", "d/new"]


# The same on every machine, and in every version to come.
_DELETION = "sha256:d42fffd77167093824ea30b4c11d2cf1199504aa51beec908447fb8f20fcb66d"


def xattr_form(box: Box) -> None:
    (box.diff / "d/gone").write_bytes(b"")
    box.mark("d/gone", "whiteout", b"y")
    box.mark("d", "opaque", b"x")


def char_form(box: Box) -> None:
    os.mknod(box.diff / "d/gone", stat.S_IFCHR)


def aufs_form(box: Box) -> None:
    (box.diff / "d/.wh.gone").touch()


def opaque_form(box: Box) -> None:
    box.mark("d", "opaque", b"y")


@pytest.mark.parametrize("form", [xattr_form, char_form, aufs_form, opaque_form])
def test_every_form_of_a_deletion_has_one_digest(
    box: Box, form: Callable[[Box], None], tmp_path: Path
) -> None:
    box.fill({"d": {"gone": "1"}}, {"d": {"new": "1"}})
    form(box)
    os.chmod(box.diff / "d", 0o755)
    os.chmod(box.diff / "d/new", 0o644)
    for name in ("d/new", "d"):
        os.utime(box.diff / name, ns=(0, 123))
    _, packed = box.pack()
    assert packed.diff_id == _DELETION, members(box.pack()[0])


def test_digest_depends_on_neither_inodes_nor_order(box: Box, tmp_path: Path) -> None:
    names = [f"n{number}" for number in range(50)]
    digests: set[str] = set()
    for order in (names, names[::-1]):
        other = Box(tmp_path / f"box{len(digests)}{order[0]}")
        for name in order:
            (other.diff / name).write_text(name)
            os.utime(other.diff / name, ns=(0, 7))
        os.link(other.diff / order[0], other.diff / "m")
        os.unlink(other.diff / order[0])
        os.rename(other.diff / "m", other.diff / order[0])
        os.utime(other.diff, ns=(0, 7))
        digests.add(other.pack([])[1].diff_id)
    assert len(digests) == 1


def test_hard_links_to_the_first_name(box: Box) -> None:
    box.fill({"below": "1"}, {"z": "content"})
    os.link(box.diff / "z", box.diff / "a")
    (box.diff / "m").mkdir()
    os.link(box.diff / "z", box.diff / "m/link")
    archive, packed = box.pack()
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        assert [(m.name, m.linkname) for m in tar if m.islnk()] == [("m/link", "a"), ("z", "a")]
    assert packed.size == len("content")


def test_everything_a_file_has(box: Box, site: Site) -> None:
    box.fill({}, {"f": "x", "d": {}, "l": "t"})
    os.setxattr(box.diff / "f", "user.binary", b"\0\xff\n")
    os.setxattr(box.diff / "f", "trusted.overlay.overlay.opaque", b"y")
    os.setxattr(box.diff / "d", "trusted.own", b"1")
    os.chown(box.diff / "f", 3_000_000, 5)
    os.chmod(box.diff / "f", 0o4755)
    os.mknod(box.diff / "dev", stat.S_IFBLK | 0o640, os.makedev(8, 300))
    os.mkfifo(box.diff / "pipe")
    os.symlink("t" * 3000, box.diff / "long")
    os.utime(box.diff / "f", ns=(1, 1_234_567_890_123_456_789))
    (box.diff / os.fsdecode(b"\xff" * 200)).write_bytes(b"y")
    sparse = box.diff / "sparse"
    with sparse.open("wb") as file:
        file.seek(1 << 20)
        file.write(b"data")
        file.truncate(3 << 20)
    archive, packed = box.pack()
    assert site.unpack(archive).diff_id == packed.diff_id
    mine, theirs = (list(read_index(folder / "index")) for folder in (box.record, site.staging))
    assert mine[1:] == theirs[1:], "all but the root, which is no entry"
    assert (site.diff / "sparse").stat().st_blocks < 100
    assert site.marks("f")["trusted.overlay.overlay.opaque"] == b"y"


def test_sockets_are_left_out(box: Box) -> None:
    box.fill({}, {"f": "x"})
    os.mknod(box.diff / "socket", stat.S_IFSOCK | 0o600)
    assert box.names() == ["f"]


def test_unpacked_again_it_is_the_same_tree(box: Box, tmp_path: Path) -> None:
    box.fill(
        {"etc": {"a": "1", "b": "2", "sub": {"x": "1"}}, "file": "1", "dir": {"in": "1"}},
        {
            "etc": {"a": None, "c": "3", "sub": {"y": "1"}},
            "file": {"now": "a directory"},
            "dir": "now a file",
        },
    )
    box.mark("etc/sub", "opaque", b"y")
    archive, packed = box.pack()
    staging = tmp_path / "again"
    staging.mkdir()
    done = unpack(io.BytesIO(archive), staging, privileged=PRIVILEGED, lowers=[box.lower])
    assert done.diff_id == packed.diff_id
    again = pack(staging / "diff", [box.lower], privileged=PRIVILEGED)
    assert again.diff_id == packed.diff_id


def test_a_file_that_shrinks_is_an_error(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    box.fill({}, {"f": "x" * 100})
    real = os.readv

    def shrinking(fd: int, views: Sequence[memoryview]) -> int:
        os.truncate(box.diff / "f", 3)
        return real(fd, views)

    monkeypatch.setattr(os, "readv", shrinking)
    with pytest.raises(Exception, match="became shorter"):
        pack(box.diff, [], privileged=PRIVILEGED)


@as_nobody
def test_owners_recorded_without_privilege_are_packed(site: Site) -> None:
    folder = site.base / "packed"
    (folder / "diff").mkdir(parents=True)
    (folder / "diff" / "mine").write_text("x")
    other = folder / "diff" / "other"
    other.write_text("x")
    os.setxattr(other, "user.containers.override_stat", b"5:6:4711:file")
    device = folder / "diff" / "null"
    device.touch()
    os.setxattr(device, "user.containers.override_stat", b"0:0:0666:char-1-3")
    os.setxattr(other, "user.containers.override_security.capability", b"caps")
    out = io.BytesIO()
    pack(folder / "diff", [], out, privileged=False, record=folder)
    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as tar:
        found = {member.name: member for member in tar}
    assert (found["mine"].uid, found["mine"].gid) == (0, 0)
    assert (found["other"].uid, found["other"].gid, found["other"].mode) == (5, 6, 0o4711)
    assert found["null"].ischr() and (found["null"].devmajor, found["null"].devminor) == (1, 3)
    assert found["other"].pax_headers == {"SCHILY.xattr.security.capability": "caps"} | {
        key: value for key, value in found["other"].pax_headers.items() if key == "mtime"
    }
    shutil.rmtree(folder)


def test_a_path_longer_than_an_image_can_hold(box: Box) -> None:
    make_deep(box.diff, b"d" * 250, 262)
    with pytest.raises(StoreError, match="cannot be packed: its path has 65,761 bytes") as caught:
        pack(box.diff, [box.lower], privileged=PRIVILEGED)
    assert "remove it, and export what is left" in str(caught.value)
    with pytest.raises(StoreError, match="cannot be packed") as caught:
        pack(box.diff, [], privileged=PRIVILEGED, how=Packing(flat=True))
    assert str(caught.value).endswith("65,535 at most: remove it")


def test_a_mark_of_fuse_overlayfs_that_a_command_made_is_refused(tmp_path: Path) -> None:
    """The kernel's overlayfs lets it through, and our union would hide what is beneath."""
    box = Box(tmp_path)
    box.fill({"d": {"kept": b"x"}}, {"d": {}})
    os.setxattr(box.diff / "d", "user.fuseoverlayfs.opaque", b"y")
    names = Packing(any_names=True)
    with pytest.raises(InvalidImage, match=r"“/d” cannot be in a layer with the attribute"):
        pack(box.diff, [box.lower], privileged=PRIVILEGED, record=box.record, how=names)
