"""Volumes: directories with a name that outlive the containers they are shown in.

`volumes/<name>` has `_data`, which containers show, and while the first content of a volume
is moved in, `filling`.  A volume exists if it has a row; a directory without a row is left
over.  A volume is in use as long as a container that shows it exists, running or not.

Decided here and only here: which names volumes have, when one can be removed, and how the
first content gets in.  `content` makes a directory for it in staging: what the caller builds in
`entries`, and the attributes of the directory itself, are for `_data`.  `fill` renames it to
`filling`, and then the entries into `_data`, one by one.  If a crash comes in between,
`filling` is there and complete, and the next `settle` goes on.  So a volume that a container
uses already is filled in place, and never with a part of the content.

Lock order: a container's `lock`, a volume's, then the database's write lock.

Threading: any thread.  Source: moby `volume/local/local.go`, `volume/service/store.go`.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from layerstore.db.database import stored_object
from layerstore.db.file_locks import try_lock
from layerstore.db.foundation import DirectoryPart, Foundation
from layerstore.db.volume_table import UseRow, VolumeRow, VolumeTable
from layerstore.errors import Conflict, InvalidReference, NoSuchVolume, StoreError, shown
from layerstore.light_json import dumps
from unionfs.light_typing import NamedTuple

DATA = "_data"
FILLING = "filling"
ENTRIES = "entries"
_NAME = r"[a-zA-Z0-9][a-zA-Z0-9_.-]*"
_LONGEST = 255  # of a name in a directory, bytes
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Volume(NamedTuple):
    """A volume; `labels` is None if it was made for a container.  Times are ns since 1970."""

    name: str
    labels: Mapping[str, str] | None
    created_ns: int


class VolumeUse(NamedTuple):
    """A volume that a container shows at `target`, an absolute path in it.

    One that the user did not name (`named`) is removed with the container.  `filled` says
    that it needs no content of the image: it was considered already, or is not wanted.
    """

    volume: str
    target: str
    read_only: bool = False
    named: bool = True
    filled: bool = False


def anonymous_name() -> str:
    """Return a new name for a volume that the user does not name."""
    return os.urandom(32).hex()


def checked_name(name: str) -> str:
    """Return `name`; raises InvalidReference, in docker's words, if no volume can have it."""
    if len(name) == 1:
        raise InvalidReference(
            f"create {shown(name)}: volume name is too short, names should be at least two "
            "alphanumeric characters"
        )
    if not re.fullmatch(_NAME, name):
        raise InvalidReference(
            f'create {shown(name)}: "{shown(name)}" includes invalid characters for a local volume '
            'name, only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host '
            "directory, use absolute path"
        )
    if len(name) > _LONGEST:
        raise InvalidReference(f"create {shown(name)}: the name is longer than {_LONGEST} bytes")
    return name


class VolumeStore(DirectoryPart):
    """The directory `<root>/volumes` and its rows."""

    _KEYS = "volumes/"

    def __init__(self, foundation: Foundation) -> None:
        super().__init__(foundation, "volumes")
        self._rows = VolumeTable(foundation.database)

    # -- reading --

    def get(self, name: str) -> Volume:
        """Return the volume of that name; raises NoSuchVolume."""
        row = self._rows.get(name)
        if row is None:
            raise NoSuchVolume(name)
        return _volume(row)

    def list(self) -> list[Volume]:
        """Return every volume, by name."""
        return [_volume(row) for row in self._rows.all()]

    def directory(self, name: str) -> Path:
        """Return the directory of the volume `name`."""
        return self.path / name

    def data(self, name: str) -> Path:
        """Return the directory that containers show as the volume `name`."""
        return self.path / name / DATA

    def size(self, name: str) -> int:
        """Return the bytes of the files in a volume."""
        from layerstore.diff.tree_walk import tree_size  # few commands need it

        return tree_size(self.data(name))

    def uses_of(self, container_id: str) -> Sequence[VolumeUse]:
        """Return the volumes that a container shows, by target."""
        return [
            VolumeUse(
                row.volume, row.target, bool(row.read_only), bool(row.named), bool(row.filled)
            )
            for row in self._rows.uses_of(container_id)
        ]

    def users(self, name: str) -> Sequence[str]:
        """Return the ids of the containers that use a volume, the oldest first."""
        return self._rows.users(name)

    def used(self) -> set[str]:
        """Return the names of the volumes that a container uses."""
        return self._rows.used()

    # -- changing --

    def create(self, name: str | None = None, labels: Mapping[str, str] | None = None) -> Volume:
        """Make a volume and return it; one of that name that exists is returned as it is.

        Without a `name` one is made up.  Raises InvalidReference if it is not a name.
        """
        name = anonymous_name() if name is None else checked_name(name)
        with self._leases.lease("work", "volume"), self._staging.to_build() as own:
            self.stage(own, [name])
            try:
                with self._database.transaction():
                    self._publish(own, name, {} if labels is None else labels)
            except BaseException:
                self.collect([name])
                raise
        return self.get(name)

    def stage(self, own: Path, names: Iterable[str]) -> None:
        """Make directories in the staging directory `own` for the volumes `names`.

        The caller has a lease for its work, and goes on with `attach`.  Raises StoreError if
        a directory without a row is in the way.
        """
        wanted = set(names)
        if not wanted:
            return
        with self._database.still():  # no other process is between a rename and its row
            for name in wanted:
                # Before the lease: what is collected after a failure is never a stranger's.
                if self._rows.get(name) is None and os.path.lexists(self.path / name):
                    raise StoreError(
                        f"{self.path / name} is there, but belongs to no volume: `pyunion check "
                        "--repair` moves it out of the way"
                    )
        for name in wanted:
            staged = own / "volumes" / name
            staged.mkdir(mode=0o700, parents=True)
            (staged / DATA).mkdir()
            (staged / DATA).chmod(0o755)  # the umask does not count
            self._durability.directory(staged)
        self.path.mkdir(mode=0o700, exist_ok=True)  # an old store has none
        # Committed before a directory is made, so that a recovery finds it.
        self._leases.hold("volume", *(self._KEYS + name for name in wanted))

    def attach(self, own: Path, container_id: str, uses: Sequence[VolumeUse]) -> None:
        """Record the volumes that a new container shows; make those that are missing.

        Part of the caller's transaction, after `stage`.  Raises Conflict if two have the same
        target.
        """
        taken: set[str] = set()
        for use in uses:
            if use.target in taken:
                raise Conflict(f"Duplicate mount point: {use.target}")
            taken.add(use.target)
            self._publish(own, use.volume, None)
            self._rows.use(
                UseRow(
                    container_id,
                    use.target,
                    use.volume,
                    int(use.read_only),
                    int(use.named),
                    int(use.filled),
                )
            )

    def _publish(self, own: Path, name: str, labels: Mapping[str, str] | None) -> None:
        """Insert the row of a volume that is missing, and move its directory from `own`."""
        if self._rows.get(name) is not None:
            return
        text = None if labels is None else dumps(dict(labels))
        self._rows.insert(VolumeRow(name, text, time.time_ns()))
        os.rename(own / "volumes" / name, self.path / name)
        self._durability.directory(self.path)

    def remove(self, name: str) -> None:
        """Remove a volume and its content.

        Raises NoSuchVolume, and Conflict if a container uses it.
        """
        with self._leases.lease("work", "volume rm"):
            with self._database.transaction():
                self.get(name)
                users = self._rows.users(name)
                if users:
                    raise Conflict(f"remove {name}: volume is in use - [{', '.join(users)}]")
                self.free([name])
            self.collect([name])

    def free(self, names: Iterable[str]) -> Sequence[str]:
        """Delete the rows of those of `names` that no container uses; return these names.

        Part of the caller's transaction, after which it `collect`s them.
        """
        used = self._rows.used()
        freed = [name for name in names if name not in used and self._rows.get(name) is not None]
        self._leases.hold("gone", *(self._KEYS + name for name in freed))
        for name in freed:
            self._rows.delete(name)
        return freed

    def collect(self, names: Iterable[str]) -> None:
        """Remove the directories of those of `names` that have no row."""
        self._discard(names)

    def collect_keys(self, keys: Iterable[str]) -> None:
        """Remove the directories that these keys of leases name and that have no row."""
        mine = self._KEYS
        self.collect([key.removeprefix(mine) for key in keys if key.startswith(mine)])

    def _has_row(self, name: str) -> bool:
        return self._rows.get(name) is not None

    def _row_names(self) -> set[str]:
        return self._rows.names()

    # -- the first content --

    @contextmanager
    def lock(self, name: str) -> Iterator[int]:
        """Hold the lock of a volume, as `fill` and `settle` need; yield its directory, open.

        Raises StoreError if it has lost its directory.
        """
        try:
            fd = os.open(self.path / name, _OPEN)
        except FileNotFoundError:
            raise StoreError(
                f"the volume {name} has lost its directory; `pyunion check --repair` makes an "
                "empty one"
            ) from None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield fd
        finally:
            os.close(fd)

    def busy(self, name: str) -> bool:
        """Tell whether a process holds the lock of a volume."""
        with suppress(FileNotFoundError):
            fd = os.open(self.path / name, _OPEN)
            try:
                return not try_lock(fd)
            finally:
                os.close(fd)
        return False

    def restore(self, name: str) -> bool:
        """Make an empty directory for a volume that lost its own; tell whether it had."""
        with self._database.transaction():
            self.get(name)
            if self.data(name).is_dir():
                return False
            for directory, mode in ((self.directory(name), 0o700), (self.data(name), 0o755)):
                directory.mkdir(exist_ok=True, parents=True)
                directory.chmod(mode)
            self._durability.directory(self.directory(name))
            self._durability.directory(self.path)
        return True

    def is_empty(self, fd: int) -> bool:
        """Tell whether the volume whose directory is open as `fd` has no content."""
        data = os.open(DATA, _OPEN, dir_fd=fd)
        try:
            with os.scandir(data) as entries:
                return next(entries, None) is None
        finally:
            os.close(data)

    @contextmanager
    def content(self) -> Iterator[Path]:
        """Make a directory, with an empty `entries` in it, for the first content of a volume."""
        with self._staging.to_build() as own:
            (own / FILLING / ENTRIES).mkdir(mode=0o700, parents=True)
            yield own / FILLING

    def fill(self, fd: int, content: Path) -> None:
        """Move what the caller built in `content` into the volume open as `fd`.

        The volume gets the attributes of `content` too.  The caller holds the volume's lock.
        """
        self._durability.tree(content)
        os.rename(content, FILLING, dst_dir_fd=fd)
        self._sync(fd)
        self.settle(fd)

    def settle(self, fd: int) -> bool:
        """Complete an interrupted `fill`; tell whether there was one.

        `fd` is the volume's directory, open.  The caller holds the volume's lock.  What a
        container wrote in the meantime stays.
        """
        try:
            filling = os.open(FILLING, _OPEN, dir_fd=fd)
        except FileNotFoundError:
            return False
        with ExitStack() as stack:
            stack.callback(os.close, filling)
            data = os.open(DATA, _OPEN, dir_fd=fd)
            stack.callback(os.close, data)
            entries = os.open(ENTRIES, _OPEN, dir_fd=filling)
            stack.callback(os.close, entries)
            for name in os.listdir(entries):
                _move(os.fsencode(name), entries, data)
            _take_attributes(filling, data)
            self._sync(data)
        with self._staging.directory() as own:
            os.rename(FILLING, own / FILLING, src_dir_fd=fd)
            self._sync(fd)
        return True

    def filled(self, container_id: str, use: VolumeUse) -> None:
        """Record that the use of a volume needs no content of the image any more."""
        self._rows.filled(container_id, use.target)

    def _sync(self, fd: int) -> None:
        if self._durability.sync:
            os.fsync(fd)


def _volume(row: VolumeRow) -> Volume:
    labels = None
    if row.labels is not None:
        found = stored_object(row.labels, f"what labels the volume {row.name} has")
        labels = {name: str(value) for name, value in found.items()}
    return Volume(row.name, labels, row.created_ns)


def _move(name: bytes, source: int, target: int) -> None:
    """Rename an entry from one directory to another, unless that has one of the name."""
    from unionfs.syscalls.renameat2 import RENAME_NOREPLACE, renameat2  # few commands need them

    try:
        renameat2(source, name, target, name, RENAME_NOREPLACE)
    except FileExistsError:
        return
    except OSError as error:
        if error.errno != errno.EINVAL:  # a filesystem that cannot do it in one step
            raise
        try:
            os.stat(name, dir_fd=target, follow_symlinks=False)
        except FileNotFoundError:
            os.rename(name, name, src_dir_fd=source, dst_dir_fd=target)


def _take_attributes(source: int, target: int) -> None:
    """Give the directory `target` the owner, extended attributes, mode and times of `source`."""
    from unionfs.syscalls import xattr  # few commands fill a volume

    st = os.fstat(source)
    os.fchown(target, st.st_uid, st.st_gid)
    for name, value in xattr.items_fd(source):
        os.setxattr(target, name, value)
    os.fchmod(target, stat.S_IMODE(st.st_mode))
    os.utime(target, ns=(st.st_atime_ns, st.st_mtime_ns))
