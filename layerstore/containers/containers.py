"""Containers: named uppers over the layers of an image.

`containers/<id>` has `upper` and `work`; `lock`, which a process locks while it changes
the container; `control.sock`, through which the store talks to the daemon of its mount;
and `layers/<n>`, the uppers that commits froze, counted from 1.  The first `published` of
these are in `base` by now.  A container exists if it has a row; a directory without a row is
left over.  A frozen layer is a directory with `diff` in it, as every layer is: the upper is
renamed to `layers/<n>/diff`.

Lock order: a container's `lock`, then the database's write lock; never the reverse.

A container runs while its process or the one that waits for its end is alive; see
`layerstore.db.container_table` for what happens if both were killed.

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
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from layerstore.blobs import BlobStore
from layerstore.containers.names import new_name
from layerstore.db.container_table import ContainerRow, ContainerTable
from layerstore.db.database import Database, Value
from layerstore.db.durability import Durability
from layerstore.db.leases import Leases
from layerstore.db.processes import ProcessId, process_start, this_process
from layerstore.db.staging import StagingArea
from layerstore.errors import (
    AmbiguousId,
    Busy,
    Conflict,
    InvalidReference,
    NoSuchContainer,
    NoSuchImage,
    NotFound,
    StoreError,
)
from layerstore.images.images import Image, ImageStore
from layerstore.layers import LayerStore
from layerstore.oci.digest import SHORT, Digest
from layerstore.oci.documents import Object
from layerstore.volumes import VolumeStore, VolumeUse
from unionfs.light_typing import Literal, NamedTuple

Status = Literal["created", "running", "exited"]
_STATUSES: tuple[Status, ...] = ("created", "running", "exited")
_NOT_RUNNING: dict[str, Value] = {
    "pid": None,
    "pid_start": None,
    "runner": None,
    "runner_start": None,
    "mount_point": None,
}

_NAME = r"/?([a-zA-Z0-9][a-zA-Z0-9_.-]+)"
_ID = r"[0-9a-f]{1,64}"
_NUMBER = r"[0-9]{1,18}"


def socket_path(directory: Path) -> Path:
    """Return the path of the control socket of the container with this directory."""
    return directory / "control.sock"


class Container(NamedTuple):
    """A container as it was when it was read.

    `image_name` is the name by which the image was given; `base` is the chain_id of the
    topmost layer beneath the container's own; `config` is what it runs with (Cmd,
    Entrypoint, Env, WorkingDir, User, Hostname…).  Times are ns since 1970.  `pid` and
    `pid_start` are its first process, or the daemon of its mount, while it runs.
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
        """The first twelve digits of the id, as docker shows it."""
        return self.id[:SHORT]

    @property
    def running(self) -> bool:
        """Whether it runs, or is mounted."""
        return self.status == "running"

    @property
    def process(self) -> ProcessId | None:
        """Its first process, or the daemon of its mount; None if it does not run."""
        if not self.running or self.pid is None or self.pid_start is None:
            return None
        return ProcessId(self.pid, self.pid_start)

    @property
    def runs_command(self) -> bool:
        """Whether it runs, and is not only mounted."""
        return self.init is not None

    @property
    def init(self) -> int | None:
        """The first process in it; None if it does not run, or is only mounted."""
        return self.pid if self.running and self.mount_point is None else None


class ContainerStore:
    """The directory `<root>/containers` and its rows."""

    def __init__(
        self,
        path: Path,
        database: Database,
        images: ImageStore,
        layers: LayerStore,
        blobs: BlobStore,
        staging: StagingArea,
        durability: Durability,
        leases: Leases,
        volumes: VolumeStore,
    ) -> None:
        self.path = path
        self._database = database
        self._rows = ContainerTable(database)
        self._images = images
        self._layers = layers
        self._blobs = blobs
        self._staging = staging
        self._durability = durability
        self._leases = leases
        self._volumes = volumes

    # -- reading --

    def get(self, container_id: str) -> Container:
        """Return the container of that full id; raises NoSuchContainer."""
        row = self._rows.get(container_id)
        if row is None:
            raise NoSuchContainer(container_id)
        return _container(row)

    def resolve(self, text: str) -> Container:
        """Return the container that `text` names: its id, its name, or a prefix of its id.

        Raises NoSuchContainer, and AmbiguousId for a prefix of several ids.
        """
        row = self._rows.named(text, text.removeprefix("/"))
        if row is None and re.fullmatch(_ID, text):
            rows = self._rows.by_prefix(text)
            if len(rows) > 1:
                raise AmbiguousId(f"multiple IDs found with provided prefix: {text}")
            row = rows[0] if rows else None
        if row is None:
            raise NoSuchContainer(text)
        return _container(row)

    def list(self) -> builtins.list[Container]:
        """Return every container, the newest first."""
        return [_container(row) for row in self._rows.all()]

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
        """Return the frozen layers that are not in the base yet, each with its number.

        The topmost is first.  Each is a directory with `diff` in it, as every layer is.
        """
        there = [
            (number, self._frozen_at(container, number))
            for number in self._numbers(container)
            if number > container.published
        ]
        # One without `diff` is a freeze that was interrupted before its rename.
        return [(number, path) for number, path in there if (path / "diff").exists()]

    def next_frozen(self, container: Container) -> Path:
        """Return the path for the next frozen layer, which does not exist yet."""
        number = max([container.published, *self._numbers(container)]) + 1
        return self._frozen_at(container, number)

    def _frozen_at(self, container: Container, number: int) -> Path:
        return self.directory(container) / "layers" / str(number)

    def _numbers(self, container: Container) -> builtins.list[int]:
        """Return the numbers of the frozen layers, the highest first."""
        with suppress(FileNotFoundError):
            names = os.listdir(self.directory(container) / "layers")
            return sorted(
                (int(name) for name in names if re.fullmatch(_NUMBER, name)), reverse=True
            )
        return []

    def lowers(self, container: Container) -> builtins.list[Path]:
        """Return the trees beneath the container's upper, the topmost first.

        Raises NotFound if a layer lost its files.
        """
        own = [path / "diff" for _, path in self.frozen(container)]
        return own + [layer.diff for layer in self._layers.chain(container.base)]

    def lowers_to_mount(self, container: Container) -> builtins.list[Path]:
        """Return `lowers`, or an empty directory, which is made, where the image has no layers.

        A union has one lower at least.  Raises NotFound if a layer lost its files.
        """
        found = self.lowers(container)
        if not found:
            found = [self.directory(container) / "empty"]
            found[0].mkdir(mode=0o755, exist_ok=True)
        return found

    def size(self, container: Container) -> int:
        """Return the bytes of the files in the container's upper and its frozen layers."""
        from layerstore.diff.tree_walk import tree_size  # few commands need it

        own = [path / "diff" for _, path in self.frozen(container)]
        return sum(tree_size(path) for path in (self.upper(container), *own))

    # -- changing --

    def create(
        self,
        image: Image,
        *,
        name: str | None = None,
        image_name: str | None = None,
        config: Object | None = None,
        auto_remove: bool = False,
        volumes: Sequence[VolumeUse] = (),
        durable: bool = True,
    ) -> Container:
        """Make a container of `image`, and those of its `volumes` that are missing.

        `image_name` is the name by which the image was given, by default its short
        id; without a `name` one is made up.  If it is not `durable`, nothing waits for the
        disk, and it may be lost if the machine stops.  Raises Conflict if the name is taken,
        InvalidReference if it is not one, NoSuchImage if the image was removed.
        """
        return self._create(
            image.id,
            image.top,
            name=None if name is None else _checked_name(name),
            image_name=image_name or image.id.short,
            config=config or {},
            auto_remove=auto_remove,
            exists=lambda: self._images.exists(image.id),
            volumes=volumes,
            durable=durable,
        )

    def create_on(
        self, base: Digest | None, *, name: str, image: Digest, image_name: str, config: Object
    ) -> Container:
        """Make a container over the layers of the chain `base`, which need not be an image's.

        The caller holds a lease on `base`.  `image` and `image_name` say what it was made
        from.  It has `auto_remove`, and may be lost if the machine stops.  Raises Conflict if the
        name is taken, NotFound if a layer is missing.
        """
        return self._create(
            image,
            base,
            name=_checked_name(name),
            image_name=image_name,
            config=config,
            auto_remove=True,
            exists=lambda: True,
            durable=False,
        )

    def _create(
        self,
        image: Digest,
        base: Digest | None,
        *,
        name: str | None,
        image_name: str,
        config: Object,
        auto_remove: bool,
        exists: Callable[[], bool],
        volumes: Sequence[VolumeUse] = (),
        durable: bool,
    ) -> Container:
        container_id = os.urandom(32).hex()
        with self._leases.lease("work", "container"), self._staging.to_build() as own:
            staged = own / "container"
            for directory in (staged, staged / "work", staged / "layers"):
                directory.mkdir(mode=0o700)
            top = self._layers.get(base).diff if base else None
            make_upper(staged / "upper", top)
            (staged / "lock").touch(mode=0o600)
            if durable:
                self._durability.directory(staged)
            self._volumes.stage(own, (use.volume for use in volumes))
            row = ContainerRow(
                id=container_id,
                name=name or "",
                image=image,
                image_name=image_name,
                base=base,
                published=0,
                config=json.dumps(config),  # in ASCII: a word may not be UTF-8
                created_ns=time.time_ns(),
                status="created",
                exit_code=None,
                pid=None,
                pid_start=None,
                started_ns=None,
                finished_ns=None,
                mount_point=None,
                auto_remove=int(auto_remove),
                runner=None,
                runner_start=None,
            )
            self._insert(row, staged, exists, volumes, durable=durable)
        return self.get(container_id)

    def _insert(
        self,
        row: ContainerRow,
        staged: Path,
        exists: Callable[[], bool],
        volumes: Sequence[VolumeUse],
        *,
        durable: bool,
    ) -> None:
        # Committed before the directory is made, so that a recovery finds it.
        self._leases.hold("container", row.id, durable=durable)
        if not durable:
            self._database.write_back()
        try:
            with self._database.transaction(durable=durable):
                if not exists():
                    raise NoSuchImage(row.image)
                if not row.name:
                    row = row._replace(
                        name=new_name(lambda name: self._rows.holder(name) is not None)
                    )
                else:
                    self._refuse_taken(row.name)
                self._rows.insert(row)
                self._volumes.attach(staged.parent, row.id, volumes)
                os.rename(staged, self.path / row.id)
                if durable:
                    self._durability.directory(self.path)
        except BaseException:
            self.collect([row.id])
            self._volumes.collect(use.volume for use in volumes)
            raise

    def rename(self, container: Container, name: str) -> Container:
        """Give the container another name.

        Raises Conflict if the name is taken, InvalidReference if it is not one.
        """
        name = _checked_name(name)
        with self._database.transaction():
            if name == container.name:
                raise InvalidReference(f"container {name} has that name already")
            self._refuse_taken(name)
            return self.update(container, name=name)

    def _refuse_taken(self, name: str) -> None:
        holder = self._rows.holder(name)
        if holder is not None:
            raise Conflict(
                f'Conflict. The container name "/{name}" is already in use by '
                f'container "{holder}". You have to remove (or rename) that '
                "container to be able to reuse that name."
            )

    def started(
        self, container: Container, pid: int, *, mount_point: str | None = None
    ) -> Container:
        """Record that the container runs, for as long as the process `pid` lives.

        The calling process is the one that records the end, by `finished` or
        `unmounted`; if it is killed before that, the next reader of the row does.
        """
        start = process_start(pid)
        if start is None:
            raise NotFound(f"there is no process {pid}")
        runner = this_process()
        columns: dict[str, Value] = {
            "status": "running",
            "pid": pid,
            "pid_start": start,
            "started_ns": time.time_ns(),
            "finished_ns": None,
            "exit_code": None,
            "mount_point": mount_point,
            "runner": runner.pid,
            "runner_start": runner.start,
        }
        # After a crash of the machine it does not run, whatever the row says.
        return self._set(container, columns, durable=False)

    def finished(self, container: Container, exit_code: int, *, durable: bool = True) -> Container:
        """Record that the container ran and ended; `durable` is that of `Database.transaction`."""
        columns: dict[str, Value] = {
            **_NOT_RUNNING,
            "status": "exited",
            "finished_ns": time.time_ns(),
            "exit_code": exit_code,
        }
        return self._set(container, columns, durable=durable)

    def unmounted(self, container: Container) -> Container:
        """Record that its mount ended; its status is again that in `container`."""
        return self.update(
            container,
            **_NOT_RUNNING,
            status=container.status,
            started_ns=container.started_ns,
            finished_ns=container.finished_ns,
            exit_code=container.exit_code,
        )

    def update(self, container: Container, **columns: Value) -> Container:
        """Set columns of the container's row; raises NoSuchContainer if it was removed."""
        return self._set(container, columns)

    def _set(
        self, container: Container, columns: dict[str, Value], *, durable: bool = True
    ) -> Container:
        """Do as `update`; `durable` is that of `Database.transaction`."""
        self._rows.update(container.id, columns, durable=durable)
        return self.get(container.id)

    def remove(self, container: Container, *, volumes: bool = False) -> None:
        """Remove a container and all its files; raises Conflict if it runs.

        With `volumes`, or if it is one of `--rm`, the volumes without a name that only it
        uses are removed too.
        """
        # A container that lost its directory has nothing to lock, and can be removed too.
        lost = not self.directory(container).exists()
        alone = nullcontext() if lost else self.lock(container)
        with self._leases.lease("work", "rm"), alone:
            with self._database.transaction():
                if self.get(container.id).running:
                    raise Conflict(
                        f"You cannot remove a running container {container.id}. Stop the container "
                        "before attempting removal or force remove"
                    )
                self._leases.hold("gone", container.id)
                uses = self._volumes.uses_of(container.id)
                self._rows.delete(container.id)
                unnamed = [use.volume for use in uses if not use.named]
                drop = volumes or container.auto_remove
                emptied = self._volumes.free(unnamed) if drop else ()
                # If its image was removed, the container may be the last user of these layers.
                freed = self._layers.free(container.base)
            self.collect([container.id])
            self._volumes.collect(emptied)
            self._layers.collect([layer.chain_id for layer in freed.layers])
            self._blobs.collect(freed.blobs)

    @contextmanager
    def lock(self, container: Container, *, wait: bool = True) -> Iterator[int]:
        """Hold the container's lock, as every change of it needs: commit, start, remove.

        Yields its descriptor: a fork that keeps it open holds the lock too.
        Raises Busy if another process holds it and `wait` is not set, NoSuchContainer
        if the container was removed while this waited for the lock.
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
            yield fd
        finally:
            os.close(fd)

    def collect(self, container_ids: Iterable[str]) -> None:
        """Remove the directories of those of `container_ids` that have no row."""
        for container_id in container_ids:
            with self._staging.directory() as own, self._database.transaction():
                if not self.exists(container_id):
                    with suppress(FileNotFoundError):
                        os.rename(self.path / container_id, own / container_id)

    def strays(self) -> builtins.list[str]:
        """Return the names of directories that no row and no lease names."""
        with self._database.transaction():  # no other process is between a rename and its row
            names = set(os.listdir(self.path)) - self._leases.named()
            return sorted(names - self._rows.ids())

    def exists(self, container_id: str) -> bool:
        """Tell whether there is a container of that id."""
        return self._rows.exists(container_id)

    def forget(self, container_ids: Iterable[str]) -> None:
        """Delete rows alone, for a rehearsal within the caller's transaction."""
        self._rows.delete(*container_ids)


def _checked_name(name: str) -> str:
    """Return the name without docker's leading slash; raises InvalidReference."""
    found = re.fullmatch(_NAME, name)
    if found is None:
        raise InvalidReference(
            f"Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
        )
    return found[1]


def make_upper(path: Path, below: Path | None) -> None:
    """Make an empty upper whose root has owner and mode of the root of `below`."""
    path.mkdir()
    found = below.stat() if below is not None else None
    if found is not None and os.geteuid() == 0:
        os.chown(path, found.st_uid, found.st_gid)
    path.chmod(stat.S_IMODE(found.st_mode) if found is not None else 0o755)


def _container(row: ContainerRow) -> Container:
    return Container(
        id=row.id,
        name=row.name,
        image=Digest(row.image),
        image_name=row.image_name,
        base=Digest(row.base) if row.base else None,
        published=row.published,
        config=json.loads(row.config),
        created_ns=row.created_ns,
        status=_status(row.status),
        exit_code=row.exit_code,
        pid=row.pid,
        pid_start=row.pid_start,
        started_ns=row.started_ns,
        finished_ns=row.finished_ns,
        mount_point=row.mount_point,
        auto_remove=bool(row.auto_remove),
    )


def _status(text: str) -> Status:
    for status in _STATUSES:
        if status == text:
            return status
    raise StoreError(f"store.db is damaged: a container has the status {text!r}")
