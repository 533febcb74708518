"""The protocol without a kernel: request bytes in, reply bytes out, over a real union."""

from __future__ import annotations

import errno
import gc
import itertools
import os
import struct
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

from unionfs.core.config import UnionConfig
from unionfs.core.union import UnionFs, open_union
from unionfs.types import ROOT_NODEID
from unionfs.wire import abi
from unionfs.wire.abi import Init, Opcode
from unionfs.wire.request import Defer, Request
from unionfs.wire.session import MAX_WRITE, Session, Terms

EVERYTHING = (1 << 62) - 1


class Table:
    """Stands for the kernel's table of backing files."""

    def __init__(self) -> None:
        self.open: dict[int, int] = {}
        self._ids = itertools.count(100)

    def register(self, fd: int, *, writes: bool) -> int:
        backing_id = next(self._ids)
        self.open[backing_id] = fd
        return backing_id

    def close(self, backing_id: int) -> None:
        del self.open[backing_id]


class Kernel:
    """Asks a session what the kernel would, and takes the replies apart."""

    def __init__(self, fs: UnionFs, terms: Terms, offered: int = EVERYTHING) -> None:
        self.session = Session(fs, terms)
        self.reply = self.session.init(init_request(offered))

    def ask(
        self,
        opcode: Opcode,
        nodeid: int,
        args: bytes = b"",
        data: bytes = b"",
        *,
        uid: int = 0,
        wait: bool = True,
    ) -> bytes:
        """Return the reply's body."""
        message = bytearray(args + data)
        out = bytearray(16 + MAX_WRITE)
        request = Request(message, 0, message, out, 16)
        request.opcode, request.nodeid, request.uid = opcode, nodeid, uid
        request.start, request.end, request.wait = len(args), len(message), wait
        assert self.session.argument_size(opcode) == len(args)
        size = self.session.serve(request)
        return bytes(out[16 : 16 + size])

    def lookup(self, parent: int, name: bytes) -> tuple[int, ...]:
        body = self.ask(Opcode.LOOKUP, parent, data=name + b"\0")
        assert len(body) == abi.ENTRY_SIZE
        return (
            *abi.ENTRY_HEAD.unpack_from(body)[:1],
            *abi.ENTRY_VALID.unpack_from(body, 8),
            *abi.ATTR.unpack_from(body, abi.ENTRY_HEAD.size),
        )

    def open(self, nodeid: int, flags: int, *, wait: bool = True) -> tuple[int, int, int]:
        """Return fh, open_flags, backing_id."""
        body = self.ask(Opcode.OPEN, nodeid, abi.OPEN_IN.pack(flags, 0), wait=wait)
        fh, open_flags, backing_id = abi.OPEN_OUT.unpack(body)
        return fh, open_flags, backing_id

    def release(self, nodeid: int, fh: int) -> None:
        self.ask(Opcode.RELEASE, nodeid, abi.RELEASE_IN.pack(fh, 0, 0, 0))


def init_request(offered: int, minor: int = 45) -> bytes:
    body = abi.INIT_IN.pack(7, minor, 1 << 17, offered & 0xFFFFFFFF)
    body += abi.INIT_IN_FLAGS2.pack(offered >> 32) + bytes(44)
    return abi.IN_HEADER.pack(40 + len(body), Opcode.INIT, 7, 0, 0, 0, 0, 0) + body


@pytest.fixture
def fs(tmp_path: Path) -> Iterator[UnionFs]:
    for name in ("lower", "upper", "work"):
        (tmp_path / name).mkdir()
    (tmp_path / "lower/f").write_bytes(b"data")
    for name in ("big", "big1", "big2"):
        (tmp_path / "lower" / name).write_bytes(bytes(100_000))
    (tmp_path / "lower/d").mkdir()
    for number in range(50):
        (tmp_path / f"lower/d/name{number}").touch()
    lower, upper, work = (bytes(tmp_path / name) for name in ("lower", "upper", "work"))
    union = open_union(UnionConfig(lowers=(lower,), upper=upper, work=work))
    yield union
    union.close()


@pytest.fixture
def kernel(fs: UnionFs) -> Kernel:
    return Kernel(fs, Terms())


def test_init_agrees_on_what_both_know(fs: UnionFs) -> None:
    """Flags not offered are not asked for, and those of flags2 come back there."""
    offered = Init.INIT_EXT | Init.PASSTHROUGH | Init.BIG_WRITES | Init.WRITEBACK_CACHE
    kernel = Kernel(fs, Terms(pass_all=True, backings=Table(), stack_depth=2), offered)
    length, error, unique = abi.OUT_HEADER.unpack_from(kernel.reply)
    fields = abi.INIT_OUT.unpack_from(kernel.reply, 16)
    assert (length, error, unique) == (len(kernel.reply), 0, 7)
    assert fields[:2] == (7, 45)
    assert fields[3] == Init.INIT_EXT | Init.BIG_WRITES
    assert fields[6] == MAX_WRITE
    assert fields[10:12] == (Init.PASSTHROUGH >> 32, 2)


def test_init_of_an_older_kernel(fs: UnionFs) -> None:
    """7.31 has no flags2; what it leaves behind its flags is not read."""
    session = Session(fs, Terms(pass_all=True, backings=Table()))
    session.init(init_request(EVERYTHING & ~Init.INIT_EXT, minor=31))
    assert session.minor == 31
    assert not session.flags & (Init.PASSTHROUGH | Init.OVER_IO_URING)


def test_init_of_a_kernel_too_old(fs: UnionFs) -> None:
    with pytest.raises(OSError, match=r"7\.30") as caught:
        Session(fs, Terms()).init(init_request(0, minor=30))
    assert caught.value.errno == errno.EPROTO


def test_lookup_tells_everything_stat_shows(kernel: Kernel, tmp_path: Path) -> None:
    st = os.stat(tmp_path / "lower/f")
    entry = kernel.lookup(ROOT_NODEID, b"f")
    assert entry[0] == entry[6] == st.st_ino
    assert entry[7] == 4
    assert entry[10] * 10**9 + entry[13] == st.st_mtime_ns
    assert entry[15:19] == (st.st_mode, 1, st.st_uid, st.st_gid)


def test_requests_leave_nothing_to_the_garbage_collector(fs: UnionFs) -> None:
    """The daemon keeps it from looking often: there may be millions of inodes."""
    kernel = Kernel(fs, Terms(pass_all=True, backings=Table()))

    def ask_everything(name: bytes) -> None:
        d = kernel.lookup(ROOT_NODEID, b"d")[0]
        kernel.ask(Opcode.READDIRPLUS, d, abi.READ_IN.pack(0, 0, 4096, 0, 0, 0, 0))
        lower = kernel.lookup(d, name)[0]
        kernel.ask(Opcode.GETATTR, lower, abi.GETATTR_IN.pack(0, 0, 0))
        kernel.release(lower, kernel.open(lower, os.O_RDONLY)[0])
        times = abi.SETATTR_IN.pack(abi.FATTR_MTIME, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0)
        kernel.ask(Opcode.SETATTR, lower, times)
        created = kernel.ask(
            Opcode.CREATE, d, abi.CREATE_IN.pack(os.O_CREAT | os.O_RDWR, 0o644, 0, 0), b"new\0"
        )
        new = abi.ENTRY_HEAD.unpack_from(created)[0]
        kernel.release(new, abi.OPEN_OUT.unpack_from(created, abi.ENTRY_SIZE)[0])
        to_d = abi.RENAME2_IN.pack(d, 0, 0)
        kernel.ask(Opcode.RENAME2, d, to_d, b"new\0newer\0")
        kernel.ask(Opcode.SYMLINK, d, b"", b"link\0target\0")
        kernel.ask(Opcode.MKDIR, d, abi.MKDIR_IN.pack(0o755, 0), b"sub\0")
        with pytest.raises(OSError):
            kernel.ask(Opcode.RMDIR, d, b"", b"none\0")
        kernel.ask(Opcode.RMDIR, d, b"", b"sub\0")
        for gone in (b"newer", b"link", name):
            kernel.ask(Opcode.UNLINK, d, b"", gone + b"\0")
        for nodeid in (new, lower, d):
            fs.forget(nodeid, 1)

    ask_everything(b"name0")
    gc.collect()
    gc.disable()
    try:
        ask_everything(b"name1")
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_an_absent_name_is_remembered_unless_layers_change(fs: UnionFs) -> None:
    """nodeid 0 with a time to live, or ENOENT where there is none."""
    assert Kernel(fs, Terms()).lookup(ROOT_NODEID, b"none")[:3] == (0, 0, 1 << 31)
    with pytest.raises(FileNotFoundError):
        Kernel(fs, Terms(timeout=0.0)).lookup(ROOT_NODEID, b"none")


def test_syncfs_waits_for_the_disk(kernel: Kernel) -> None:
    with pytest.raises(Defer):
        kernel.ask(Opcode.SYNCFS, ROOT_NODEID, abi.SYNCFS_IN.pack(), wait=False)
    assert kernel.ask(Opcode.SYNCFS, ROOT_NODEID, abi.SYNCFS_IN.pack()) == b""


def test_unknown_requests_are_not_asked_again(kernel: Kernel) -> None:
    for opcode in (Opcode.ACCESS, Opcode.OPENDIR, Opcode.FLUSH):
        with pytest.raises(OSError) as caught:
            kernel.ask(opcode, ROOT_NODEID)
        assert caught.value.errno == errno.ENOSYS


def test_forgets_free_inodes(kernel: Kernel, fs: UnionFs) -> None:
    nodes = [kernel.lookup(ROOT_NODEID, name)[0] for name in (b"f", b"d", b"d")]
    single = abi.FORGET_IN.pack(1)
    kernel.session.forget(Opcode.FORGET, nodes[0], single, 0)
    batch = abi.BATCH_FORGET_IN.pack(1, 0) + abi.FORGET_ONE.pack(nodes[1], 2)
    kernel.session.forget(Opcode.BATCH_FORGET, 0, batch, 0)
    assert fs.counters()["inodes"] == 1


def test_a_copy_up_is_deferred_before_anything_is_done(kernel: Kernel, tmp_path: Path) -> None:
    nodeid = kernel.lookup(ROOT_NODEID, b"f")[0]
    with pytest.raises(Defer):
        kernel.open(nodeid, os.O_RDWR, wait=False)
    assert not (tmp_path / "upper/f").exists()
    kernel.open(nodeid, os.O_RDWR, wait=True)
    assert (tmp_path / "upper/f").read_bytes() == b"data"


def test_what_is_raised_for_each_request_keeps_no_frames(fs: UnionFs) -> None:
    """An exception raised a second time would hold all that raised it before, for good."""
    kernel = Kernel(fs, Terms(timeout=0))
    nodeid = kernel.lookup(ROOT_NODEID, b"f")[0]
    for ask in (
        lambda: kernel.open(nodeid, os.O_RDWR, wait=False),
        lambda: kernel.ask(Opcode.LOOKUP, ROOT_NODEID, b"", b"absent\0"),
    ):
        depths = []
        for _ in range(3):
            with pytest.raises((Defer, OSError)) as caught:
                ask()
            depths.append(len(list(traceback.walk_tb(caught.value.__traceback__))))
        assert len(set(depths)) == 1


@pytest.mark.parametrize(
    ("opcode", "wanted"),
    [(Opcode.READDIR, False), (Opcode.READDIRPLUS, False), (Opcode.READDIRPLUS, True)],
    ids=["names", "bare", "with attributes"],
)
def test_a_listing_in_small_pieces_is_whole(
    kernel: Kernel, fs: UnionFs, opcode: Opcode, wanted: bool
) -> None:
    """Each reply keeps to its size; cookies lead on; . and .. carry no inode.

    Files carry theirs once somebody looked one up where they were listed without.
    """
    nodeid = kernel.lookup(ROOT_NODEID, b"d")[0]
    if wanted:
        kernel.ask(opcode, nodeid, abi.READ_IN.pack(0, 0, 600, 0, 0, 0, 0))
        kernel.lookup(nodeid, b"name0")
    skip = abi.ENTRY_SIZE if opcode is Opcode.READDIRPLUS else 0
    names: list[bytes] = []
    counted: list[int] = []
    offset = 0
    while body := kernel.ask(opcode, nodeid, abi.READ_IN.pack(0, offset, 600, 0, 0, 0, 0)):
        assert len(body) <= 600
        at = 0
        while at < len(body):
            if skip:
                counted.append(struct.unpack_from("=Q", body, at)[0])
            at += skip
            _, offset, length, _ = abi.DIRENT.unpack_from(body, at)
            names.append(body[at + 24 : at + 24 + length])
            at += 24 + length + 7 & ~7
    assert names[:2] == [b".", b".."]
    assert sorted(names[2:]) == sorted(b"name%d" % number for number in range(50))
    if skip:
        assert counted[:2] == [0, 0]
        assert wanted is (0 not in counted[2:])
        assert fs.counters()["inodes"] == (52 if wanted else 2)


def test_every_handle_of_an_inode_has_the_same_backing(fs: UnionFs) -> None:
    """Registered by the first open, given up by the last release."""
    table = Table()
    kernel = Kernel(fs, Terms(pass_all=True, backings=table))
    nodeid = kernel.lookup(ROOT_NODEID, b"big")[0]
    kernel.release(nodeid, kernel.open(nodeid, os.O_RDWR)[0])
    first, flags, backing_id = kernel.open(nodeid, os.O_RDONLY)
    second = kernel.open(nodeid, os.O_RDONLY)
    assert flags == abi.FOPEN_PASSTHROUGH | abi.FOPEN_NOFLUSH
    assert second[2] == backing_id
    kernel.release(nodeid, first)
    assert list(table.open) == [backing_id]
    kernel.release(nodeid, second[0])
    assert not table.open


def test_a_writer_of_a_file_read_by_passthrough_gets_a_new_inode(fs: UnionFs) -> None:
    """ESTALE makes the kernel look the name up again; readers keep the old inode."""
    kernel = Kernel(fs, Terms(pass_all=True, backings=Table()))
    old = kernel.lookup(ROOT_NODEID, b"big")
    reader, _, backing_id = kernel.open(old[0], os.O_RDONLY)
    with pytest.raises(OSError) as caught:
        kernel.open(old[0], os.O_RDWR)
    assert caught.value.errno == errno.ESTALE
    new = kernel.lookup(ROOT_NODEID, b"big")
    assert new[0] != old[0]
    assert new[6] == old[6], "st_ino"
    assert kernel.open(new[0], os.O_RDWR)[2] != backing_id
    kernel.release(old[0], reader)


def test_readers_of_a_lower_file_share_a_handle_that_outlives_them(fs: UnionFs) -> None:
    table = Table()
    kernel = Kernel(fs, Terms(pass_all=True, backings=table))
    nodeid = kernel.lookup(ROOT_NODEID, b"big")[0]
    first = kernel.open(nodeid, os.O_RDONLY)
    assert kernel.open(nodeid, os.O_RDONLY) == first
    for _ in range(2):
        kernel.release(nodeid, first[0])
    assert list(table.open) == [first[2]]
    assert kernel.open(nodeid, os.O_RDONLY) == first
    read = abi.READ_IN.pack(first[0], 99_997, 4096, 0, 0, 0, 0)
    assert kernel.ask(Opcode.READ, nodeid, read) == bytes(3)


def test_a_kept_handle_gives_way_to_a_writer(fs: UnionFs, tmp_path: Path) -> None:
    table = Table()
    kernel = Kernel(fs, Terms(pass_all=True, backings=table))
    nodeid = kernel.lookup(ROOT_NODEID, b"big")[0]
    reader = kernel.open(nodeid, os.O_RDONLY)
    kernel.release(nodeid, reader[0])
    writer = kernel.open(nodeid, os.O_RDWR)
    assert list(table.open) == [writer[2]]
    kernel.release(nodeid, writer[0])
    again = kernel.open(nodeid, os.O_RDONLY)
    assert os.fstat(table.open[again[2]]).st_ino != (tmp_path / "lower/big").stat().st_ino
    kernel.release(nodeid, again[0])
    assert not table.open, "a file of the upper is not kept open: it may be deleted"


def test_a_kept_handle_is_not_for_an_inode_met_anew(fs: UnionFs) -> None:
    """Forgotten, copied up under another handle, and opened by the same nodeid."""
    table = Table()
    kernel = Kernel(fs, Terms(pass_all=True, backings=table))
    nodeid = kernel.lookup(ROOT_NODEID, b"big")[0]
    reader = kernel.open(nodeid, os.O_RDONLY)
    kernel.release(nodeid, reader[0])
    kernel.session.forget(Opcode.FORGET, nodeid, abi.FORGET_IN.pack(1), 0)
    assert kernel.lookup(ROOT_NODEID, b"big")[0] == nodeid
    writer = kernel.open(nodeid, os.O_RDWR)
    kernel.ask(Opcode.WRITE, nodeid, abi.WRITE_IN.pack(writer[0], 0, 3, 0, 0, 0, 0), data=b"new")
    kernel.release(nodeid, writer[0])
    again = kernel.open(nodeid, os.O_RDONLY)
    assert os.pread(table.open[again[2]], 3, 0) == b"new"
    kernel.release(nodeid, again[0])


def test_few_files_are_kept_open(fs: UnionFs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unionfs.wire.files._KEPT", 2)
    table = Table()
    kernel = Kernel(fs, Terms(pass_all=True, backings=table))
    opened = []
    for name in (b"big", b"big1", b"big2", b"big"):
        nodeid = kernel.lookup(ROOT_NODEID, name)[0]
        opened.append(kernel.open(nodeid, os.O_RDONLY))
        kernel.release(nodeid, opened[-1][0])
    assert len(table.open) == 2
    assert opened[3][0] != opened[0][0]
    assert fs.counters()["handles"] == 2


def test_a_file_the_kernel_cannot_take_goes_through_us(fs: UnionFs) -> None:
    class Refusing(Table):
        def register(self, fd: int, *, writes: bool) -> int:
            raise OSError(errno.EOPNOTSUPP, "not this one")

    kernel = Kernel(fs, Terms(pass_all=True, backings=Refusing()))
    nodeid = kernel.lookup(ROOT_NODEID, b"big")[0]
    fh, flags, backing_id = kernel.open(nodeid, os.O_RDONLY)
    assert (flags, backing_id) == (abi.FOPEN_KEEP_CACHE | abi.FOPEN_NOFLUSH, 0)
    read = abi.READ_IN.pack(fh, 99_997, 4096, 0, 0, 0, 0)
    assert kernel.ask(Opcode.READ, nodeid, read) == bytes(3)


def test_a_small_lower_file_is_kept_by_the_kernel(fs: UnionFs) -> None:
    """Also by who writes to it meanwhile; only then is the upper passed through."""
    table = Table()
    kernel = Kernel(fs, Terms(pass_all=True, backings=table))
    nodeid = kernel.lookup(ROOT_NODEID, b"f")[0]
    kept = abi.FOPEN_KEEP_CACHE | abi.FOPEN_NOFLUSH
    reader, *opened = kernel.open(nodeid, os.O_RDONLY)
    assert opened == [kept, 0]
    writer, *opened = kernel.open(nodeid, os.O_RDWR)
    assert opened == [kept, 0]
    kernel.release(nodeid, reader)
    kernel.release(nodeid, writer)
    assert not table.open
    assert kernel.open(nodeid, os.O_RDONLY)[1] & abi.FOPEN_PASSTHROUGH


def test_a_failure_of_the_moment_keeps_no_pages(fs: UnionFs) -> None:
    """The kernel was short of memory; at the next open it may not be."""

    class Exhausted(Table):
        def register(self, fd: int, *, writes: bool) -> int:
            raise OSError(errno.ENOMEM, "not now")

    kernel = Kernel(fs, Terms(pass_all=True, backings=Exhausted()))
    nodeid = kernel.lookup(ROOT_NODEID, b"big")[0]
    assert kernel.open(nodeid, os.O_RDONLY)[1:] == (0, 0)


def test_attributes_of_both_sizes(kernel: Kernel) -> None:
    """Size 0 asks how much room a value takes; too little of it is ERANGE."""
    nodeid = kernel.lookup(ROOT_NODEID, b"f")[0]
    value = b"x" * 10
    kernel.ask(
        Opcode.SETXATTR, nodeid, abi.SETXATTR_IN.pack(len(value), 0, 0, 0), b"user.a\0" + value
    )
    asked = b"user.a\0"
    assert kernel.ask(Opcode.GETXATTR, nodeid, abi.GETXATTR_IN.pack(0, 0), asked)[:4] == b"\n\0\0\0"
    assert kernel.ask(Opcode.GETXATTR, nodeid, abi.GETXATTR_IN.pack(10, 0), asked) == value
    with pytest.raises(OSError) as caught:
        kernel.ask(Opcode.GETXATTR, nodeid, abi.GETXATTR_IN.pack(9, 0), asked)
    assert caught.value.errno == errno.ERANGE


def test_setxattr_in_the_short_form(fs: UnionFs) -> None:
    """Without SETXATTR_EXT the struct is half as long."""
    kernel = Kernel(fs, Terms(), EVERYTHING & ~Init.SETXATTR_EXT)
    nodeid = kernel.lookup(ROOT_NODEID, b"f")[0]
    kernel.ask(Opcode.SETXATTR, nodeid, abi.SETXATTR_IN_SHORT.pack(1, 0), b"user.a\0v")
    assert fs.getxattr(nodeid, b"user.a") == b"v"


def test_setattr_takes_only_what_is_valid(kernel: Kernel, tmp_path: Path) -> None:
    nodeid = kernel.lookup(ROOT_NODEID, b"f")[0]
    values = (0, 99, 0, 0, 0, 0, 0, 0, 0, 0o100600, 77, 78)
    args = abi.SETATTR_IN.pack(abi.FATTR_MODE | abi.FATTR_GID, *values)
    body = kernel.ask(Opcode.SETATTR, nodeid, args)
    assert abi.ATTR.unpack_from(body, abi.ATTR_HEAD.size)[1] == 4, "size"
    assert (tmp_path / "upper/f").stat().st_mode & 0o7777 == 0o600
    assert (tmp_path / "upper/f").stat().st_gid == 78
    assert (tmp_path / "upper/f").stat().st_uid == (tmp_path / "lower/f").stat().st_uid


def test_truncate_by_somebody_without_fsetid_takes_suid(kernel: Kernel, tmp_path: Path) -> None:
    nodeid = kernel.lookup(ROOT_NODEID, b"f")[0]
    (tmp_path / "lower/f").chmod(0o4755)
    values = (0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    args = abi.SETATTR_IN.pack(abi.FATTR_SIZE | abi.FATTR_KILL_SUIDGID, *values)
    kernel.ask(Opcode.SETATTR, nodeid, args)
    assert (tmp_path / "upper/f").stat().st_mode & 0o7777 == 0o755
    assert (tmp_path / "upper/f").read_bytes() == b"d"


def test_trusted_names_are_listed_for_root_alone(kernel: Kernel) -> None:
    nodeid = kernel.lookup(ROOT_NODEID, b"f")[0]
    kernel.ask(Opcode.SETXATTR, nodeid, abi.SETXATTR_IN.pack(1, 0, 0, 0), b"trusted.a\0v")
    room = abi.GETXATTR_IN.pack(100, 0)
    assert kernel.ask(Opcode.LISTXATTR, nodeid, room) == b"trusted.a\0"
    assert kernel.ask(Opcode.LISTXATTR, nodeid, room, uid=1000) == b""


class Given:
    """Stands for the kernel's pages."""

    def __init__(self) -> None:
        self.files: list[tuple[int, bytes]] = []
        self.forgotten: list[int] = []

    def store(self, nodeid: int, data: bytes | bytearray) -> None:
        self.files.append((nodeid, bytes(data)))

    def forget_attributes(self, nodeid: int) -> None:
        self.forgotten.append(nodeid)


def test_a_small_lower_file_is_given_with_its_first_open(fs: UnionFs) -> None:
    given = Given()
    kernel = Kernel(fs, Terms(pass_all=True, backings=Table(), cache=given))
    nodeid = kernel.lookup(ROOT_NODEID, b"f")[0]
    for _ in range(2):
        kernel.open(nodeid, os.O_RDONLY)
    assert given.files == [(nodeid, b"data")]


def test_what_is_large_empty_or_in_the_upper_is_not_given(fs: UnionFs) -> None:
    given = Given()
    kernel = Kernel(fs, Terms(pass_all=True, backings=Table(), cache=given))
    kernel.open(kernel.lookup(ROOT_NODEID, b"big")[0], os.O_RDONLY)
    kernel.open(kernel.lookup(kernel.lookup(ROOT_NODEID, b"d")[0], b"name0")[0], os.O_RDONLY)
    nodeid = kernel.lookup(ROOT_NODEID, b"f")[0]
    writer = kernel.open(nodeid, os.O_RDWR)[0]
    kernel.ask(Opcode.WRITE, nodeid, abi.WRITE_IN.pack(writer, 0, 3, 0, 0, 0, 0), data=b"new")
    kernel.release(nodeid, writer)
    kernel.open(nodeid, os.O_RDONLY)
    assert given.files == []
