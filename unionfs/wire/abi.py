"""The kernel's FUSE ABI: opcodes, flags and struct layouts, with the minor that added each.

The names are those of include/uapi/linux/fuse.h (GPL-2.0 or BSD-2-Clause).  Its
layouts are defined here and only here.
"""

from __future__ import annotations

from struct import Struct

from unionfs.light_enum import IntEnum

MAJOR = 7
MINOR = 45
OLDEST_MINOR = 31


class Opcode(IntEnum):
    """enum fuse_opcode."""

    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    SETATTR = 4
    READLINK = 5
    SYMLINK = 6
    MKNOD = 8
    MKDIR = 9
    UNLINK = 10
    RMDIR = 11
    RENAME = 12
    LINK = 13
    OPEN = 14
    READ = 15
    WRITE = 16
    STATFS = 17
    RELEASE = 18
    FSYNC = 20
    SETXATTR = 21
    GETXATTR = 22
    LISTXATTR = 23
    REMOVEXATTR = 24
    FLUSH = 25
    INIT = 26
    OPENDIR = 27
    READDIR = 28
    RELEASEDIR = 29
    FSYNCDIR = 30
    SETLK = 32
    SETLKW = 33
    ACCESS = 34
    CREATE = 35
    INTERRUPT = 36
    DESTROY = 38
    IOCTL = 39
    BATCH_FORGET = 42
    FALLOCATE = 43
    READDIRPLUS = 44
    RENAME2 = 45
    LSEEK = 46
    COPY_FILE_RANGE = 47  # 7.28
    SYNCFS = 50  # 7.34
    TMPFILE = 51  # 7.37
    STATX = 52  # 7.39
    COPY_FILE_RANGE_64 = 53  # 7.45


def opcode_name(opcode: int) -> str:
    """Return the name of `opcode`, or its number if it is unknown."""
    try:
        return Opcode(opcode).name
    except ValueError:
        return f"opcode {opcode}"


class Init:
    """Flags of INIT, plain numbers; those from bit 32 on are in flags2 (7.36)."""

    ASYNC_READ = 1 << 0
    ATOMIC_O_TRUNC = 1 << 3
    EXPORT_SUPPORT = 1 << 4
    BIG_WRITES = 1 << 5
    DONT_MASK = 1 << 6
    FLOCK_LOCKS = 1 << 10
    HAS_IOCTL_DIR = 1 << 11
    AUTO_INVAL_DATA = 1 << 12
    DO_READDIRPLUS = 1 << 13
    ASYNC_DIO = 1 << 15
    WRITEBACK_CACHE = 1 << 16
    NO_OPEN_SUPPORT = 1 << 17
    PARALLEL_DIROPS = 1 << 18
    POSIX_ACL = 1 << 20
    ABORT_ERROR = 1 << 21
    MAX_PAGES = 1 << 22
    CACHE_SYMLINKS = 1 << 23
    NO_OPENDIR_SUPPORT = 1 << 24
    HANDLE_KILLPRIV_V2 = 1 << 28
    SETXATTR_EXT = 1 << 29
    INIT_EXT = 1 << 30
    PASSTHROUGH = 1 << 37
    NO_EXPORT_SUPPORT = 1 << 38
    ALLOW_IDMAP = 1 << 40
    OVER_IO_URING = 1 << 41


def init_names(flags: int) -> str:
    """Return the names of flags of INIT, with | between."""
    return "|".join(name for name, flag in vars(Init).items() if name.isupper() and flags & flag)


# fuse_setattr_in.valid
FATTR_MODE = 1 << 0
FATTR_UID = 1 << 1
FATTR_GID = 1 << 2
FATTR_SIZE = 1 << 3
FATTR_ATIME = 1 << 4
FATTR_MTIME = 1 << 5
FATTR_FH = 1 << 6
FATTR_ATIME_NOW = 1 << 7
FATTR_MTIME_NOW = 1 << 8
FATTR_KILL_SUIDGID = 1 << 11

# With ALLOW_IDMAP, the ids of a request that creates nothing.
INVALID_UIDGID = 0xFFFFFFFF

GETATTR_FH = 1 << 0
FSYNC_FDATASYNC = 1 << 0
LK_FLOCK = 1 << 0
RELEASE_FLOCK_UNLOCK = 1 << 1
OPEN_KILL_SUIDGID = 1 << 0
WRITE_KILL_SUIDGID = 1 << 2
SETXATTR_ACL_KILL_SGID = 1 << 0

FOPEN_DIRECT_IO = 1 << 0
FOPEN_KEEP_CACHE = 1 << 1
FOPEN_NOFLUSH = 1 << 5
FOPEN_PASSTHROUGH = 1 << 7

NOTIFY_INVAL_INODE = 2
NOTIFY_INVAL_ENTRY = 3
NOTIFY_STORE = 4

# len, opcode, unique, nodeid, uid, gid, pid, total_extlen
IN_HEADER = Struct("=IIQQIIIH2x")
# len, error, unique
OUT_HEADER = Struct("=IiQ")

# major, minor, max_readahead, flags, flags2 (what follows is unused)
INIT_IN = Struct("=IIII")
INIT_IN_FLAGS2 = Struct("=I")
# major, minor, max_readahead, flags, max_background, congestion_threshold, max_write,
# time_gran, max_pages, map_alignment, flags2, max_stack_depth, request_timeout
INIT_OUT = Struct("=IIIIHHIIHHIIH22x")

# ino, size, blocks, atime, mtime, ctime, their ns, mode, nlink, uid, gid, rdev, blksize, flags
ATTR = Struct("=QQQqqqIIIIIIIIII")
# nodeid, then ENTRY_VALID, which is the same for all; ATTR follows
ENTRY_HEAD = Struct("=Q32s")
# generation, entry_valid, attr_valid, entry_valid_nsec, attr_valid_nsec
ENTRY_VALID = Struct("=QQQII")
ENTRY_SIZE = ENTRY_HEAD.size + ATTR.size
# attr_valid, attr_valid_nsec, dummy; ATTR follows
ATTR_HEAD = Struct("=QII")
ATTR_SIZE = ATTR_HEAD.size + ATTR.size
# The two in one call: a head and ATTR.
ENTRY_OUT = Struct("=Q32s" + ATTR.format[1:])
ATTR_OUT = Struct(f"={ATTR_HEAD.size}s" + ATTR.format[1:])

INTERRUPT_IN = Struct("=Q")
# ino, off, len; and parent, namelen, flags, before the name
# nodeid, offset, size; the data follows
NOTIFY_STORE_OUT = Struct("=QQI4x")
NOTIFY_INVAL_INODE_OUT = Struct("=Qqq")
NOTIFY_INVAL_ENTRY_OUT = Struct("=QII")
FORGET_IN = Struct("=Q")
FORGET_ONE = Struct("=QQ")
BATCH_FORGET_IN = Struct("=II")
GETATTR_IN = Struct("=IIQ")
# valid, fh, size, lock_owner, atime, mtime, ctime, their ns, mode, uid, gid
SETATTR_IN = Struct("=I4xQQQqqqIIII4xII4x")
MKNOD_IN = Struct("=IIII")
MKDIR_IN = Struct("=II")
RENAME_IN = Struct("=Q")
RENAME2_IN = Struct("=QII")
LINK_IN = Struct("=Q")
OPEN_IN = Struct("=II")
CREATE_IN = Struct("=IIII")
# fh, open_flags, backing_id
OPEN_OUT = Struct("=QIi")
# fh, flags, release_flags, lock_owner
RELEASE_IN = Struct("=QIIQ")
# fh, owner, start, end, type, pid, lk_flags
LK_IN = Struct("=QQQQIII4x")
# fh, offset, size, read_flags or write_flags, lock_owner, flags
READ_IN = Struct("=QQIIQII")
WRITE_IN = READ_IN
WRITE_OUT = Struct("=II")
# blocks, bfree, bavail, files, ffree, bsize, namelen, frsize
STATFS_OUT = Struct("=QQQQQIII28x")
SYNCFS_IN = Struct("=8x")
FSYNC_IN = Struct("=QII")
# size, flags, setxattr_flags (7.33, if SETXATTR_EXT was agreed on)
SETXATTR_IN = Struct("=IIII")
SETXATTR_IN_SHORT = Struct("=II")
GETXATTR_IN = Struct("=II")
GETXATTR_OUT = Struct("=II")
# fh, flags, cmd, arg, in_size, out_size
IOCTL_IN = Struct("=QIIQII")
# result, flags, in_iovs, out_iovs
IOCTL_OUT = Struct("=iIII")
# fh, offset, length, mode
FALLOCATE_IN = Struct("=QQQII")
# fh, offset (signed, as loff_t), whence
LSEEK_IN = Struct("=QqII")
LSEEK_OUT = Struct("=Q")
# fh_in, off_in, nodeid_out, fh_out, off_out, len, flags
COPY_FILE_RANGE_IN = Struct("=QQQQQQQ")
COPY_FILE_RANGE_OUT = Struct("=Q")
# getattr_flags, fh, sx_flags, sx_mask
STATX_IN = Struct("=I4xQII")
# attr_valid, attr_valid_nsec, flags; struct statx follows
STATX_OUT = Struct("=QII16x")

# ino, off, namelen, type; the name follows, padded to 8 bytes
DIRENT = Struct("=QQII")

DIRENT_SIZE = DIRENT.size
# ENTRY_OUT and DIRENT in one call, and the same without attributes
DIRENTPLUS = Struct(ENTRY_OUT.format + DIRENT.format[1:])
DIRENTPLUS_BARE = Struct(f"={ENTRY_SIZE}s" + DIRENT.format[1:])
DIRENTPLUS_SIZE = DIRENTPLUS.size

# FUSE_DEV_IOC_*: ioctls of /dev/fuse
DEV_IOC_BACKING_OPEN = 0x4010E501
DEV_IOC_BACKING_CLOSE = 0x4004E502
BACKING_MAP = Struct("=iIQ")

# struct fuse_uring_req_header: in_out, op_in, then ring_ent_in_out (7.42)
URING_OP_IN = 128
URING_ENT = 256
URING_HEADER_SIZE = 288
# of IN_HEADER opcode, unique, nodeid, uid, gid, pid; of ring_ent_in_out commit_id, payload_sz
URING_REQUEST = Struct("=4xIQQIII228xQI")
# flags, commit_id, qid: the command area of a 128-byte SQE
URING_CMD_REQ = Struct("=QQH6x")
URING_CMD_REGISTER = 1
URING_CMD_COMMIT_AND_FETCH = 2
