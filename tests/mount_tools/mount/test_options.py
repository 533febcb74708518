"""What the options mean, which are refused, and what the refusal says."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mount_tools.mount.mount_options import MountOptions
from mount_tools.mount.option_grammar import OptionError
from mount_tools.mount.option_table import SECTIONS, VFS_FLAGS
from mount_tools.mount.options import MEANT, parse_options
from tests.helpers.mounts import layer_options
from unionfs.core.config import (
    MAX_LOWERS,
    IdRange,
    OverrideStat,
    RedirectDir,
    UnionConfig,
    WhiteoutForm,
)
from unionfs.syscalls import mount as ms

WRITABLE = "lowerdir=/l,upperdir=/u,workdir=/w"


def parse(*texts: str, privileged: bool = True, sloppy: bool = False) -> MountOptions:
    return parse_options(texts, privileged=privileged, sloppy=sloppy)


def union(*texts: str) -> UnionConfig:
    return parse(WRITABLE, *texts).union


def refusal(*texts: str) -> str:
    with pytest.raises(OptionError) as caught:
        parse(*texts)
    message = str(caught.value)
    assert "\n" not in message
    return message


raw_paths = st.binary(min_size=1, max_size=24).map(lambda b: b"/" + b.replace(b"\0", b"/"))


@given(st.lists(raw_paths, min_size=1, max_size=8), raw_paths, raw_paths)
def test_any_path_can_be_a_layer(lowers: list[bytes], upper: bytes, work: bytes) -> None:
    text = os.fsdecode(layer_options(lowers, upper, work))
    config = parse(text).union
    assert (config.lowers, config.upper, config.work) == (tuple(lowers), upper, work)


def test_writable_mount() -> None:
    options = parse(WRITABLE)
    assert options == MountOptions(
        union=UnionConfig(lowers=(b"/l",), upper=b"/u", work=b"/w"), allow_other=True
    )


def test_an_ordinary_users_mount_is_for_that_user_alone() -> None:
    assert not parse(WRITABLE, privileged=False).allow_other
    assert parse(WRITABLE, "allow_other", privileged=False).allow_other


def test_without_an_upper_the_mount_is_read_only() -> None:
    options = parse("lowerdir=/a:/b")
    assert options.union.read_only
    assert options.flags == ms.MS_RDONLY


def test_ro_with_an_upper() -> None:
    options = parse("ro", WRITABLE)
    assert options.union.read_only
    assert options.union.upper == b"/u"
    assert options.flags == ms.MS_RDONLY
    assert not parse("ro", WRITABLE, "rw").union.read_only


def test_layers_may_be_added_one_by_one() -> None:
    config = union("lowerdir+=/m\\:1", "lowerdir+=/n", "datadir+=/d")
    assert config.lowers == (b"/l", b"/m:1", b"/n")
    assert config.data == (b"/d",)
    assert "come last" in refusal(WRITABLE, "datadir+=/d,lowerdir+=/m")


def test_the_last_word_wins() -> None:
    assert union("lowerdir=/x:/y").lowers == (b"/x", b"/y")
    assert union("index=off,index=on").index
    assert union("volatile,fsync=1").volatile is False


def test_what_the_union_does() -> None:
    assert union("redirect_dir=nofollow").redirect_dir is RedirectDir.NOFOLLOW
    assert union("redirect_dir=off").redirect_dir is RedirectDir.OFF
    assert union("whiteout=xattr").whiteout is WhiteoutForm.XATTR
    assert union("metacopy=on").metacopy
    assert not union("index=off").index
    assert union("volatile").volatile
    assert union("fsync=0").volatile
    assert union("userxattr").userxattr is True
    assert union().userxattr is None
    assert union("timeout=2.5").timeout == 2.5
    assert union("timeout=0").timeout == 0
    assert union("timeout=inf").timeout is None


def test_ids() -> None:
    config = union("uidmapping=:0:1000:1:1:100000:65536", "gidmapping=0:5:1", "squash_to_uid=7")
    assert config.uid_map == (IdRange(0, 1000, 1), IdRange(1, 100000, 65536))
    assert config.gid_map == (IdRange(0, 5, 1),)
    assert config.squash_uid == 7
    root = union("squash_to_root")
    assert (root.squash_uid, root.squash_gid) == (0, 0)


def test_io_uring_belongs_to_dev_fuse() -> None:
    assert parse(WRITABLE).io_uring == "auto"
    assert parse(WRITABLE, "io_uring=off,transport=pyfuse3").transport == "pyfuse3"
    assert parse(WRITABLE, "io_uring=on").transport == "dev_fuse"
    with pytest.raises(OptionError, match="needs transport=dev_fuse"):
        parse(WRITABLE, "io_uring=on", "transport=pyfuse3")


def test_noopen_is_for_read_only_mounts_of_our_own_transport() -> None:
    options = parse("lowerdir=/a", "noopen")
    assert options.no_open
    assert options.transport == "dev_fuse"
    assert parse(WRITABLE, "ro,noopen").no_open
    with pytest.raises(OptionError, match="noopen is for a read-only mount; add ro"):
        parse(WRITABLE, "noopen")
    with pytest.raises(OptionError, match="noopen needs transport=dev_fuse"):
        parse("lowerdir=/a", "noopen,transport=pyfuse3")


def test_how_it_is_mounted() -> None:
    options = parse(
        WRITABLE,
        'context="u:r:t:s0:c1,c2",fsname=a\\,b,noacl,noxattrs=1,transport=pyfuse3',
        "foreground,debug,log=/x.log",
    )
    assert options.selinux == ('context="u:r:t:s0:c1,c2"',)
    assert options.fsname == "a,b"
    assert not options.acl
    assert not options.xattrs
    assert options.transport == "pyfuse3"
    assert options.foreground
    assert options.debug
    assert options.log == "/x.log"


@pytest.mark.parametrize("name", sorted(VFS_FLAGS))
def test_flags_of_the_vfs(name: str) -> None:
    on, off = VFS_FLAGS[name]
    assert parse(WRITABLE, name).flags & ~ms.MS_RDONLY == on & ~ms.MS_RDONLY
    everything = ",".join(word for word, (bits, _) in VFS_FLAGS.items() if bits & off)
    assert not parse(WRITABLE, everything, name).flags & off
    assert "takes no value" in refusal(WRITABLE, f"{name}=1")


def test_what_engines_and_mount8_pass_is_accepted() -> None:
    parse(
        "rw",
        WRITABLE,
        "private,defaults,auto,noauto,user,users,owner,group,_netdev,nofail,comment=x,x-systemd.y=z",
        "X-mount.mkdir,default_permissions,threaded=1,fast_ino=1,static_nlink,writeback=0",
        "max_write=131072,splice_read,no_splice_write,kernel_cache,xino=on,override_creds,dev,suid",
        "uuid=auto,nfs_export=off,verity=off,xattr_permissions=0,noxattrs=0,nodev,nosuid,noexec",
    )


@pytest.mark.parametrize("engine", [False, True])
def test_owners_in_attributes_go_without_acls(engine: bool) -> None:
    """The ACL of the real file would say something else."""
    options = parse_options([f"{WRITABLE},xattr_permissions=2"], privileged=True, engine=engine)
    assert options.union.override is OverrideStat.CONTAINERS
    assert not options.acl
    assert parse(WRITABLE, "xattr_permissions=0").acl


@pytest.mark.parametrize(
    "text",
    [
        "nfs_export=on",
        "verity=on",
        "verity=require",
        "uuid=on",
        "ino32_t",
        "ino32_t=1",
        "nooverride_creds",
        "allow_root",
        "auto_unmount",
        "attr_timeout=5",
    ],
)
def test_what_would_change_what_is_seen_is_refused(text: str) -> None:
    message = refusal(WRITABLE, text)
    assert text in message
    assert "not supported" in message


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("upperdri=/u", "did you mean 'upperdir'"),
        ("redirectdir=on", "did you mean 'redirect_dir'"),
        ("zzzzzzzzzzzz", "--help"),
        ("=x", "unknown option ''"),
        ("redirect_dir=maybe", "on, follow, nofollow, off"),
        ("redirect_dir", "needs a value"),
        ("index=1", "on, off"),
        ("metacopy=", "needs a value"),
        ("whiteout=none", "auto, char, xattr, aufs"),
        ("transport=fast", "auto, dev_fuse, pyfuse3"),
        ("volatile=yes", "takes no value"),
        ("fsync=2", "0, 1"),
        ("timeout=soon", "number of seconds"),
        ("timeout=-1", "number of seconds"),
        ("timeout=nan", "number of seconds"),
        ("upperdir=", "needs a value"),
        ("lowerdir=", "lowerdir= is empty"),
        ("lowerdir+=", "needs a value"),
        ("lowerdir", "lowerdir= is empty"),
        ("squash_to_uid=me", "not an id"),
        ("uidmapping=0:0", "ID_IN_LAYER:ID_SHOWN:COUNT"),
        ("log=", "needs a value"),
        ("context=", "needs a value"),
    ],
)
def test_bad_options_say_what_is_wrong(text: str, says: str) -> None:
    assert says in refusal(WRITABLE, text)


def test_incomplete_sets_of_layers() -> None:
    assert "lowerdir=" in refusal("rw")
    assert "lowerdir=" in refusal()
    assert "without workdir=" in refusal("lowerdir=/l,upperdir=/u")
    assert "without upperdir=" in refusal("lowerdir=/l,workdir=/w")


def test_up_to_the_most_layers() -> None:
    most = ":".join(f"/layers/{n}" for n in range(MAX_LOWERS))
    assert len(parse(f"lowerdir={most}").union.lowers) == MAX_LOWERS
    assert f"{MAX_LOWERS + 1} lower layers" in refusal(f"lowerdir={most}:/one/more")
    assert f"{MAX_LOWERS + 1} lower layers" in refusal(f"lowerdir={most}", "lowerdir+=/one/more")
    assert f"{MAX_LOWERS + 1} lower layers" in refusal(f"lowerdir={most}::/one/more")


def test_sloppy_ignores_the_unknown_but_not_the_wrong() -> None:
    assert parse(WRITABLE, "upperdri=/u", sloppy=True) == parse(WRITABLE)
    with pytest.raises(OptionError):
        parse(WRITABLE, "index=maybe", sloppy=True)


FOR_ENGINES = (
    "max_threads=4,max_idle_threads=2,modules=iconv,attr_timeout=5,entry_timeout=1,ino32_t",
    "negative_timeout=0,allow_root,auto_unmount,sharecache,Z,nooverride_creds,nfs_export=on",
)


def test_what_fuse_overlayfs_takes_or_ignores_stops_no_engine() -> None:
    texts = (f"{WRITABLE},,volatile", "uidmapping=,gidmapping=", *FOR_ENGINES)
    options = parse_options(texts, privileged=True, engine=True)
    assert options.union == UnionConfig(
        lowers=(b"/l",), upper=b"/u", work=b"/w", volatile=True, overflow_ids=True
    )
    assert options.ignored == tuple(",".join(FOR_ENGINES).split(","))
    for text in FOR_ENGINES:
        refusal(WRITABLE, text)
    squashed = parse_options((WRITABLE, "squash_to_root=1"), privileged=True, engine=True).union
    assert (squashed.squash_uid, squashed.squash_gid) == (0, 0)


@pytest.mark.parametrize(
    "text",
    [
        "upperdri=/u",
        "lowedir=/x",
        "xattr_permissions=3",
        "verity=require",
        "uidmapping=0:0",
        "timeout=soon",
        "workdir=",
    ],
)
def test_real_mistakes_stop_an_engine(text: str) -> None:
    with pytest.raises(OptionError):
        parse_options([WRITABLE, text], privileged=True, engine=True)


def test_long_values_are_cut_in_messages() -> None:
    assert len(refusal(WRITABLE, "timeout=" + "9x" * 5000)) < 200


def test_a_mount_of_an_image_is_nosuid_and_nodev() -> None:
    def flags(*texts: str) -> int:
        return parse_options(texts, privileged=True, of_image=True).flags

    assert flags() == flags("defaults,rw") == ms.MS_NOSUID | ms.MS_NODEV
    assert flags("suid") == ms.MS_NODEV
    assert flags("dev,suid") == 0
    assert flags("dev,suid,nosuid") == ms.MS_NOSUID
    assert parse(WRITABLE).flags == 0


def test_noallow_other() -> None:
    assert not parse(WRITABLE, "noallow_other").allow_other
    assert parse(WRITABLE, "noallow_other,allow_other").allow_other


def test_every_option_that_has_an_effect_is_described_and_the_reverse() -> None:
    described = {option.name for section in SECTIONS for option in section.options}
    assert described | set(VFS_FLAGS) == MEANT


def test_ids_and_times_are_ascii_digits() -> None:
    for word in ("squash_to_uid=\u0663", "uidmapping=0:\u0663:1", "timeout=\u0663"):
        assert "is not" in refusal(WRITABLE, word)
