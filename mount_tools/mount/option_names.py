"""The options that are words only: flags of the VFS, and what is ignored or refused."""

from __future__ import annotations

from unionfs.syscalls import mount as ms

# name: (MS_* bits it sets, MS_* bits it clears)
VFS_FLAGS: dict[str, tuple[int, int]] = {
    "rw": (0, ms.MS_RDONLY),
    "ro": (ms.MS_RDONLY, 0),
    "suid": (0, ms.MS_NOSUID),
    "nosuid": (ms.MS_NOSUID, 0),
    "dev": (0, ms.MS_NODEV),
    "nodev": (ms.MS_NODEV, 0),
    "exec": (0, ms.MS_NOEXEC),
    "noexec": (ms.MS_NOEXEC, 0),
    "async": (0, ms.MS_SYNCHRONOUS),
    "sync": (ms.MS_SYNCHRONOUS, 0),
    "dirsync": (ms.MS_DIRSYNC, 0),
    "atime": (0, ms.MS_NOATIME),
    "noatime": (ms.MS_NOATIME, 0),
    "diratime": (0, ms.MS_NODIRATIME),
    "nodiratime": (ms.MS_NODIRATIME, 0),
    "relatime": (ms.MS_RELATIME, ms.MS_STRICTATIME),
    "norelatime": (0, ms.MS_RELATIME),
    "strictatime": (ms.MS_STRICTATIME, ms.MS_RELATIME),
    "nostrictatime": (0, ms.MS_STRICTATIME),
    "lazytime": (ms.MS_LAZYTIME, 0),
    "nolazytime": (0, ms.MS_LAZYTIME),
    "symfollow": (0, ms.MS_NOSYMFOLLOW),
    "nosymfollow": (ms.MS_NOSYMFOLLOW, 0),
    "silent": (ms.MS_SILENT, 0),
    "loud": (0, ms.MS_SILENT),
    "mand": (ms.MS_MANDLOCK, 0),
    "nomand": (0, ms.MS_MANDLOCK),
    "iversion": (ms.MS_I_VERSION, 0),
    "noiversion": (0, ms.MS_I_VERSION),
}


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# For mount(8), systemd, or a container engine, and none of our business.
IGNORED = _names(
    """
    defaults auto noauto user nouser users owner group _netdev nofail comment private
    subtype nonempty uhelper helper
    """
)

# These tune other implementations; what they do for speed is decided here otherwise.
TUNING = _names(
    """
    threaded fast_ino static_nlink writeback xino override_creds kernel_cache auto_cache
    noauto_cache default_permissions max_read max_write max_readahead max_background
    congestion_threshold clone_fd async_read sync_read big_writes atomic_o_trunc splice_read
    splice_write splice_move no_splice_read no_splice_write no_splice_move
    """
)

# name: (values that cannot be honoured, None for any; why, and what to do instead)
REFUSED: dict[str, tuple[frozenset[str] | None, str]] = {
    "nfs_export": (
        frozenset(("on",)),
        "file handles do not outlive the mount; use nfs_export=off",
    ),
    "verity": (
        frozenset(("on", "require")),
        "fs-verity digests of layers are not checked; use verity=off",
    ),
    "uuid": (
        frozenset(("on",)),
        "FUSE has no filesystem id to show it in; use uuid=auto",
    ),
    "xattr_permissions": (
        frozenset(("1", "2", "on")),
        "owners and modes are read from the inodes, not from xattrs; use xattr_permissions=0",
    ),
    "ino32_t": (None, "inode numbers have 64 bits; leave it out"),
    "nooverride_creds": (None, "layers are read with the rights of the mounter; leave it out"),
    "allow_root": (None, "a mount is for its owner or for everybody; use allow_other"),
    "auto_unmount": (None, "the kernel drops suid and dev with it; leave it out and use umount"),
    "remount": (
        None,
        "a union cannot be changed while mounted; unmount and mount it again, "
        "or change flags of the VFS by mount -i -o remount,FLAGS DIR",
    ),
    "entry_timeout": (None, "one time holds for names and attributes; use timeout=SECONDS"),
    "attr_timeout": (None, "one time holds for names and attributes; use timeout=SECONDS"),
    "negative_timeout": (None, "one time holds for names and attributes; use timeout=SECONDS"),
}


def is_ignored(name: str) -> bool:
    """Tell whether option `name` is accepted and does nothing."""
    return name in IGNORED or name in TUNING or name.startswith(("x-", "X-"))
