"""What an archive becomes on disk, and every way it may try to reach further than that."""

from __future__ import annotations

import io
import os
import stat
import struct
from pathlib import Path

import pytest

from layerstore.db.staging import remove_tree
from layerstore.errors import InvalidImage, LimitExceeded, StoreError, UnsafePath
from layerstore.layer.deletions import Deletions
from layerstore.layer.index import IndexEntry
from layerstore.layer.unpack import unpack
from layerstore.limits import Limits
from tests.helpers.mounts import require_root
from tests.helpers.small_disks import small_disk
from tests.helpers.unions import fill
from tests.layerstore.archives import (
    PRIVILEGED,
    Site,
    as_nobody,
    file,
    folder,
    hardlink,
    header,
    pax,
    pax_of,
    symlink,
    whole,
)

SPACE = "trusted.overlay." if PRIVILEGED else "user.overlay."
OPAQUE = SPACE + "opaque"


def is_whiteout(path: Path) -> bool:
    st = path.lstat()
    return stat.S_ISCHR(st.st_mode) and st.st_rdev == 0


# -- what is made --


def test_files_directories_links(site: Site) -> None:
    done = site.good(
        folder(b"./", mtime=5),
        folder(b"etc/", mtime=7),
        file(b"etc/motd", b"hello", mtime=3, mode=0o640),
        symlink(b"etc/link", b"/nowhere/../x"),
        hardlink(b"etc/again", b"./etc/motd"),
        hardlink(b"absolute", b"/etc/motd"),
    )
    assert done.size == 5
    assert done.entries == 6
    assert (site.diff / "etc/motd").read_bytes() == b"hello"
    assert (site.diff / "etc/motd").stat().st_nlink == 3
    assert (site.diff / "etc/motd").stat().st_mode & 0o7777 == 0o640
    assert os.readlink(site.diff / "etc/link") == "/nowhere/../x"
    times = [(site.diff / name).stat().st_mtime for name in (".", "etc", "etc/motd")]
    assert times == [5, 7, 3]


def test_names_are_bytes_and_may_be_long(site: Site) -> None:
    long = b"/".join([b"d" * 200] * 10) + b"/\xff\xfe\n"
    site.good(pax(path=long), file(b"short", b"x"))
    assert os.fsencode(site.diff) + b"/" + long in [
        os.path.join(top, name)
        for top, _, names in os.walk(os.fsencode(site.diff))
        for name in names
    ]


def test_suid_survives_the_change_of_owner(site: Site) -> None:
    require_root()
    site.good(file(b"su", b"x", mode=0o6755, uid=1000, gid=1001))
    st = (site.diff / "su").stat()
    assert (st.st_uid, st.st_gid, st.st_mode & 0o7777) == (1000, 1001, 0o6755)


def test_capabilities_and_other_attributes(site: Site) -> None:
    require_root()
    caps = bytes.fromhex("0100000200200000000000000000000000000000")
    site.good(
        pax_of(
            {
                b"SCHILY.xattr.security.capability": caps,
                b"SCHILY.xattr.user.binary": b"\0\xff\n=",
                b"SCHILY.xattr.security.selinux": b"label",
                b"SCHILY.xattr.system.nfs4_acl": b"acl",
            }
        ),
        file(b"ping", b"x", uid=5),
    )
    assert site.marks("ping") == {"security.capability": caps, "user.binary": b"\0\xff\n="}


@pytest.mark.parametrize("caps", [b"", b"malformed"])
def test_a_malformed_capability_is_left_out(site: Site, caps: bytes) -> None:
    require_root()
    site.good(pax_of({b"SCHILY.xattr.security.capability": caps}), file(b"ping", b"x"))
    assert site.marks("ping") == {}


def test_devices_and_fifos(site: Site) -> None:
    require_root()
    site.good(
        header(b"null", b"3", device=(1, 3), mode=0o666),
        header(b"disk", b"4", device=(8, 1), mode=0o660),
        header(b"pipe", b"6", mode=0o600),
    )
    assert (site.diff / "null").stat().st_rdev == os.makedev(1, 3)
    assert stat.S_IMODE((site.diff / "null").stat().st_mode) == 0o666
    assert stat.S_ISBLK((site.diff / "disk").stat().st_mode)
    assert (site.diff / "pipe").is_fifo()


def test_times_before_1970_and_with_fractions(site: Site) -> None:
    site.good(pax(mtime=b"-1.5"), file(b"old"), pax(mtime=b"1.000000001"), file(b"new"))
    assert (site.diff / "old").stat().st_mtime_ns == -1_500_000_000
    assert (site.diff / "new").stat().st_mtime_ns == 1_000_000_001


def test_times_no_filesystem_can_keep(site: Site) -> None:
    site.good(
        pax(mtime=b"99999999999999999999"), file(b"a"), pax(mtime=b"-9" + b"0" * 18), file(b"b")
    )


def test_zeros_become_holes(site: Site) -> None:
    content = b"x" * 5000 + bytes(1 << 20) + b"y" * 10 + bytes(300_000)
    site.good(file(b"sparse", content))
    st = (site.diff / "sparse").stat()
    assert (site.diff / "sparse").read_bytes() == content
    assert st.st_blocks * 512 < 100_000


def test_directories_nobody_mentioned(site: Site, tmp_path: Path) -> None:
    lower = tmp_path / "lower"
    lower.mkdir()
    fill(lower, {"usr": {"share": {}}})
    os.chmod(lower / "usr", 0o2750)
    os.utime(lower / "usr", ns=(1, 2))
    site.good(file(b"usr/new/file", b"x"), lowers=[lower])
    assert stat.S_IMODE((site.diff / "usr").stat().st_mode) == 0o2750
    assert (site.diff / "usr").stat().st_mtime_ns == 2
    assert stat.S_IMODE((site.diff / "usr/new").stat().st_mode) == 0o755
    assert stat.S_IMODE(site.diff.stat().st_mode) == stat.S_IMODE(lower.stat().st_mode)


def test_what_comes_twice_replaces_what_was_there(site: Site) -> None:
    site.good(
        file(b"a", b"first"),
        hardlink(b"kept", b"a"),
        file(b"a", b"second, longer"),
        symlink(b"b", b"x"),
        folder(b"b", mtime=9),
        file(b"b/in", b"1"),
        file(b"b", b"now a file"),
        file(b"b", b"and again"),
        folder(b"c"),
        file(b"c/stays", b"2"),
        folder(b"c", mtime=11),
    )
    assert (site.diff / "a").read_bytes() == b"second, longer"
    assert (site.diff / "kept").read_bytes() == b"first"
    assert (site.diff / "b").read_bytes() == b"and again"
    assert (site.diff / "c/stays").read_bytes() == b"2"
    assert (site.diff / "c").stat().st_mtime == 11


def test_link_to_itself_is_nothing(site: Site) -> None:
    site.good(file(b"a", b"x"), hardlink(b"a", b"./a"))
    assert (site.diff / "a").read_bytes() == b"x"


DEPTH = 1100  # deeper than Python calls


def test_deep_trees(site: Site) -> None:
    path = b"/".join([b"d"] * DEPTH)
    site.good(pax(path=path + b"/end"), file(b"x", b"y"), file(b"d", b"a file in its place"))


def test_deep_trees_over_other_layers(site: Site, tmp_path: Path) -> None:
    path = b"/".join([b"d"] * DEPTH)
    site.good(pax(path=path + b"/end"), file(b"x", b"y"), lowers=[tmp_path])
    remove_tree(site.diff)  # pytest could not


# -- whiteouts --


@pytest.mark.parametrize("first", [True, False])
def test_whiteouts_wherever_they_stand(site: Site, first: bool) -> None:
    marks = [file(b"d/.wh.gone"), file(b"d/.wh.own"), file(b"d/.wh.folder"), file(b".wh.top")]
    own = [folder(b"d"), file(b"d/own", b"x"), folder(b"d/folder"), file(b"d/folder/in")]
    parts = [*own[:1], *marks, *own[1:]] if first else [*own, *marks]
    site.good(*parts)
    assert is_whiteout(site.diff / "d/gone")
    assert is_whiteout(site.diff / "top")
    assert (site.diff / "d/own").read_bytes() == b"x"
    assert site.marks("d/folder") == {OPAQUE: b"y"}, "what lies beneath it is deleted"
    assert not list(site.diff.glob("**/.wh.*"))


def test_opaque_directories_hold_no_whiteouts(site: Site) -> None:
    site.good(
        file(b"d/.wh.gone"),
        folder(b"d/sub"),
        file(b"d/sub/.wh.too"),
        file(b"d/.wh..wh..opq"),
        file(b"d/own"),
    )
    assert sorted(os.listdir(site.diff / "d")) == ["own", "sub"]
    assert os.listdir(site.diff / "d/sub") == []
    assert site.marks("d")[OPAQUE] == b"y"


def test_whiteouts_beneath_what_replaced_their_directory(site: Site) -> None:
    # umoci writes them.
    site.good(
        file(b"was-dir", b"x"),
        file(b"was-dir/.wh.old"),
        file(b"was-dir/sub/.wh.old"),
        file(b"was-dir/.wh..wh..opq"),
        symlink(b"link", b"/"),
        file(b"link/.wh.was-dir"),
    )
    assert sorted(os.listdir(site.diff)) == ["link", "was-dir"]


def test_opaque_root(site: Site) -> None:
    site.good(file(b".wh..wh..opq"), file(b"own"), file(b".wh.gone"))
    assert os.listdir(site.diff) == ["own"]
    assert site.marks()[OPAQUE] == b"y"


def test_what_is_aufs_own_is_left_out(site: Site) -> None:
    site.good(
        header(b".wh..wh.aufs", b"0", mode=0o444),
        folder(b".wh..wh.plnk"),
        file(b".wh..wh.plnk/12.34", b"content"),
        folder(b".wh..wh.orph"),
        file(b"real"),
    )
    assert os.listdir(site.diff) == ["real"]


def test_hard_links_of_aufs_are_files_of_the_layer(site: Site) -> None:
    done = site.good(
        folder(b".wh..wh.plnk"),
        file(b".wh..wh.plnk/12.34", b"content", mode=0o4755, mtime=5),
        file(b".wh..wh.plnk/12.35", b"never linked"),
        folder(b"bin"),
        hardlink(b"bin/one", b".wh..wh.plnk/12.34"),
        hardlink(b"two", b"/.wh..wh.plnk/12.34"),
        hardlink(b"three", b"two"),
    )
    assert sorted(os.listdir(site.diff)) == ["bin", "three", "two"]
    assert sorted(os.listdir(site.staging)) == ["diff", "index", "tar-split"]
    st = (site.diff / "bin/one").stat()
    assert (site.diff / "two").read_bytes() == b"content"
    assert (st.st_nlink, st.st_mode & 0o7777, st.st_mtime) == (3, 0o4755, 5)
    assert (site.diff / "three").samefile(site.diff / "bin/one")
    assert done.size == len(b"content")


def test_a_file_of_aufs_that_comes_twice_counts_from_then_on(site: Site) -> None:
    site.good(
        file(b".wh..wh.plnk/1", b"old"),
        hardlink(b"a", b".wh..wh.plnk/1"),
        file(b".wh..wh.plnk/1", b"new"),
        hardlink(b"b", b".wh..wh.plnk/1"),
        # Its name has been used: what is replaced is the layer's own file.
        file(b"a", b"own"),
    )
    assert (site.diff / "a").read_bytes() == b"own"
    assert (site.diff / "b").read_bytes() == b"new"


@pytest.mark.parametrize("name", [b"12.34", b"sub/12.34", b"", b"../x"])
def test_a_hard_link_to_what_aufs_never_had(site: Site, name: bytes) -> None:
    archive = whole(file(b".wh..wh.plnk/sub/12.34", b"x"), hardlink(b"a", b".wh..wh.plnk/" + name))
    with pytest.raises(InvalidImage, match="not a file it has put there before"):
        site.unpack(archive)


def test_whiteouts_count_in_the_limits(site: Site) -> None:
    # 40 headers make the root, 40 directories and 40 whiteouts.
    folders = [file(b"%d/.wh.x" % number) for number in range(40)]
    with pytest.raises(LimitExceeded, match="more than 70 paths"):
        site.unpack(whole(*folders), limits=Limits(entries=70))
    site.unpack(whole(*folders), limits=Limits(entries=81))
    long = [file(b".wh." + b"x" * 80 + b"%d" % number) for number in range(60)]
    with pytest.raises(LimitExceeded, match="of names"):
        site.unpack(whole(*long), limits=Limits(names=4000))


def test_a_whiteout_costs_no_walk_of_the_directories_above_it(site: Site) -> None:
    deep = b"/".join([b"d"] * 1500)

    class Counted(dict[bytes, IndexEntry]):
        looked = 0

        def __contains__(self, path: object) -> bool:
            Counted.looked += 1
            return super().__contains__(path)

    entries = Counted()
    entries[b""] = IndexEntry(b"", stat.S_IFDIR, 0, 0, 0, 0)
    entries[b"d"] = IndexEntry(b"d", stat.S_IFREG, 0, 0, 0, 0)
    deletions = Deletions(entries, lambda _: None)
    for number in range(100):
        deletions.note(b"%b/%d/.wh.x" % (deep, number))
    assert list(deletions.whiteouts(set())) == []
    assert Counted.looked < 100 * 15


def test_whiteout_with_content_and_a_link_name(site: Site) -> None:
    site.good(header(b".wh.a", b"0", 3, linkname=b"stray") + b"abc".ljust(512, b"\0"))
    assert is_whiteout(site.diff / "a")


def test_device_0_0_is_a_whiteout_by_another_name(site: Site) -> None:
    site.good(header(b"gone", b"3"), header(b"own", b"3"), file(b"own", b"x"))
    assert is_whiteout(site.diff / "gone")
    assert (site.diff / "own").read_bytes() == b"x"


@pytest.mark.parametrize("name", [b".wh.", b".wh...", b".wh..", b"d/.wh.", b"d/.wh.."])
def test_whiteouts_of_no_possible_name(site: Site, name: bytes) -> None:
    with pytest.raises(UnsafePath, match="whiteout of no possible name"):
        site.unpack(whole(folder(b"d"), file(name)))


@pytest.mark.parametrize("name", [b".wh../x", b".wh.a/b", b"d/.wh.x/y"])
def test_nothing_lies_beneath_a_whiteout(site: Site, name: bytes) -> None:
    with pytest.raises(InvalidImage, match="beneath a whiteout"):
        site.unpack(whole(file(name)))


# -- ways out, all closed --


@pytest.mark.parametrize(
    "name",
    [b"../victim", b"a/../../victim", b"..", b"/../victim", b"./../victim", b"a/b/../../.."],
)
def test_names_that_climb_are_refused(site: Site, name: bytes) -> None:
    for archive in (
        whole(file(name, b"x")),
        whole(pax(path=name), file(b"ok")),
        whole(header(b"././@LongLink", b"L", len(name) + 1) + name.ljust(512, b"\0"), file(b"ok")),
        whole(file(b"ok"), hardlink(b"link", name)),
        whole(folder(name)),
        whole(file(name + b"/.wh.victim")),
    ):
        with pytest.raises(UnsafePath, match=r"leads out of it by its “\.\.”"):
            site.unpack(archive)


def test_names_that_climb_and_stay_inside_are_what_they_come_to(site: Site) -> None:
    site.good(
        folder(b"./x/"),
        file(b"./x/../y", b"1"),
        symlink(b"away", b"/usr/share"),
        # docker takes the name away, and does not follow the link.
        file(b"away/../z", b"2"),
        hardlink(b"q/./../linked", b"x/../y"),
        folder(b"x/..", mtime=7),
        file(b"d/e/../.wh.gone"),
    )
    assert sorted(os.listdir(site.diff)) == ["away", "d", "linked", "x", "y", "z"]
    assert (site.diff / "z").read_bytes() == b"2"
    assert (site.diff / "linked").samefile(site.diff / "y")
    assert site.diff.stat().st_mtime == 7
    assert is_whiteout(site.diff / "d/gone")


def test_the_root_cannot_be_replaced_by_way_of_dots(site: Site) -> None:
    with pytest.raises(UnsafePath, match="in place of the root directory"):
        site.unpack(whole(file(b"a/..", b"x")))


def test_absolute_names_begin_at_the_root_of_the_image(site: Site) -> None:
    victim = os.fsencode(site.outside / "victim")
    site.good(file(victim, b"inside"), file(b"//etc//passwd", b"x"))
    assert (site.diff / os.fsdecode(victim[1:])).read_bytes() == b"inside"
    assert (site.diff / "etc/passwd").exists()


@pytest.mark.parametrize(
    "target", [b"/", b"..", b"../..", b"../outside", b"{outside}", b"/proc/self/cwd"]
)
def test_links_as_parents_stay_inside(site: Site, target: bytes) -> None:
    target = target.replace(b"{outside}", os.fsencode(site.outside))
    # Where the target exists within the image it is followed there.
    where = b"/".join(part for part in target.split(b"/") if part not in (b"", b".."))
    made = [folder(where)] if where else []
    site.good(
        *made,
        symlink(b"link", target),
        file(b"link/victim", b"x"),
        file(b"link/.wh.inner"),
        file(b"link/.wh..wh..opq"),
        folder(b"link/folder"),
        file(b"link/folder/inner", b"x"),
        hardlink(b"hard", b"link/victim"),
    )
    inside = site.diff / os.fsdecode(where)
    assert (inside / "victim").read_bytes() == b"x"
    assert not (inside / "inner").exists() and OPAQUE not in site.marks()
    assert (site.diff / "hard").stat().st_nlink == 2


def test_links_as_parents_that_lead_nowhere(site: Site) -> None:
    with pytest.raises(UnsafePath, match="a link to nowhere"):
        site.unpack(whole(symlink(b"link", os.fsencode(site.outside)), file(b"link/victim", b"x")))
    with pytest.raises(UnsafePath, match="go in circles"):
        site.unpack(whole(symlink(b"a", b"b"), symlink(b"b", b"a"), file(b"a/x")))
    with pytest.raises(InvalidImage, match="which is no directory"):
        site.unpack(whole(file(b"a"), file(b"a/x")))


def test_a_link_is_replaced_and_not_written_through(site: Site) -> None:
    victim = os.fsencode(site.outside / "victim")
    site.good(
        symlink(b"a", victim),
        file(b"a", b"new", mode=0o777),
        symlink(b"b", os.fsencode(site.outside / "folder")),
        folder(b"b", mtime=1),
        file(b"b/inner", b"new"),
        symlink(b"c", victim),
        header(b"c", b"6"),
    )
    assert (site.diff / "a").read_bytes() == b"new"
    assert (site.diff / "b").is_dir() and not (site.diff / "b").is_symlink()


def test_a_parent_that_turns_into_a_link_is_not_remembered(site: Site) -> None:
    outside = os.fsencode(site.outside)
    with pytest.raises(UnsafePath):
        site.unpack(
            whole(
                folder(b"d"),
                file(b"d/one"),
                symlink(b"d", outside),
                file(b"d/victim", b"x"),
            )
        )


@pytest.mark.parametrize(
    "target", [b"{outside}/victim", b"/etc/passwd", b"missing", b".wh.a", b"up/victim"]
)
def test_hard_links_lead_to_the_archives_own_files(site: Site, target: bytes) -> None:
    target = target.replace(b"{outside}", os.fsencode(site.outside))
    with pytest.raises(InvalidImage, match="not a file it has put there before"):
        site.unpack(
            whole(
                symlink(b"up", os.fsencode(site.outside)),
                file(b".wh.a"),
                hardlink(b"link", target),
            )
        )


def test_hard_link_to_a_link_is_to_the_link(site: Site) -> None:
    site.good(symlink(b"a", os.fsencode(site.outside / "victim")), hardlink(b"b", b"a"))
    assert (site.diff / "b").is_symlink()


def test_hard_link_to_a_directory(site: Site) -> None:
    with pytest.raises(InvalidImage, match="which is a directory"):
        site.unpack(whole(folder(b"d"), hardlink(b"link", b"d")))


@pytest.mark.parametrize("name", [b"./", b"/", b".", b"./."])
@pytest.mark.parametrize("kind", [b"0", b"2", b"1", b"6"])
def test_the_root_stays_a_directory(site: Site, name: bytes, kind: bytes) -> None:
    if kind == b"0":
        name = name.rstrip(b"/") or b"//."  # with a slash it is a directory of before POSIX
    with pytest.raises(UnsafePath, match="in place of the root"):
        site.unpack(whole(header(name, kind, linkname=b"/")))


def test_marks_of_overlayfs_are_not_taken_from_an_archive(site: Site) -> None:
    names = ("trusted.overlay.opaque", "user.overlay.opaque", "user.fuseoverlayfs.opaque")
    more = ("trusted.overlay.redirect", "user.overlay.metacopy", "user.containers.override_stat")
    records = {f"SCHILY.xattr.{name}".encode(): b"y" for name in (*names, *more)}
    site.good(pax_of(records), folder(b"d"), pax_of(records), file(b"f"))
    kept = {SPACE + "overlay.opaque": b"y"}
    last = "redirect" if PRIVILEGED else "metacopy"
    assert site.marks("d") == site.marks("f") == kept | {f"{SPACE}overlay.{last}": b"y"}


def acl(mask: int, other: int) -> bytes:
    entries = [(1, 6, -1), (2, 7, 1000), (4, 4, -1), (0x10, mask, -1), (0x20, other, -1)]
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)


def test_an_acl_that_contradicts_the_mode(site: Site) -> None:
    record = {b"SCHILY.xattr.system.posix_acl_access": acl(7, 5)}
    site.good(
        pax_of(record), file(b"f", b"x", mode=0o600), pax_of(record), header(b"p", b"6", mode=0o640)
    )
    assert stat.S_IMODE((site.diff / "f").stat().st_mode) == 0o600
    assert site.marks("f") == {"system.posix_acl_access": acl(0, 0)}


def test_default_acls_are_not_inherited_while_unpacking(site: Site) -> None:
    acl = bytes.fromhex(
        "02000000 01000700ffffffff 04000700ffffffff 10000700ffffffff 20000700ffffffff"
    )
    site.good(
        pax_of({b"SCHILY.xattr.system.posix_acl_default": acl}),
        folder(b"d"),
        file(b"d/f", b"", mode=0o600),
    )
    assert stat.S_IMODE((site.diff / "d/f").stat().st_mode) == 0o600
    assert "system.posix_acl_access" not in site.marks("d/f")


# -- damage and bombs --


def test_cut_short_at_every_place(site: Site) -> None:
    archive = whole(pax(path=b"long"), file(b"x", b"content" * 200), symlink(b"l", b"t"))
    for size in (*range(1, 40), *range(500, len(archive) - 1024, 61)):
        if size in (1536, len(archive) - 1024):
            continue
        with pytest.raises(InvalidImage):
            site.unpack(archive[:size], whole=True)


def test_an_end_that_is_missing(site: Site) -> None:
    archive = file(b"x", b"content")
    site.unpack(archive)
    with pytest.raises(InvalidImage, match="it has no end"):
        site.unpack(archive, whole=True)


def test_what_follows_the_end_is_kept(site: Site) -> None:
    archive = whole(file(b"x", b"content")) + bytes(9216) + b"rubbish"
    site.unpack(archive)
    site.check(archive)


def test_a_lone_block_of_zeros_hides_nothing(site: Site) -> None:
    with pytest.raises(InvalidImage, match="lone block of zeros"):
        site.unpack(file(b"x") + bytes(512) + file(b"y"))


def test_wrong_checksum(site: Site) -> None:
    good = file(b"x")
    for at in (0, 100, 130, 400):
        bad = good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :]
        with pytest.raises(InvalidImage, match="checksum"):
            site.unpack(whole(bad))


@pytest.mark.parametrize("kind", [b"x", b"L", b"K", b"g"])
def test_extended_headers_have_a_limit(site: Site, kind: bytes) -> None:
    with pytest.raises(LimitExceeded, match="extended header"):
        site.unpack(whole(header(b"x", kind, (1 << 20) + 1), bytes(1 << 21)))


def test_limits_of_entries_sizes_and_replacements(site: Site) -> None:
    with pytest.raises(LimitExceeded, match="headers"):
        site.unpack(whole(*[folder(b"d")] * 11), limits=Limits(entries=10))
    with pytest.raises(LimitExceeded, match="files of the archive"):
        site.unpack(whole(file(b"x", bytes(2048))), limits=Limits(size=2000))
    implied = pax(path=b"/".join([b"d"] * 20)) + file(b"x")
    for limits in (Limits(entries=10), Limits(names=100)):
        with pytest.raises(LimitExceeded, match="paths"):
            site.unpack(whole(implied), limits=limits)
    with pytest.raises(LimitExceeded, match="replaces its own directories"):
        site.unpack(whole(*[folder(b"d"), file(b"d")] * 20), limits=Limits(scans=20))


@pytest.mark.parametrize(
    "bad",
    [
        header(b"x", b"Q"),
        header(b"x", size=b"\x80" + b"\xff" * 11),
        header(b"x", size=b"\xff" * 12),
        header(b"x", size=b"9999"),
        header(b"x", uid=b"\xff" * 8),
        pax(path=b"a\0b") + file(b"x"),
        pax(path=b"a" * 300) + file(b"x"),
        pax(path=b"a/" * 3000) + file(b"x"),
        pax(size=b"-5") + file(b"x"),
        pax(size=b"1e9") + file(b"x"),
        pax(mtime=b"soon") + file(b"x"),
        pax(uid=b"99999999999") + file(b"x"),
        pax(linkpath=b"a\0b") + symlink(b"x", b"t"),
        header(b"x", b"3", device=(0o10000, 1)),
        header(b"x", b"4", device=(1, 0o7777777)),
        symlink(b"x", b""),
        symlink(b"x", b"t" * 100) and pax(linkpath=b"t" * 5000) + symlink(b"x", b"t"),
    ],
)
def test_values_that_make_no_sense(site: Site, bad: bytes) -> None:
    with pytest.raises(InvalidImage):
        site.unpack(whole(bad))


def test_a_full_disk_says_so(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(StoreError, match="unpacking “x” failed: No space left") as caught:
        site.unpack(whole(file(b"x", b"y")))
    assert not isinstance(caught.value, InvalidImage)


@pytest.mark.parametrize(("kind", "size"), [("ext4", 10_000), ("tmpfs", 70_000)])
def test_attributes_larger_than_the_filesystem_keeps(tmp_path: Path, kind: str, size: int) -> None:
    require_root()
    archive = pax_of({b"SCHILY.xattr.user.large": bytes(size)}) + file(b"x", b"y")
    with small_disk(tmp_path, kind, 8 << 20) as top:
        (top / "site").mkdir()
        with pytest.raises(InvalidImage, match="“x” in the archive has more in attributes"):
            Site(top / "site").unpack(archive)


def test_a_stream_that_fails_is_let_go(site: Site) -> None:
    class Broken(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            raise OSError(5, "the pipe broke")

        readinto = None  # type: ignore[assignment]

    site.staging = site.base / "broken"
    site.staging.mkdir()
    with pytest.raises(StoreError, match="pipe broke"):
        unpack(Broken(), site.staging, privileged=PRIVILEGED)


# -- without privilege --


@as_nobody
def test_owners_and_devices_are_recorded_without_privilege(site: Site) -> None:
    site.good(
        folder(b"d", uid=1),
        file(b"shadow", b"x", mode=0, gid=42),
        file(b"mine", b"x"),
        header(b"null", b"3", device=(1, 3), mode=0o666),
        pax_of({b"SCHILY.xattr.trusted.x": b"1", b"SCHILY.xattr.user.overlay.opaque": b"y"}),
        file(b"odd"),
        file(b".wh.gone"),
        folder(b"closed"),
        file(b"closed/.wh..wh..opq"),
        privileged=False,
    )
    override = "user.containers.override_stat"
    assert site.marks("d") == {override: b"1:0:0755:dir"}
    assert site.marks("shadow") == {override: b"0:42:0000:file"}
    assert (site.diff / "shadow").read_bytes() == b"x"
    assert site.marks("mine") == {}
    assert site.marks("null") == {override: b"0:0:0666:char-1-3"}
    assert site.marks("odd") == {"user.overlay.overlay.opaque": b"y"}
    assert site.marks("closed") == {"user.overlay.opaque": b"y"}
    assert is_whiteout(site.diff / "gone")


def test_whiteouts_where_nobody_may_make_devices(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermissionError(1, os.strerror(1))

    monkeypatch.setattr(os, "mknod", refused)
    site.good(folder(b"d"), file(b"d/.wh.gone"), file(b".wh.top"), file(b"d/own"))
    assert site.marks("d/gone") == {SPACE + "whiteout": b"y"}
    assert site.marks("d") == site.marks() == {OPAQUE: b"x"}
