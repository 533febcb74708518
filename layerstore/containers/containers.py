"""Containers: named uppers over the layers of an image.

`containers/<id>` holds `upper` and `work`, the `lock` of who changes the
container, and `layers/<n>`: uppers that a commit froze, counted from 1, of
which the first `published` are in `base` by now.  The row is the container;
a directory without one is no container.  A frozen layer is a directory with `diff`
in it, as every layer is: the upper is renamed to `layers/<n>/diff`.

Locks: a container's `lock`, then the database's write lock; never the reverse.

Whether a container runs is never believed from its row: a container runs while
the process of that pid and start is alive.

Threading: any thread.
"""

from __future__ import annotations

import builtins
import fcntl
import json
import os
import re
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from layerstore.blobs import BlobStore
from layerstore.containers.names import new_name
from layerstore.db.database import Database, Row, Value
from layerstore.db.durability import Durability
from layerstore.db.leases import Leases
from layerstore.db.processes import ProcessId, process_start
from layerstore.db.staging import StagingArea
from layerstore.diff.tree_walk import walk
from layerstore.errors import (
    AmbiguousId,
    Busy,
    Conflict,
    InvalidReference,
    NoSuchContainer,
    NoSuchImage,
    NotFound,
)
from layerstore.images.images import Image
from layerstore.layers import LayerStore
from layerstore.oci.digest import SHORT, Digest
from layerstore.oci.documents import Object

Status = Literal["created", "running", "exited"]

_NAME = re.compile(r"/?([a-zA-Z0-9][a-zA-Z0-9_.-]+)")
_ID = re.compile(r"[0-9a-f]{1,64}")
_COLUMNS = (
    "id, name, image, image_name, base, published, config, created_ns, status, exit_code, pid,"
    " pid_start, started_ns, finished_ns, mount_point, auto_remove"
)


@dataclass(frozen=True)
class Container:
    """A container as the store had it when it was read.

    `image_name` is what the image was called when it was created; `base` is the
    chain that the container's own layers lie on; `config` is what it runs with
    (Cmd, Entrypoint, Env, WorkingDir, User, Hostname…).  `status` is what holds:
    "running" only while its process is alive.
    """

    id: str
    name: str
    image: Digest
    image_name: str
    base: Digest | None
    published: int
    config: Object
    created_ns: int
    status: Status
    exit_code: int | None
    pid: int | None
    pid_start: int | None
    started_ns: int | None
    finished_ns: int | None
    mount_point: str | None
    auto_remove: bool

    @property
    def short(self) -> str:
        """The twelve digits that people see."""
        return self.id[:SHORT]

    @property
    def running(self) -> bool:
        return self.status == "running"


class ContainerStore:
    """The directory `<root>/containers` and its rows."""

    def __init__(
        self,
        path: Path,
        database: Database,
        layers: LayerStore,
        blobs: BlobStore,
        staging: StagingArea,
        durability: Durability,
        leases: Leases,
    ) -> None:
        self.path = path
        self._database = database
        self._layers = layers
        self._blobs = blobs
        self._staging = staging
        self._durability = durability
        self._leases = leases

    # -- what there is --

    def get(self, container_id: str) -> Container:
        """Return the container of that full id; raises NotFound."""
        row = self._database.one(f"SELECT {_COLUMNS} FROM containers WHERE id = ?", (container_id,))
        if row is None:
            raise NoSuchContainer(container_id)
        return _container(row)

    def resolve(self, text: str) -> Container:
        """Return the container that `text` names, by its id, its name or the beginning of its id.

        Raises NotFound, and InvalidReference for the beginning of several ids.
        """
        name = text.removeprefix("/")
        row = self._database.one(
            f"SELECT {_COLUMNS} FROM containers WHERE id = ? OR name = ? ORDER BY id = ? DESC",
            (text, name, text),
        )
        if row is None and _ID.fullmatch(text):
            rows = self._database.read(
                f"SELECT {_COLUMNS} FROM containers WHERE id >= ? AND id < ? LIMIT 2",
                (text, text + "g"),
            )
            if len(rows) > 1:
                raise AmbiguousId(f"multiple IDs found with provided prefix: {text}")
            row = rows[0] if rows else None
        if row is None:
            raise NoSuchContainer(text)
        return _container(row)

    def list(self) -> builtins.list[Container]:
        """Return every container, the newest first."""
        rows = self._database.read(
            f"SELECT {_COLUMNS} FROM containers ORDER BY created_ns DESC, id"
        )
        return [_container(row) for row in rows]

    def using(self, image: Digest) -> builtins.list[Container]:
        """Return the containers that were created from `image`."""
        rows = self._database.read(
            f"SELECT {_COLUMNS} FROM containers WHERE image = ? ORDER BY created_ns, id", (image,)
        )
        return [_container(row) for row in rows]

    def directory(self, container: Container) -> Path:
        """Return the container's directory."""
        return self.path / container.id

    def upper(self, container: Container) -> Path:
        """Return the container's upper."""
        return self.directory(container) / "upper"

    def work(self, container: Container) -> Path:
        """Return the container's workdir."""
        return self.directory(container) / "work"

    def frozen(self, container: Container) -> builtins.list[tuple[int, Path]]:
        """Return the frozen layers that are not in the base yet, the topmost first."""
        with suppress(FileNotFoundError):
            names = os.listdir(self.directory(container) / "layers")
            numbers = sorted((int(name) for name in names if name.isdecimal()), reverse=True)
            there = [
                (number, self.directory(container) / "layers" / str(number))
                for number in numbers
                if number > container.published
            ]
            # One without `diff` is a freeze that was cut short before its rename.
            return [(number, path) for number, path in there if (path / "diff").exists()]
        return []

    def lowers(self, container: Container) -> builtins.list[Path]:
        """Return the trees beneath the container's upper, the topmost first.

        A frozen layer is a directory with `diff` in it, as every layer is.
        """
        own = [path / "diff" for _, path in self.frozen(container)]
        return own + [layer.diff for layer in self._layers.chain(container.base)]

    def size(self, container: Container) -> int:
        """Return the bytes of the files in the container's upper and its frozen layers."""
        own = [path / "diff" for _, path in self.frozen(container)]
        return sum(_tree_size(path) for path in (self.upper(container), *own))

    # -- what changes --

    def create(
        self,
        image: Image,
        *,
        name: str | None = None,
        image_name: str | None = None,
        config: Object | None = None,
        auto_remove: bool = False,
    ) -> Container:
        """Make a container of `image`.

        `image_name` is what the image was called, by default its short id;
        without a `name` it gets one of its own.  Raises Conflict where the
        name is taken, NotFound where the image went away.
        """
        if name is not None:
            found = _NAME.fullmatch(name)
            if found is None:
                raise InvalidReference(
                    f"Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
                )
            name = found[1]
        container_id = os.urandom(32).hex()
        with self._leases.lease("work", "container"), self._staging.to_build() as own:
            staged = own / "container"
            for directory in (staged, staged / "work", staged / "layers"):
                directory.mkdir(mode=0o700)
            top = self._layers.get(image.top).diff if image.top else None
            make_upper(staged / "upper", top)
            (staged / "lock").touch(mode=0o600)
            self._durability.directory(staged)
            row = (
                container_id,
                image.id,
                image_name or image.id.short,
                image.top,
                json.dumps(config or {}),  # in ASCII: a word may be no UTF-8
                time.time_ns(),
                int(auto_remove),
            )
            self._insert(image, row, name, staged)
        return self.get(container_id)

    def _insert(self, image: Image, row: tuple[Value, ...], name: str | None, staged: Path) -> None:
        container_id = str(row[0])
        # Committed before anything is at its place, for a recovery to know of it.
        self._leases.hold("container", container_id)
        try:
            with self._database.transaction() as tx:
                if tx.execute("SELECT 1 FROM images WHERE id = ?", (image.id,)).fetchone() is None:
                    raise NoSuchImage(image.id)
                if name is None:
                    name = new_name(lambda name: self._holder(name) is not None)
                elif (holder := self._holder(name)) is not None:
                    raise Conflict(
                        f'Conflict. The container name "/{name}" is already in use by container '
                        f'"{holder}". You have to remove (or rename) that container to be able to '
                        "reuse that name."
                    )
                tx.execute(
                    "INSERT INTO containers (id, image, image_name, base, config, created_ns,"
                    " auto_remove, name, status) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'created')",
                    (*row, name),
                )
                os.rename(staged, self.path / container_id)
                self._durability.directory(self.path)
        except BaseException:
            self.collect([container_id])
            raise

    def started(
        self, container: Container, pid: int, *, mount_point: str | None = None
    ) -> Container:
        """Record that the container runs, for as long as the process `pid` lives."""
        start = process_start(pid)
        if start is None:
            raise NotFound(f"there is no process {pid}")
        return self.update(
            container,
            status="running",
            pid=pid,
            pid_start=start,
            started_ns=time.time_ns(),
            finished_ns=None,
            exit_code=None,
            mount_point=mount_point,
        )

    def finished(self, container: Container, exit_code: int) -> Container:
        """Record that the container ran and ended."""
        return self.update(
            container,
            status="exited",
            pid=None,
            pid_start=None,
            finished_ns=time.time_ns(),
            exit_code=exit_code,
            mount_point=None,
        )

    def unmounted(self, container: Container) -> Container:
        """Record that what was mounted is no more: it ran and ended as `container` says."""
        return self.update(
            container,
            status=container.status,
            pid=None,
            pid_start=None,
            started_ns=container.started_ns,
            finished_ns=container.finished_ns,
            exit_code=container.exit_code,
            mount_point=None,
        )

    def update(self, container: Container, **columns: Value) -> Container:
        """Set columns of the container's row; raises NotFound where it was removed."""
        names = ", ".join(f"{name} = ?" for name in columns)
        self._database.write(
            f"UPDATE containers SET {names} WHERE id = ?", (*columns.values(), container.id)
        )
        return self.get(container.id)

    def remove(self, container: Container) -> None:
        """Remove a container that does not run, with all it holds; raises Conflict otherwise."""
        # One that lost its directory has nothing to lock and is to go all the same.
        lost = not self.directory(container).exists()
        alone = nullcontext() if lost else self.lock(container)
        with self._leases.lease("work", "rm"), alone:
            with self._database.transaction() as tx:
                if self.get(container.id).running:
                    raise Conflict(
                        f"You cannot remove a running container {container.id}. Stop the container "
                        "before attempting removal or force remove"
                    )
                self._leases.hold("gone", container.id)
                tx.execute("DELETE FROM containers WHERE id = ?", (container.id,))
                # Its image may be gone, and it the last to need these layers.
                freed = self._layers.free(container.base)
            self.collect([container.id])
            self._layers.collect([layer.chain_id for layer in freed.layers])
            self._blobs.collect(freed.blobs)

    @contextmanager
    def lock(self, container: Container, *, wait: bool = True) -> Iterator[None]:
        """Be the only one to change the container: commit, start, remove.

        Raises Busy where another process does and `wait` is not set, NotFound
        where the container is gone by the time it is ours.
        """
        path = self.directory(container) / "lock"
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except FileNotFoundError:
            raise NoSuchContainer(container.name) from None
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                raise Busy(
                    f"the container {container.name} is being changed by another command"
                ) from None
            self.get(container.id)
            yield
        finally:
            os.close(fd)

    def collect(self, container_ids: Iterable[str]) -> None:
        """Remove the directories of `container_ids` that have no row, or none any more."""
        for container_id in container_ids:
            with self._staging.directory() as own, self._database.transaction():
                if not self.exists(container_id):
                    with suppress(FileNotFoundError):
                        os.rename(self.path / container_id, own / container_id)

    def strays(self) -> builtins.list[str]:
        """Return the names of directories that no row and no lease speaks of."""
        with self._database.transaction():  # nobody is between a rename and its row now
            names = set(os.listdir(self.path)) - self._leases.named()
            rows = self._database.read("SELECT id FROM containers")
        return sorted(names - {row[0] for row in rows})

    def exists(self, container_id: str) -> bool:
        """Tell whether there is a container of that id."""
        return (
            self._database.one("SELECT 1 FROM containers WHERE id = ?", (container_id,)) is not None
        )

    def _holder(self, name: str) -> str | None:
        """Return the id of the container of that name, or None."""
        row = self._database.one("SELECT id FROM containers WHERE name = ?", (name,))
        return str(row[0]) if row is not None else None


def make_upper(path: Path, below: Path | None) -> None:
    """Make an empty upper whose root is as the root of `below`, which it hides."""
    path.mkdir()
    found = below.stat() if below is not None else None
    if found is not None and os.geteuid() == 0:
        os.chown(path, found.st_uid, found.st_gid)
    path.chmod(stat.S_IMODE(found.st_mode) if found is not None else 0o755)


def _tree_size(path: Path) -> int:
    """Return the bytes of the files beneath `path`, each counted once."""
    total = 0
    seen: set[tuple[int, int]] = set()
    with suppress(FileNotFoundError):
        for folder in walk(path, live=True):
            for name in folder.names:
                with suppress(FileNotFoundError):  # a running container removes files
                    found = os.stat(name, dir_fd=folder.fd, follow_symlinks=False)
                    if not stat.S_ISREG(found.st_mode):
                        continue
                    if found.st_nlink > 1:
                        if (found.st_dev, found.st_ino) in seen:
                            continue
                        seen.add((found.st_dev, found.st_ino))
                    total += found.st_size
    return total


def _container(row: Row) -> Container:
    (
        container_id, name, image, image_name, base, published, config, created_ns, status,
        exit_code, pid, pid_start, started_ns, finished_ns, mount_point, auto_remove,
    ) = row  # fmt: skip
    if status == "running" and not (pid and ProcessId(pid, pid_start).alive()):
        status, pid, pid_start, mount_point = "exited", None, None, None
    return Container(
        container_id,
        name,
        Digest(image),
        image_name,
        Digest(base) if base else None,
        published,
        json.loads(config),
        created_ns,
        status,
        exit_code,
        pid,
        pid_start,
        started_ns,
        finished_ns,
        mount_point,
        bool(auto_remove),
    )
