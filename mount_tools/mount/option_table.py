"""Every mount option: its name, argument, meaning and default.

Decided here and only here: which options there are.  `mount.pyunion --help` and the
manual page are generated from this table; `options` reads the values.

Source: overlayfs.rst; fuse-overlayfs(1) and its `config.rs`; mount(8)
"FILESYSTEM-INDEPENDENT MOUNT OPTIONS".
"""

from __future__ import annotations

from unionfs.light_typing import NamedTuple
from unionfs.syscalls import mount as ms

TRANSPORTS = ("auto", "dev_fuse", "pyfuse3")
IO_URING = ("auto", "on", "off")
PASSTHROUGH = ("on", "all", "off")
SCHED = ("auto", "idle", "normal")


class Option(NamedTuple):
    """One option as the user reads of it.

    `argument` is the text after "=", empty for an option without a value.  `default` is the
    behaviour without the option, empty if the meaning already describes it.
    """

    name: str
    argument: str
    meaning: str
    default: str = ""


class Section(NamedTuple):
    """Options that belong together; `note` is a sentence about all of them."""

    title: str
    options: tuple[Option, ...]
    note: str = ""


SECTIONS = (
    Section(
        "Layers",
        (
            Option("lowerdir", "A:B:C", "read-only layers, the topmost first; at most 512"),
            Option("lowerdir", "A::D", "D is data-only: it holds the data of metacopy files"),
            Option("lowerdir+", "A", "add one layer below the others"),
            Option("datadir+", "D", "add one data-only layer below the others"),
            Option("upperdir", "U", "take all changes", "the mount is read-only"),
            Option("workdir", "W", "prepare changes here; on the filesystem of upperdir"),
            Option(
                "container",
                "NAME",
                "with an image as SPEC: use the upper of this container, and create the "
                "container if there is none",
                "an upper that is removed with the mount",
            ),
        ),
        r"In values, \, \: and \\ stand for the character itself; a value in double quotes "
        "may contain commas.",
    ),
    Section(
        "What the union does",
        (
            Option(
                "redirect_dir",
                "on|off|follow|nofollow",
                "rename directories of lower layers, or fail with EXDEV",
                "on",
            ),
            Option("index", "on|off", "keep hard links of a lower file together", "on"),
            Option(
                "metacopy",
                "on|off",
                "copy no data up for chown, chmod and utimens; not for images and containers",
                "off",
            ),
            Option(
                "whiteout",
                "auto|char|xattr|aufs",
                "how a deletion is written; every form is read",
                "auto",
            ),
            Option(
                "userxattr",
                "",
                "keep overlay attributes in user.overlay.* instead of trusted.overlay.*",
                "on if trusted.* cannot be written",
            ),
            Option(
                "volatile",
                "",
                "never sync the upper; since files may be lost, it is refused after a reboot, "
                "unless a mount without volatile has synced it before that",
                "off",
            ),
            Option("fsync", "0|1", "0 is the same as volatile", "1"),
            Option(
                "timeout",
                "SECONDS",
                "how long names and attributes are cached; needed if layers change while mounted",
                "forever",
            ),
            Option("uidmapping", "STORED:SHOWN:COUNT[:...]", "map the owners of files"),
            Option("gidmapping", "STORED:SHOWN:COUNT[:...]", "map the groups of files"),
            Option("squash_to_root", "", "show every file as owned by root"),
            Option("squash_to_uid", "UID", "show every file as owned by this user"),
            Option("squash_to_gid", "GID", "show every file as owned by this group"),
            Option(
                "xattr_permissions",
                "0|1|2",
                "keep owners, modes and types in an attribute of each file: 1 in "
                "security.fuseoverlayfs.override_stat, 2 in user.containers.override_stat, as "
                "podman's force_mask asks; without POSIX ACLs",
                "0",
            ),
            Option("noacl", "", "offer no POSIX ACLs"),
            Option("noxattrs", "0|1", "1 offers no extended attributes", "0"),
        ),
    ),
    Section(
        "How it is mounted",
        (
            Option("ro", "", "mount read-only", "rw if there is an upperdir"),
            Option(
                "suid",
                "",
                "honour set-user-ID and set-group-ID bits",
                "suid for lowerdir=, nosuid for an image",
            ),
            Option(
                "dev",
                "",
                "let device files be opened",
                "dev for lowerdir=, nodev for an image",
            ),
            Option("allow_suid", "", "the same as suid; mount(8) does not pass suid on"),
            Option("allow_dev", "", "the same as dev; mount(8) does not pass dev on"),
            Option("noexec", "", "let no program be executed", "exec"),
            Option(
                "allow_other",
                "",
                "let every user reach the mount; the modes of its files decide what they may do",
                "on for root",
            ),
            Option("noallow_other", "", "let only the user who mounts reach the mount"),
            Option(
                "transport",
                "|".join(TRANSPORTS),
                "speak the FUSE protocol ourselves (dev_fuse) or through libfuse (pyfuse3)",
                "auto",
            ),
            Option(
                "io_uring",
                "|".join(IO_URING),
                "take requests through io_uring, if the administrator has written Y to "
                "/sys/module/fuse/parameters/enable_uring",
                "auto",
            ),
            Option(
                "passthrough",
                "|".join(PASSTHROUGH),
                "let the kernel read and write the layers' files itself; only root can; in a "
                "writable mount, of the files of lowers only programs that run and libraries "
                "while they are loaded, with `all` every one",
                "on",
            ),
            Option(
                "sched",
                "|".join(SCHED),
                "the scheduling policy of the daemon; idle (SCHED_IDLE) lets a program run on at "
                "once when it is answered; auto is idle where the daemon has a scheduling group "
                "to itself and loses no processor time by it",
                "auto",
            ),
            Option(
                "noopen",
                "",
                "in a read-only mount, let programs open and close files without a request to "
                "the daemon; all is then read through the daemon, not by passthrough",
            ),
            Option("fsname", "TEXT", "the source that `mount` shows", "SPEC"),
            Option("context", '"..."', "SELinux context of every file, if SELinux is on"),
            Option("fscontext", '"..."', "SELinux context of the filesystem"),
            Option("defcontext", '"..."', "SELinux context of files without one"),
            Option("rootcontext", '"..."', "SELinux context of the root directory"),
        ),
        "Of mount(8) also: rw nosuid nodev exec sync async dirsync atime noatime diratime "
        "nodiratime relatime norelatime strictatime nostrictatime lazytime nolazytime symfollow "
        "nosymfollow silent loud mand nomand iversion noiversion.",
    ),
    Section(
        "The daemon",
        (
            Option("foreground", "", "do not detach; log to stderr"),
            Option("debug", "", "log more"),
            Option(
                "log",
                "FILE",
                "append the log to FILE",
                "syslog; if there is none, warnings go to /run/mount.pyunion.PID.log",
            ),
            Option("control", "PATH", "a socket on which `pyunion` talks to the live mount"),
        ),
    ),
)

# name: (MS_* bits it sets, MS_* bits it clears)
VFS_FLAGS: dict[str, tuple[int, int]] = {
    "rw": (0, ms.MS_RDONLY),
    "ro": (ms.MS_RDONLY, 0),
    "suid": (0, ms.MS_NOSUID),
    "allow_suid": (0, ms.MS_NOSUID),
    "nosuid": (ms.MS_NOSUID, 0),
    "dev": (0, ms.MS_NODEV),
    "allow_dev": (0, ms.MS_NODEV),
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


# Meant for mount(8), systemd or a container engine; accepted without effect.
IGNORED = _names(
    """
    defaults auto noauto user nouser users owner group _netdev nofail comment private
    subtype nonempty uhelper helper
    """
)

# These tune other implementations; accepted without effect, since PyUnion decides by itself.
TUNING = _names(
    """
    threaded fast_ino static_nlink writeback xino override_creds kernel_cache auto_cache
    noauto_cache default_permissions max_read max_write max_readahead max_background
    congestion_threshold clone_fd async_read sync_read big_writes atomic_o_trunc splice_read
    splice_write splice_move no_splice_read no_splice_write no_splice_move
    """
)


class Refused(NamedTuple):
    """An option that would change what users see, and that PyUnion does not implement.

    `values` are the values that are refused, None for all of them.  If it is not refused
    `to_engines`, it has no effect for them, as in fuse-overlayfs.
    """

    values: frozenset[str] | None
    why: str
    to_engines: bool = False

    def concerns(self, value: str | None) -> bool:
        """Tell whether the option is refused with this value; without one it means "on"."""
        return self.values is None or (value or "on") in self.values


_ONE_TIMEOUT = Refused(None, "names and attributes have one timeout; use timeout=SECONDS")

REFUSED: dict[str, Refused] = {
    "nfs_export": Refused(
        frozenset(("on",)),
        "file handles are not valid after the mount ends; use nfs_export=off",
    ),
    "verity": Refused(
        frozenset(("on", "require")),
        "fs-verity digests of layers are not checked; use verity=off",
        to_engines=True,
    ),
    "uuid": Refused(
        frozenset(("on",)),
        "FUSE has no filesystem id to show it in; use uuid=auto",
    ),
    "ino32_t": Refused(None, "inode numbers have 64 bits; leave it out"),
    "nooverride_creds": Refused(
        None, "layers are always read with the rights of the mounter; leave it out"
    ),
    "allow_root": Refused(
        None, "a mount is for its owner or for everybody; use noallow_other or allow_other"
    ),
    "auto_unmount": Refused(
        None, "it would turn suid and dev off; leave it out, and unmount with umount"
    ),
    "entry_timeout": _ONE_TIMEOUT,
    "attr_timeout": _ONE_TIMEOUT,
    "negative_timeout": _ONE_TIMEOUT,
}


def is_ignored(name: str) -> bool:
    """Tell whether option `name` is accepted and has no effect."""
    return name in IGNORED or name in TUNING or name.startswith(("x-", "X-"))


def known_names() -> frozenset[str]:
    """Return the name of every option that is not an unknown one."""
    described = frozenset(option.name for section in SECTIONS for option in section.options)
    return described | frozenset(VFS_FLAGS) | frozenset(REFUSED) | TUNING | IGNORED
