"""Containers: named uppers over the layers of an image.

A container exists if it has a row; a directory without a row is left over.
`layerstore.containers.container` says what the directory has.

Lock order: a container's `lock`, then the database's write lock; never the reverse.

A container runs while its process or the one that waits for its end is alive; see
`layerstore.db.container_table` for what happens if both were killed.

Threading: any thread.
"""

from __future__ import annotations

import builtins
import fcntl
import os
import re
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

from layerstore.blobs import BlobStore
from layerstore.containers.container import Container
from layerstore.containers.names import new_name
from layerstore.db.container_table import ContainerRow, ContainerTable
from layerstore.db.database import Value
from layerstore.db.foundation import DirectoryPart, Foundation
from layerstore.db.processes import process_start, this_process
from layerstore.errors import (
    AmbiguousId,
    Busy,
    Conflict,
    InvalidReference,
    NoSuchContainer,
    NoSuchImage,
    NotFound,
    shown,
)
from layerstore.images.images import Image, ImageStore
from layerstore.layers import LayerStore
from layerstore.light_json import dumps
from layerstore.oci.digest import Digest
from layerstore.oci.documents import Object
from layerstore.volumes import VolumeStore, VolumeUse

_NOT_RUNNING: dict[str, Value] = {
    "pid": None,
    "pid_start": None,
    "runner": None,
    "runner_start": None,
    "mount_point": None,
}

_NAME = r"/?([a-zA-Z0-9][a-zA-Z0-9_.-]+)"
_ID = r"[0-9a-f]{1,64}"


class ContainerStore(DirectoryPart):
    """The directory `<root>/containers` and its rows."""

    def __init__(
        self,
        foundation: Foundation,
        blobs: BlobStore,
        layers: LayerStore,
        images: ImageStore,
        volumes: VolumeStore,
    ) -> None:
        super().__init__(foundation, "containers")
        self._rows = ContainerTable(foundation.database)
        self._blobs = blobs
        self._layers = layers
        self._images = images
        self._volumes = volumes

    def _container(self, row: ContainerRow) -> Container:
        return Container.of(row, self.path / row.id)

    # -- reading --

    def get(self, container_id: str) -> Container:
        """Return the container of that full id; raises NoSuchContainer."""
        row = self._rows.get(container_id)
        if row is None:
            raise NoSuchContainer(container_id)
        return self._container(row)

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
        return self._container(row)

    def list(self) -> builtins.list[Container]:
        """Return every container, the newest first."""
        return [self._container(row) for row in self._rows.all()]

    def lowers(self, container: Container) -> builtins.list[Path]:
        """Return the trees beneath the container's upper, the topmost first.

        Raises NotFound if a layer lost its files.
        """
        own = [path / "diff" for _, path in container.frozen()]
        return own + [layer.diff for layer in self._layers.chain(container.base)]

    def trees(self, container: Container) -> builtins.list[Path]:
        """Return the container's upper and its `lowers`, the topmost first.

        Raises NotFound if one of them is lost.
        """
        self.check_upper(container)
        return [container.upper, *self.lowers(container)]

    def check_upper(self, container: Container) -> None:
        """Raise NotFound if somebody else removed the container's upper, or its directory."""
        if container.upper.is_dir():
            return
        with self._database.still():  # no other process is between a rename and its row
            self.get(container.id)
        if container.directory.is_dir():
            lost, remedy = "upper", "`pyunion check --repair` makes an empty one"
        else:
            lost, remedy = "directory", f"`pyunion rm {container.name}` removes what is left of it"
        raise NotFound(
            f"container {container.name} has lost its {lost}, {container.directory}; {remedy}"
        )

    def lowers_to_mount(self, container: Container) -> builtins.list[Path]:
        """Return `lowers`, or an empty directory, which is made, where the image has no layers.

        A union has one lower at least.  Raises NotFound if a layer lost its files, or if the
        container lost its upper.
        """
        self.check_upper(container)
        found = self.lowers(container)
        if not found:
            found = [container.directory / "empty"]
            found[0].mkdir(mode=0o755, exist_ok=True)
        return found

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
        row = _new_row(
            image.id,
            image.top,
            name="" if name is None else _checked_name(name),
            image_name=image_name or image.id.short,
            config=config or {},
        )
        return self._create(
            row._replace(auto_remove=int(auto_remove)),
            lambda: self._images.exists(image.id),
            volumes,
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
        row = _new_row(image, base, name=_checked_name(name), image_name=image_name, config=config)
        return self._create(row._replace(auto_remove=1), lambda: True, durable=False)

    def _create(
        self,
        row: ContainerRow,
        exists: Callable[[], bool],
        volumes: Sequence[VolumeUse] = (),
        *,
        durable: bool,
    ) -> Container:
        """Make the container of `row` if its image `exists`; without a name one is made up."""
        with self._leases.lease("work", "container"), self._staging.to_build() as own:
            staged = own / "container"
            for directory in (staged, staged / "work", staged / "layers"):
                directory.mkdir(mode=0o700)
            top = self._layers.get(Digest(row.base)).diff if row.base else None
            make_upper(staged / "upper", top)
            (staged / "lock").touch(mode=0o600)
            if durable:
                self._durability.directory(staged)
            self._volumes.stage(own, (use.volume for use in volumes))
            # Committed before the directory is made, so that a recovery finds it.
            self._leases.hold("container", row.id, durable=durable)
            if not durable:
                self._database.write_back()
            try:
                with self._database.transaction(durable=durable):
                    if not exists():
                        raise NoSuchImage(row.image)
                    self._rows.insert(self._named(row))
                    self._volumes.attach(own, row.id, volumes)
                    os.rename(staged, self.path / row.id)
                    if durable:
                        self._durability.directory(self.path)
            except BaseException:
                self.collect([row.id])
                self._volumes.collect(use.volume for use in volumes)
                raise
        return self.get(row.id)

    def _named(self, row: ContainerRow) -> ContainerRow:
        """Return the row with a name; raises Conflict if its own is taken."""
        if row.name:
            self._refuse_taken(row.name)
            return row
        return row._replace(name=new_name(lambda name: self._rows.holder(name) is not None))

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
        return self.update(
            container,
            durable=False,  # after a crash of the machine it does not run, whatever the row says
            status="running",
            pid=pid,
            pid_start=start,
            started_ns=time.time_ns(),
            finished_ns=None,
            exit_code=None,
            mount_point=mount_point,
            runner=runner.pid,
            runner_start=runner.start,
        )

    def finished(self, container: Container, exit_code: int, *, durable: bool = True) -> Container:
        """Record that the container ran and ended; `durable` is that of `Database.transaction`."""
        return self.update(
            container,
            durable=durable,
            **_NOT_RUNNING,
            status="exited",
            finished_ns=time.time_ns(),
            exit_code=exit_code,
        )

    def unmounted(self, container: Container) -> Container:
        """Record that its mount ended; its status is again that in `container`."""
        return self.update(
            container,
            durable=True,
            **_NOT_RUNNING,
            status=container.status,
            started_ns=container.started_ns,
            finished_ns=container.finished_ns,
            exit_code=container.exit_code,
        )

    def update(self, container: Container, *, durable: bool = True, **columns: Value) -> Container:
        """Set columns of the container's row; raises NoSuchContainer if it was removed.

        `durable` is that of `Database.transaction`.
        """
        self._rows.update(container.id, columns, durable=durable)
        return self.get(container.id)

    def remove(self, container: Container, *, volumes: bool = False) -> None:
        """Remove a container and all its files; raises Conflict if it runs.

        With `volumes`, or if it is one of `--rm`, the volumes without a name that only it
        uses are removed too.
        """
        # A container that lost its directory has nothing to lock, and can be removed too.
        lost = not container.directory.exists()
        alone = nullcontext() if lost else self.lock(container)
        with self._leases.lease("work", "rm"), alone:
            with self._database.transaction():
                _refuse_removal(self.get(container.id))
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
        if the container was removed while this waited for the lock, NotFound if somebody
        else removed its directory, StoreError if the store is only read.
        """
        self._database.require_writable()
        path = container.directory / "lock"
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except FileNotFoundError:
            self.check_upper(container)
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
        self._discard(container_ids)

    def _has_row(self, name: str) -> bool:
        return self.exists(name)

    def _row_names(self) -> set[str]:
        return self._rows.ids()

    def exists(self, container_id: str) -> bool:
        """Tell whether there is a container of that id."""
        return self._rows.exists(container_id)

    def forget(self, container_ids: Iterable[str]) -> None:
        """Delete rows alone, for a rehearsal within the caller's transaction."""
        self._rows.delete(*container_ids)


def _new_row(
    image: Digest, base: Digest | None, *, name: str, image_name: str, config: Object
) -> ContainerRow:
    return ContainerRow(
        id=os.urandom(32).hex(),
        name=name,
        image=image,
        image_name=image_name,
        base=base,
        config=dumps(config),  # in ASCII: a word may not be UTF-8
        created_ns=time.time_ns(),
    )


def _checked_name(name: str) -> str:
    """Return the name without docker's leading slash; raises InvalidReference."""
    found = re.fullmatch(_NAME, name)
    if found is None:
        short = "" if len(name) > 1 else ", and at least two characters are needed"
        raise InvalidReference(
            f"Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed{short}"
        )
    return found[1]


def _refuse_removal(container: Container) -> None:
    """Raise Conflict if the container is in use."""
    if container.running and container.mount_point is not None:
        raise Conflict(
            f"You cannot remove container {container.id}, which is mounted on "
            f"{shown(container.mount_point)}. Unmount it before attempting removal or force remove"
        )
    if container.running:
        raise Conflict(
            f"You cannot remove a running container {container.id}. Stop the container before "
            "attempting removal or force remove"
        )


def make_upper(path: Path, below: Path | None) -> None:
    """Make an empty upper whose root has owner and mode of the root of `below`."""
    path.mkdir()
    found = below.stat() if below is not None else None
    if found is not None and os.geteuid() == 0:
        os.chown(path, found.st_uid, found.st_gid)
    path.chmod(stat.S_IMODE(found.st_mode) if found is not None else 0o755)
