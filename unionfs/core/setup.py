"""Open and close a union: check its directories against each other, then lock the upper.

Decided here and only here: which stacks of layers cannot work, and the error messages
for them.  Nothing on disk is changed before all checks have passed.

Source: overlayfs.rst "Multiple lower layers", "Sharing and copying layers",
"Volatile mount"; fs/overlayfs/super.c, params.c.
"""

from __future__ import annotations

import errno
import fcntl
import os
import resource

from unionfs.core.config import MAX_LOWERS, OverrideStat, UnionConfig, WhiteoutForm
from unionfs.core.inode import Dir, union_ino
from unionfs.core.layer import Fd, FdCache, Layer, open_dir
from unionfs.core.link_index import LinkIndex
from unionfs.core.lost_link_counts import LostLinks
from unionfs.core.merge import resolve_locked
from unionfs.core.origin import NO_UUID, decode_origin, one_uuid
from unionfs.core.owners import Owners
from unionfs.core.private_mounts import LayerMounts, real_path
from unionfs.core.state import State, Writable
from unionfs.core.volatile import check_volatile_mark, end_volatile, leave_volatile_mark
from unionfs.core.whiteout import Marks, read_dir_marks
from unionfs.core.workdir import WorkDir, open_private_dir
from unionfs.errors import ConfigError, InUse
from unionfs.light_logging import Logger
from unionfs.light_typing import NamedTuple
from unionfs.syscalls import xattr
from unionfs.syscalls.handles import filesystem_uuid
from unionfs.syscalls.lock_table import exclusive_flocks, flock_holder
from unionfs.syscalls.mountinfo import read_mounts
from unionfs.syscalls.privilege import has_machine_caps, is_machine_root
from unionfs.syscalls.renameat2 import RENAME_EXCHANGE, renameat2
from unionfs.syscalls.statfs import FUSE, filesystem_type, is_network_name, is_remote
from unionfs.syscalls.statx import mount_id
from unionfs.syscalls.syncfs import syncfs
from unionfs.syscalls.writeback import is_journalled, is_ordered
from unionfs.types import StIno

log = Logger(__name__)

# How many directories of layers are kept open.  Each keeps 1 to 2 KiB of the kernel's memory from
# being reclaimed: half of a limit of 1,048,576 files would be 1 GB, for a user who reads many
# directories.  To open one again takes one system call for each level that is closed too.
MOST_DIRS = 1 << 14

# How many deleted files and directories that nobody has open keep an fd until the kernel
# forgets them.  The FORGETs of a few busy programs are not more.
_MAX_UNOPENED = 256


def open_state(config: UnionConfig) -> State:
    """Check and open everything that `config` names.

    Raises `ConfigError` if it cannot be a union.
    """
    if not config.lowers:
        raise ConfigError("a union needs at least one lower layer: give lowerdir=DIR")
    if len(config.lowers) > MAX_LOWERS:
        raise ConfigError(
            f"{len(config.lowers)} lower layers are too many: a union takes {MAX_LOWERS} at most"
        )
    if (config.upper is None) != (config.work is None):
        given, missing = ("upperdir", "workdir")
        if config.upper is None:
            given, missing = missing, given
        raise ConfigError(f"{given} is given without {missing}: give both, or neither")
    if config.read_only and config.upper is not None:
        # The upper of a read-only union is the topmost lower.
        config = config._replace(lowers=(config.upper, *config.lowers), upper=None, work=None)
    mounts = LayerMounts(config.atime)
    idmapped = _idmapped_mounts(config)
    opened, shown_mapped = [], []
    for path in config.lowers:
        lower = _open_lower("lowerdir", path)
        shown_mapped.append(bool(idmapped) and mount_id(lower.fd) in idmapped)
        opened.append(lower._replace(fd=mounts.lower(*lower)))
    data = [_open_lower("data-only lowerdir", path) for path in config.data]
    data = [lower._replace(fd=mounts.lower(*lower)) for lower in data]
    upper = work = None
    if config.upper is not None and config.work is not None:
        upper, work = _open_upper(config.upper, config.work, opened, mounts)
    layers, fds = _number_layers(config, opened, data, upper)
    for layer, mapped in zip(layers.lowers, shown_mapped, strict=True):
        layer.idmapped = mapped
    return _assemble(config, layers, fds, work, mounts)


def warn_of_live_uppers(state: State) -> None:
    """Say so if a lower is the upper of another mount, which has that locked.

    It asks nothing of a layer: one on another machine may never answer.
    As fs/overlayfs/super.c:ovl_report_in_use().
    """
    if state.config.timeout is not None:
        return  # layers may change
    lowers = {(layer.dev, layer.ino): layer.path for layer in state.lowers}
    for file in exclusive_flocks():
        if file in lowers:
            log.warning(
                "lowerdir %s is in use as upperdir of another mount: what changes there may show "
                "here or not, or give errors; unmount that first, or mount with timeout=SECONDS",
                _show(lowers[file]),
            )


def _idmapped_mounts(config: UnionConfig) -> frozenset[int]:
    """Return the ids of the mounts that map ids, if `config` maps some too.

    An engine may hand over the lowers of a container on idmapped mounts, and the same map.
    """
    if not config.uid_map and not config.gid_map:
        return frozenset()
    return frozenset(mount.mount_id for mount in read_mounts() if b"idmapped" in mount.options)


def _assemble(
    config: UnionConfig,
    layers: _Layers,
    fds: FdCache,
    work_base: Fd | None,
    mounts: LayerMounts,
) -> State:
    userxattr = config.userxattr
    if userxattr is None:
        userxattr = not _trusted_works(layers)
    marks = Marks(userxattr=userxattr)
    writable = None
    index_base = None
    marked = False
    if layers.upper is not None and work_base is not None:
        marked = check_volatile_mark(work_base, config.upper or b"", config.work or b"")
        writable = _make_writable(config, layers, layers.upper, marks, work_base)
        index_base = None if writable.index is None else work_base
    owners = _make_owners(config, layers)
    state = State(
        config=config,
        marks=marks,
        lowers=layers.lowers,
        data=layers.data,
        writable=writable,
        lost=LostLinks(index_base, layers.lowers),
        owners=owners,
        fds=fds,
        layers_immutable=config.timeout is None,
        reads_all=has_machine_caps(),
        mounts=mounts,
    )
    state.table.max_unopened = max(1, min(_MAX_UNOPENED, fds.capacity // 4))
    state.table.add_root(_make_root(state))
    if writable is not None:
        # Last, so that a union that fails to open leaves no mark.
        if config.volatile and not marked:
            leave_volatile_mark(writable.work)
        elif marked and not config.volatile:
            end_volatile(writable.upper, writable.work, config.upper or b"")
    return state


def _make_owners(config: UnionConfig, layers: _Layers) -> Owners:
    if config.override is OverrideStat.NONE:
        return Owners(config)
    from unionfs.core.override import Overrides  # few mounts need it

    overrides = Overrides(config)
    overrides.adopt(layers.lowers, layers.upper)
    return overrides


def _make_writable(
    config: UnionConfig, layers: _Layers, upper: Layer, marks: Marks, work_base: Fd
) -> Writable:
    work = WorkDir(work_base)
    _check_xattrs(marks, work, config)
    exchanges = not upper.remote or _can_exchange(work)
    form = _whiteout_form(config.whiteout, work) if exchanges else _form_in_place(config, work)
    uuid = one_uuid(layers.lowers)
    index = _open_index(work_base, marks, uuid) if config.index else None
    return Writable(upper=upper, work=work, index=index, whiteout_form=form, exchanges=exchanges)


def close_state(state: State, *, write_back: bool = True) -> None:
    """Write the upper back, empty the staging directory, close every fd.

    Without `write_back` it only closes the fds; this is for an upper that nobody needs
    after a crash.  The upper of a volatile mount is not written back, and its mark stays.
    """
    writable = state.writable
    if writable is not None and writable.ahead is not None:
        writable.ahead.close()
        writable.ahead = None
    if write_back and writable is not None:
        try:
            if not state.config.volatile:
                syncfs(writable.upper.root.fd())
            writable.work.sweep()
        except OSError as error:
            log.error("the upper %r could not be written back: %s", writable.upper.path, error)
    if state.ahead is not None:
        state.ahead.close()
    state.table.clear()
    state.lost.close()
    state.fds.close()
    for layer in (*state.stack(), *state.data):
        layer.root.unpin()
    if writable is not None:
        writable.unnamed_place.unpin()
    state.writable = None
    state.mounts.close()


class _Layers:
    """The layers of a union, opened."""

    def __init__(
        self, lowers: tuple[Layer, ...], data: tuple[Layer, ...], upper: Layer | None
    ) -> None:
        self.lowers = lowers
        self.data = data
        self.upper = upper


def _show(path: bytes) -> str:
    return os.fsdecode(path)


def _open_dir(what: str, path: bytes) -> tuple[bytes, Fd]:
    try:
        fd = open_dir(path, flags=0)
    except FileNotFoundError:
        raise ConfigError(
            f"{what} {_show(path)} does not exist: create it, or correct the path"
        ) from None
    except NotADirectoryError:
        raise ConfigError(f"{what} {_show(path)} is not a directory") from None
    except OSError as error:
        raise ConfigError(f"{what} {_show(path)} cannot be opened: {error.strerror}") from None
    return os.path.abspath(path), fd


class _Lower(NamedTuple):
    """A lower at `path`, or at `real` without links, open as `fd`."""

    path: bytes
    real: bytes
    fd: Fd


def _open_lower(what: str, given: bytes) -> _Lower:
    path, fd = _open_dir(what, given)
    return _Lower(path, real_path(path, fd), fd)


def _open_upper(
    upper_path: bytes, work_path: bytes, lowers: list[_Lower], mounts: LayerMounts
) -> tuple[tuple[bytes, Fd], Fd]:
    """Open the upper and the workdir, lock them against other mounts, and check them."""
    upper = _open_dir("upperdir", upper_path)
    work = _open_dir("workdir", work_path)
    if os.fstat(upper[1]).st_dev != os.fstat(work[1]).st_dev:
        raise ConfigError(
            f"upperdir {_show(upper_path)} and workdir {_show(work_path)} are on different "
            "filesystems: put the workdir beside the upperdir"
        )
    real_upper, real_work = os.path.realpath(upper_path), os.path.realpath(work_path)
    if _nested(real_upper, real_work):
        raise ConfigError(
            f"upperdir {_show(upper_path)} and workdir {_show(work_path)} lie one inside the "
            "other: make them two directories side by side"
        )
    for lower in lowers:
        for what, path, real in (
            ("upperdir", upper_path, real_upper),
            ("workdir", work_path, real_work),
        ):
            if _nested(lower.real, real):
                raise ConfigError(
                    f"{what} {_show(path)} and lowerdir {_show(lower.path)} lie one inside the "
                    "other: what is written to the one would change the other"
                )
    for what, path, fd in (("upperdir", *upper), ("workdir", *work)):
        if not os.access(b"/proc/self/fd/%d" % fd, os.W_OK | os.X_OK):
            raise ConfigError(
                f"{what} {_show(path)} is not writable: change its mode or owner, or mount "
                "without an upperdir to read only"
            )
    upper, work = mounts.upper(upper, work)
    for what, path, fd in (("upperdir", *upper), ("workdir", *work)):
        take_for_ourselves(what, path, fd)
    _refuse_kernel_mount(real_upper, real_work)
    return upper, work[1]


def take_for_ourselves(what: str, path: bytes, fd: int) -> None:
    """Lock the directory `fd` against other mounts; `ConfigError` if one uses it."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = flock_holder(fd)
        by = "another mount" if pid is None else f"another mount, served by process {pid}"
        raise InUse(
            f"{what} {_show(path)} is in use by {by}: unmount that first, or "
            "choose another directory"
        ) from None
    except OSError as error:
        log.warning("%s %s cannot be locked against other mounts: %s", what, path, error)


def _nested(one: bytes, other: bytes) -> bool:
    return one == other or _inside(one, other) or _inside(other, one)


def _inside(inner: bytes, outer: bytes) -> bool:
    return inner.startswith(outer.rstrip(b"/") + b"/")


def _refuse_kernel_mount(upper: bytes, work: bytes) -> None:
    """Refuse directories that are in use by a mount of kernel overlayfs.

    `upper` and `work` are real paths.
    """
    ours = {b"upperdir": upper, b"workdir": work}
    for mounted in read_mounts(of_type=lambda fs_type: fs_type == b"overlay"):
        for option in mounted.super_options:
            name, _, value = option.partition(b"=")
            if name not in ours:
                continue
            # mountinfo has the path as it was given, with overlayfs's own escapes.
            given = {os.path.realpath(path) for path in (value, _without_escapes(value))}
            if ours[name] in given:
                raise InUse(
                    f"{name.decode()} {_show(ours[name])} is in use by the overlay mounted at "
                    f"{_show(mounted.mount_point)}: unmount that first, or choose another "
                    "directory"
                )


def _without_escapes(path: bytes) -> bytes:
    if b"\\" not in path:
        return path
    import re

    return re.sub(rb"\\(.)", rb"\1", path, flags=re.DOTALL)


def _number_layers(
    config: UnionConfig,
    opened: list[_Lower],
    data: list[_Lower],
    upper: tuple[bytes, Fd] | None,
) -> tuple[_Layers, FdCache]:
    """Make the layers, and number their filesystems: the upper's is 0, then from the bottom.

    So the numbers in st_ino stay the same if layers are added on top.
    """
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit == resource.RLIM_INFINITY:
        limit = 1 << 20
    spare = limit - len(opened) - len(data) - 64
    if spare < 64:
        raise ConfigError(
            f"the limit of {limit} open files is too low for {len(opened)} layers: raise it "
            "with `ulimit -n`"
        )
    fds = FdCache(min(config.open_dirs or MOST_DIRS, spare // 2))
    filesystems: dict[int, _Filesystem] = {}
    network = _network_mount_points()

    def make(number: int, path: bytes, real: bytes, fd: Fd) -> Layer:
        st = os.fstat(fd)
        dev = st.st_dev
        of = filesystems.get(dev)
        if of is None:
            of = filesystems[dev] = _Filesystem(len(filesystems), filesystem_uuid(fd))
        layer = Layer(path, fd, number, dev, of.number, of.uuid, fds)
        layer.ino = st.st_ino
        # Those of FUSE hold the nodeid, which another mount gives to another file.
        layer.fs_type = filesystem_type(fd)
        layer.has_handles = layer.fs_type != FUSE
        layer.remote = is_remote(layer.fs_type) or _has_network_inside(real, network)
        return layer

    top = None
    if upper is not None:
        top = make(-1, upper[0], os.path.realpath(upper[0]), upper[1])
        top.ordered, top.journalled = is_ordered(upper[1]), is_journalled(upper[1])
    lowers = [make(number, *opened[number]) for number in reversed(range(len(opened)))]
    lowers.reverse()
    lowers[-1].bottom = not data
    datas = tuple(make(len(lowers) + i, *entry) for i, entry in enumerate(data))
    return _Layers(tuple(lowers), datas, top), fds


class _Filesystem(NamedTuple):
    """What layers on one filesystem have in common: its `number` in the union, and its uuid."""

    number: int
    uuid: bytes


def _network_mount_points() -> list[bytes]:
    try:
        return [mount.mount_point for mount in read_mounts(of_type=is_network_name)]
    except OSError as error:
        log.info("the mount table cannot be read: %s", error)
        return []


def _has_network_inside(real: bytes, mount_points: list[bytes]) -> bool:
    if not mount_points:
        return False
    inside = real.rstrip(b"/") + b"/"
    return any(point.startswith(inside) for point in mount_points)


def _trusted_works(layers: _Layers) -> bool:
    """Tell whether trusted.* can be read and written, which it cannot in a user namespace."""
    layer = layers.upper or layers.lowers[0]
    fd = layer.root.fd()
    if os.geteuid() != 0:
        return False
    probe = "trusted.overlay.pyunion"
    if layers.upper is None:
        return is_machine_root()
    try:
        os.setxattr(fd, probe, b"")
        os.removexattr(fd, probe)
    except PermissionError:
        return False
    except OSError:
        return True  # no attributes at all, which the check of the workdir reports
    return True


def _check_xattrs(marks: Marks, work: WorkDir, config: UnionConfig) -> None:
    """Refuse an upper whose filesystem cannot store the union's marks."""
    try:
        os.setxattr(work.fd, marks.opaque, b"y")
        os.removexattr(work.fd, marks.opaque)
    except OSError as error:
        trusted = not marks.prefix.startswith("user.")
        other = "mount with userxattr, or " if trusted and _stores_user(work) else ""
        raise ConfigError(
            f"the filesystem of upperdir {_show(config.upper or b'')} cannot store the attribute "
            f"{marks.opaque} ({error.strerror}): {other}put upperdir and workdir on ext4, xfs, "
            "btrfs or tmpfs"
        ) from None


def _stores_user(work: WorkDir) -> bool:
    """Tell whether the filesystem stores user.* attributes, as NFS does from version 4.2 on."""
    name = b"user.overlay.pyunion"
    try:
        os.setxattr(work.fd, name, b"")
        os.removexattr(work.fd, name)
    except OSError:
        return False
    return True


def _can_exchange(work: WorkDir) -> bool:
    """Tell whether the filesystem of the workdir can exchange two names, which NFS cannot."""
    one, other = work.new_name(), work.new_name()
    try:
        for name in (one, other):
            os.mkdir(name, 0o700, dir_fd=work.fd)
        renameat2(work.fd, one, work.fd, other, RENAME_EXCHANGE)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise ConfigError(f"the workdir cannot be used: {error.strerror}") from None
        return False
    finally:
        work.discard(one)
        work.discard(other)
    return True


def _form_in_place(config: UnionConfig, work: WorkDir) -> WhiteoutForm:
    """Return the form of whiteouts that takes no exchange: a file beside the hidden name."""
    cannot = (
        f"the filesystem of upperdir {_show(config.upper or b'')} cannot exchange two names "
        "(RENAME_EXCHANGE)"
    )
    if filesystem_type(work.fd) == FUSE:
        # One that goes by paths has an inode for each name of a hard link.
        raise ConfigError(
            f"{cannot}, and it is a FUSE filesystem: put upperdir and workdir on ext4, xfs, btrfs, "
            "tmpfs or NFS"
        )
    if config.whiteout not in (WhiteoutForm.AUTO, WhiteoutForm.AUFS):
        raise ConfigError(
            f"{cannot}, which whiteout={config.whiteout.value} needs: use whiteout=auto"
        )
    if config.whiteout is WhiteoutForm.AUTO:
        log.info("whiteouts are written as .wh.NAME, since the upper cannot exchange two names")
    return WhiteoutForm.AUFS


def _whiteout_form(asked: WhiteoutForm, work: WorkDir) -> WhiteoutForm:
    if asked not in (WhiteoutForm.AUTO, WhiteoutForm.CHAR):
        return asked
    try:
        work.shared_whiteout()
    except OSError as error:
        if asked is WhiteoutForm.CHAR:
            raise ConfigError(
                f"whiteout=char needs mknod of a device 0:0, which fails here ({error.strerror}): "
                "use whiteout=auto"
            ) from None
        log.info("whiteouts are written as attributes, since mknod fails: %s", error)
        return WhiteoutForm.XATTR
    return WhiteoutForm.CHAR


def _open_index(work_base: Fd, marks: Marks, uuid: bytes) -> LinkIndex | None:
    try:
        return LinkIndex(open_private_dir(work_base, b"index"), marks, uuid)
    except OSError as error:
        log.warning("hard links will be broken by copy_up: the index cannot be opened: %s", error)
        return None


def _make_root(state: State) -> Dir:
    upper = None if state.writable is None else state.writable.upper.root
    root = Dir(None, b"", upper, tuple(layer.root for layer in state.lowers))
    if upper is not None:
        found = read_dir_marks(state.marks, upper.fd())
        upper.xwhiteouts = found.xwhiteouts
        root.impure = found.impure
        if found.opaque:
            root.lowers, root.resolved = (), True
    try:
        resolve_locked(state, root)
    except OSError as error:
        raise ConfigError(f"a lower layer cannot be read: {error.strerror}") from None
    root.merged = len(root.lowers) + (upper is not None) > 1
    root.st_ino = _root_ino(state, root)
    return root


def _root_ino(state: State, root: Dir) -> StIno:
    """Return the st_ino of the root, which a freeze does not change.

    The origin of the root of a fresh upper is the root of the frozen one beneath it.
    """
    at = root.top()
    ino = os.stat(at.fd()).st_ino
    for below in root.lowers if root.upper is not None else root.lowers[1:]:
        value = xattr.get_fd(at.fd(), state.marks.origin.encode())
        origin = None if value is None else decode_origin(value)
        lower_ino = os.stat(below.fd()).st_ino
        if origin is None or origin.ino != lower_ino:
            break
        if origin.uuid not in (below.layer.uuid, NO_UUID):
            break
        at, ino = below, lower_ino
    return union_ino(at.layer, ino)
