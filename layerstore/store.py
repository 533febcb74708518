"""The store: one directory, which any number of processes may have open.

    with Store.open() as store:
        image = store.images.resolve("debian:12")
        container = store.containers.create(image, name="box")

Decided here and only here: where the store is, what it consists of, and what is recovered
when it is opened.  Usually that is nothing: only the leases and the staging directory are
read.  A lease whose process died says which work was interrupted and on what; it is
completed or undone.  Files that no row or lease names are left alone; `check` finds them.

Threading: several threads may use a store, and so may a process that was forked by the
one that opened it.
"""

from __future__ import annotations

import os
from contextlib import ExitStack, suppress
from pathlib import Path

from layerstore.blobs import BlobStore
from layerstore.containers.containers import ContainerStore
from layerstore.db import database
from layerstore.db.database import Database
from layerstore.db.durability import Durability
from layerstore.db.foundation import Foundation
from layerstore.db.leases import Lease, Leases
from layerstore.db.reserve import Reserve
from layerstore.db.staging import StagingArea
from layerstore.errors import InvalidDigest, NotFound, StoreError
from layerstore.images.images import ImageStore
from layerstore.layers import LayerStore
from layerstore.oci.digest import Digest
from layerstore.user import directory_in, home_directory, user_id
from layerstore.volumes import VolumeStore
from unionfs.light_typing import TYPE_CHECKING

if TYPE_CHECKING:  # only registries need them
    from layerstore.db.partial import PartialBlobs
    from layerstore.db.remote_table import RemoteTable

_SYSTEM_ROOT = Path("/var/lib/pyunion")
_DIRECTORIES = ("staging", "partial", "blobs", "blobs/sha256", "layers", "containers", "volumes")
_FILES = {
    *("build-cache", "quarantine", "reserve", "seccomp-filter", "store.db-shm", "store.db-wal"),
}


def default_root() -> Path:
    """Return the default place: $PYUNION_ROOT, else that of the system for root, or the user's.

    Raises StoreError if that user has no home directory.
    """
    given = os.environ.get("PYUNION_ROOT")
    if given:
        return Path(given)
    if user_id() == 0:
        return _SYSTEM_ROOT
    return user_data() / "pyunion"


def user_data() -> Path:
    """Return where the user's programs keep data: $XDG_DATA_HOME, or in the home directory.

    Raises StoreError if there is none.
    """
    given = directory_in("XDG_DATA_HOME")
    if given is not None:
        return given
    home = home_directory()
    if home is None:
        raise StoreError(
            f"the user {user_id()} has no home directory for a store: set HOME, or name the "
            "store by --root or PYUNION_ROOT"
        )
    return home / ".local" / "share"


class Store:
    """An open store."""

    def __init__(self, root: Path, *, sync: bool) -> None:
        """Callers use `open` instead, which makes what is missing."""
        self.root = root
        self.durability = Durability(sync=sync)
        self.reserve = Reserve(root)
        self.staging = StagingArea(root / "staging", self.reserve)
        self.database = self._open_database(sync=sync)
        self.leases = Leases(self.database)
        self.leases.recover = self._recover_if_possible
        foundation = Foundation(root, self.database, self.staging, self.durability, self.leases)
        self.blobs = BlobStore(foundation)
        self.layers = LayerStore(foundation)
        self.images = ImageStore(self.database, self.blobs, self.layers, self.leases)
        self.volumes = VolumeStore(foundation)
        self.containers = ContainerStore(
            foundation, self.blobs, self.layers, self.images, self.volumes
        )

    @classmethod
    def open(
        cls, root: Path | str | None = None, *, sync: bool = True, create: bool = True
    ) -> Store:
        """Open the store at `root`, by default `default_root()`; the caller closes it.

        With `create` a missing store is made.  Directories that a store lost are made, empty.
        A store that we may not write to is only read, see `Database.read_only`.
        `sync=False` is faster, and a crash of the machine may then lose what was written.
        Raises NotFound for a missing store without `create`, WrongVersion for one of a newer
        PyUnion, and StoreError if another user may write to it, or if it cannot be used for
        another reason.
        """
        path = Path(root if root is not None else default_root()).absolute()
        try:
            if not (path / "store.db").exists():
                if not create:
                    raise NotFound(f"there is no store at {path}")
                _make(path, Durability(sync=sync))
            _refuse_others(path)
            _make_directories(path)
            with ExitStack() as undo:
                store = cls(path, sync=sync)
                undo.callback(store.close)
                if not store.database.read_only:
                    store.reserve.with_room(store.recover)
                undo.pop_all()
        except OSError as error:
            raise StoreError(
                f"the store {path} cannot be opened: {error.strerror or error}"
            ) from error
        return store

    @property
    def partial(self) -> PartialBlobs:
        """The blobs that are being fetched."""
        from layerstore.db.partial import PartialBlobs

        return PartialBlobs(self.root / "partial")

    @property
    def build_caches(self) -> Path:
        """The directory of what RUN --mount=type=cache shows; see `layerstore.build_caches`."""
        return self.root / "build-cache"

    @property
    def remote(self) -> RemoteTable:
        """What is known of layers in registries."""
        from layerstore.db.remote_table import RemoteTable

        return RemoteTable(self.database)

    def _open_database(self, *, sync: bool) -> Database:
        # Opening it takes some space, which a full disk does not have.
        self.reserve.look()
        opened = self.reserve.with_room(lambda: Database(self.root / "store.db", sync=sync))
        self.reserve.settle()
        return opened

    def close(self) -> None:
        """Close the store; none of its parts may be used afterwards."""
        self.database.close()
        self.reserve.settle()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def recover(self) -> bool:
        """Complete or remove what dead processes left; tell whether there was anything."""
        stale = self.leases.stale()
        if stale:
            self.layers.settle()
            beneath = self._collect({lease.key for lease in stale if lease.kind != "work"})
            # Last, so that an interrupted recovery starts again.
            self.leases.end(stale + beneath)
        if any(self.staging.path.iterdir()):
            self.staging.sweep()
        return bool(stale)

    def _recover_if_possible(self) -> None:
        """Recover after a failure; the caller raises the error of that failure."""
        with suppress(StoreError, OSError):  # if it fails again, the next opening does it
            self.recover()

    def _collect(self, keys: set[str]) -> list[Lease]:
        """Remove those layers, blobs, containers and volumes of `keys` that nothing needs.

        With a layer go those beneath it that only it needed, and their blobs.  Return the leases
        that name these, for an interrupted recovery; the caller ends them.
        """
        digests = []
        for key in keys:
            with suppress(InvalidDigest):
                digests.append(Digest.parse(key))
        others = keys.difference(digests)
        beneath: list[Lease] = []
        for digest in tuple(digests):
            with self.database.transaction():
                freed = self.layers.free(digest)
                found = [*(layer.chain_id for layer in freed.layers), *freed.blobs]
                beneath += self.leases.afterwards(*found)
            digests += found
        self.layers.collect(digests)
        self.blobs.collect(digests)
        self.containers.collect(others)
        self.volumes.collect_keys(keys)
        return beneath


def _make(root: Path, durability: Durability) -> None:
    """Make an empty store; another process may be doing the same."""
    if root.exists() and not root.is_dir():
        raise StoreError(f"{root} is not a directory, so it cannot be a store: correct the path")
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    _refuse_held(root)
    if root.stat().st_uid == os.geteuid():
        _close(root)
    _refuse_others(root)
    _make_directories(root)
    staging = StagingArea(root / "staging")
    with staging.directory() as own:
        database.create(root / "store.db", own / "store.db", durability)


def _close(root: Path) -> None:
    """Close the new store to others, and let what is unpacked in it have no rights but its own."""
    from unionfs.syscalls.disinherit import disinherit  # few commands make a store

    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        disinherit(fd)
        if os.fstat(fd).st_mode & 0o077:
            # Images have setuid files and devices, which no other user may run or open.
            os.chmod(fd, 0o700)
    finally:
        os.close(fd)


def _make_directories(root: Path) -> None:
    """Make those that are missing: some backups leave out what is empty."""
    for name in _DIRECTORIES:
        try:
            os.mkdir(f"{root}/{name}", 0o700)
        except FileExistsError:
            if not (root / name).is_dir():
                raise StoreError(
                    f"the store {root} is damaged: {root / name} is no directory: move it away, "
                    "and run `pyunion check`"
                ) from None


def _refuse_others(root: Path) -> None:
    """Refuse a store that another user may write to.

    Its rows and links say which files of this machine we would remove, mount or enter.
    """
    found = root.stat()
    if found.st_uid != os.geteuid():
        raise StoreError(
            f"the store {root} belongs to the user {found.st_uid}, who could lead this command to "
            "other files: run it as that user, or give the store another owner"
        )
    if found.st_mode & 0o022:
        raise StoreError(
            f"other users may write to the store {root}: take that from them, chmod go-w {root}"
        )


def _refuse_held(root: Path) -> None:
    """Refuse to make a store in a directory that holds something else.

    That includes a store that lost its database: a new one would not know its content.
    """
    ours = {name.partition("/")[0] for name in _DIRECTORIES} | _FILES
    filled = ("layers", "containers", "volumes")
    held = next((name for name in os.listdir(root) if name not in ours), None)
    # A file of a newer PyUnion is in a store, too.
    if held is None or all((root / name).is_dir() for name in _DIRECTORIES):
        full = (name for name in filled if (root / name).is_dir() and os.listdir(root / name))
        held = next(full, held)
    # Another process may have made the same store meanwhile.
    if held is None or (root / "store.db").exists():
        return
    if held in ours:
        raise StoreError(
            f"{root} holds {held} but its store.db is missing: restore it from a backup, or "
            "load the images into another --root"
        )
    raise StoreError(
        f"{root} is not a store and holds other things, for example {held}: give an empty or a "
        "new directory as --root"
    )
