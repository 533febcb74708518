"""What the suite can run on, and where a case's directory comes from.

Every subject is mounted once a session: before the mount, the trees of all
cases chosen for it are laid into its layers, a directory for each case, so
that a case costs no mount of its own.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from tests.conformance.tree import LOWER_COUNT, UPPER, Node, Placement, build, split
from tests.helpers.calls import syncfs
from tests.helpers.io_uring import io_uring_enabled
from tests.helpers.layers import Layers
from tests.helpers.mounts import kernel_overlay, mounted

NO_TREE = (Placement.FRESH, Placement.LOWER)
"""Where a case that starts from an empty directory runs: in a new one and in a lower one."""


@dataclass(frozen=True)
class Subject:
    """One kind of filesystem the suite runs on.

    `mount` opens a union over the given layers and yields the directory to
    use; a plain directory has none.
    """

    name: str
    mount: Callable[[Layers], AbstractContextManager[Path]] | None = None

    @property
    def is_union(self) -> bool:
        return self.mount is not None

    def placements(self, nodes: Sequence[Node]) -> Iterable[Placement]:
        if not self.is_union:
            return (Placement.FRESH,)
        return Placement if nodes else NO_TREE


@dataclass(frozen=True)
class Variant:
    """One case in one placement on one subject."""

    subject: Subject
    placement: Placement

    @property
    def id(self) -> str:
        return f"{self.subject.name}-{self.placement.value}"


@dataclass(frozen=True)
class Slot:
    """The directory of one variant, and the tree to lie in it."""

    name: str
    nodes: Sequence[Node]
    placement: Placement


@dataclass(frozen=True)
class World:
    """What a case may know of where it runs."""

    root: Path
    subject: Subject
    placement: Placement
    layers: Layers | None = field(repr=False)
    slot: str = field(repr=False)

    @property
    def is_union(self) -> bool:
        return self.subject.is_union

    @property
    def mount_point(self) -> Path:
        return self.root.parent

    def lower_paths(self) -> list[Path]:
        """Return the case's own directory in each lower that has one."""
        if self.layers is None:
            return []
        return [path for low in self.layers.lowers if (path := low / self.slot).is_dir()]

    def upper_path(self) -> Path:
        """Return the case's own directory in the upper, whether it is there yet or not."""
        assert self.layers is not None
        return self.layers.upper / self.slot


class Stage:
    """A subject made ready for a session: mounted, its slots filled."""

    def __init__(self, subject: Subject, top: Path, layers: Layers | None) -> None:
        self.subject = subject
        self._top = top
        self._layers = layers

    def enter(self, slot: Slot) -> World:
        """Return the world of a case, its tree in place."""
        root = self._top / slot.name
        if slot.placement is Placement.FRESH:
            build(slot.nodes, os.fsencode(root))
        return World(root, self.subject, slot.placement, self._layers, slot.name)


@contextlib.contextmanager
def staged(subject: Subject, slots: Iterable[Slot]) -> Iterator[Stage]:
    """Make `subject` ready with every slot's tree laid out; take it all away after."""
    base = Path(tempfile.mkdtemp(prefix=f"conformance-{subject.name}-"))
    base.chmod(0o755)  # ordinary users must reach the mount
    try:
        if subject.mount is None:
            yield Stage(subject, base, None)
            return
        layers = Layers(base, *[{}] * LOWER_COUNT)
        for slot in slots:
            if slot.placement is not Placement.FRESH:
                for number, nodes in split(slot.nodes, slot.placement).items():
                    layer = layers.upper if number == UPPER else layers.lowers[number - 1]
                    build(nodes, os.fsencode(layer / slot.name))
        with subject.mount(layers) as top:
            yield Stage(subject, top, layers)
            _write_back(layers.upper)
    finally:
        shutil.rmtree(base, ignore_errors=True)


def _write_back(path: Path) -> None:
    """Sync the layers' filesystem, which others may be writing to as well.

    The unmount syncs it too, and has a deadline.
    """
    fd = os.open(path, os.O_RDONLY)
    try:
        syncfs(fd)
    finally:
        os.close(fd)


# -- the subjects --


@contextlib.contextmanager
def _kernel(layers: Layers) -> Iterator[Path]:
    # Those of the kernel's options that PyUnion has on by default.
    options = ("redirect_dir=on", "index=on")
    with kernel_overlay(layers.lowers, layers.upper, layers.work, options) as top:
        yield top


def _pyunion(*options: str) -> Callable[[Layers], AbstractContextManager[Path]]:
    def mount(layers: Layers) -> AbstractContextManager[Path]:
        return mounted(layers.lowers, layers.upper, layers.work, options)

    return mount


@contextlib.contextmanager
def _io_uring(layers: Layers) -> Iterator[Path]:
    with io_uring_enabled(), _pyunion("io_uring=on")(layers) as top:
        yield top


SUBJECTS = (
    Subject("plain"),
    Subject("kernel", _kernel),
    Subject("pyunion.pyfuse3", _pyunion("transport=pyfuse3")),
    Subject("pyunion.dev_fuse", _pyunion("transport=dev_fuse", "io_uring=off")),
    Subject("pyunion.io_uring", _io_uring),
)
