"""statfs(2), for the type of a filesystem, which `os.statvfs` leaves out."""

from __future__ import annotations

import ctypes

from unionfs.syscalls.libc import fail, libc

OVERLAYFS = 0x794C7630
ECRYPTFS = 0xF15F
FUSE = 0x65735546  # virtiofs too
TMPFS = 0x01021994
RAMFS = 0x858458F6
XFS = 0x58465342
BTRFS = 0x9123683E
EXT4 = 0xEF53  # ext2 and ext3 too

# Filesystems for which another machine or another process answers, so a call may never
# return; statfs(2), and include/uapi/linux/magic.h.
_REMOTE = frozenset(
    {
        FUSE,
        0x6969,  # NFS
        0x517B,  # SMB
        0xFF534D42,  # CIFS
        0xFE534D42,  # SMB2
        0x01021997,  # 9p
        0x00C36400,  # Ceph
        0x5346414F,  # OpenAFS
        0x6B414653,  # AFS
        0x73757245,  # Coda
        0x01161970,  # GFS2
        0x7461636F,  # OCFS2
        0x0BD00BD0,  # Lustre
        0x20030528,  # OrangeFS
        0x786F4256,  # VirtualBox
        0x47504653,  # GPFS
        0x19830326,  # BeeGFS
    }
)

# The names of network filesystems in the mount table.  Other FUSE filesystems are mounted
# beneath the root of nearly every machine (lxcfs, gvfs, document portals).
_NETWORK_NAMES = frozenset(
    b"nfs nfs4 cifs smb3 9p ceph afs coda gfs2 ocfs2 lustre orangefs vboxsf gpfs beegfs "
    b"fuse.sshfs fuse.glusterfs fuse.rclone fuse.s3fs".split()
)

_fstatfs = libc.fstatfs
_fstatfs.argtypes = [ctypes.c_int, ctypes.c_void_p]


def filesystem_type(fd: int) -> int:
    """Return the magic number of the filesystem of `fd`; statfs(2) lists them."""
    buffer = (ctypes.c_long * 32)()
    if _fstatfs(fd, buffer) != 0:
        raise fail()
    return buffer[0]


def is_remote(fs_type: int) -> bool:
    """Tell whether another machine or process answers for a filesystem of `filesystem_type`."""
    # The type is a signed long on some machines; the magic numbers have 32 bits.
    return fs_type & 0xFFFFFFFF in _REMOTE


def is_network_name(fs_type: bytes) -> bool:
    """Tell whether a type of the mount table is a network filesystem: b"nfs4", b"fuse.sshfs"."""
    return fs_type in _NETWORK_NAMES
