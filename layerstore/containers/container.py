"""A container: its row as it was read, and the files in its directory.

`containers/<id>` has `upper` and `work`; `lock`, which a process locks while it changes
the container; `control.sock`, through which the store talks to the daemon of its mount;
and `layers/<n>`, the uppers that commits froze, counted from 1.  The first `published` of
these are in `base` by now.  A frozen layer is a directory with `diff` in it, as every layer
is: the upper is renamed to `layers/<n>/diff`.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

from layerstore.db.container_table import ContainerRow
from layerstore.db.database import stored_object
from layerstore.db.processes import ProcessId
from layerstore.errors import StoreError
from layerstore.oci.digest import SHORT, Digest
from layerstore.oci.documents import Object
from unionfs.light_typing import Literal, NamedTuple

Status = Literal["created", "running", "exited"]
_STATUSES: tuple[Status, ...] = ("created", "running", "exited")
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

    directory: Path

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

    @property
    def upper(self) -> Path:
        """Its upper."""
        return self.directory / "upper"

    @property
    def work(self) -> Path:
        """Its workdir."""
        return self.directory / "work"

    def frozen(self) -> list[tuple[int, Path]]:
        """Return the frozen layers that are not in the base yet, each with its number.

        The topmost is first.  Each is a directory with `diff` in it, as every layer is.
        """
        there = [
            (number, self._frozen_at(number))
            for number in self._numbers()
            if number > self.published
        ]
        # One without `diff` is a freeze that was interrupted before its rename.
        return [(number, path) for number, path in there if (path / "diff").exists()]

    def next_frozen(self) -> Path:
        """Return the path for the next frozen layer, which does not exist yet."""
        return self._frozen_at(max([self.published, *self._numbers()]) + 1)

    def size(self) -> int:
        """Return the bytes of the files in its upper and its frozen layers."""
        from layerstore.diff.tree_walk import tree_size  # few commands need it

        own = [path / "diff" for _, path in self.frozen()]
        return sum(tree_size(path) for path in (self.upper, *own))

    def _frozen_at(self, number: int) -> Path:
        return self.directory / "layers" / str(number)

    def _numbers(self) -> list[int]:
        """Return the numbers of the frozen layers, the highest first."""
        with suppress(FileNotFoundError):
            names = os.listdir(self.directory / "layers")
            return sorted(
                (int(name) for name in names if re.fullmatch(_NUMBER, name)), reverse=True
            )
        return []

    @classmethod
    def of(cls, row: ContainerRow, directory: Path) -> Container:
        """Return the container of a row; raises StoreError if its status is not one."""
        return cls(
            directory=directory,
            id=row.id,
            name=row.name,
            image=Digest(row.image),
            image_name=row.image_name,
            base=Digest(row.base) if row.base else None,
            published=row.published,
            config=stored_object(row.config, f"the configuration of container {row.name}"),
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
    raise StoreError(
        f"store.db is damaged: a container has the status {text!r}; restore it from a backup"
    )
