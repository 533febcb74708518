"""Mount points that an image does not have, in a layer between the image and the upper.

Decided here and only here: where missing mount points are made.  In the upper they would be
changes of the container, in its diff and in every image committed from it.  So they are made
in a layer that is the topmost lower of the container's mount while it runs.  No chain
contains this layer, and diff and commit do not use it.

It is in `containers/<id>/points`, is made again when the layers below have changed, and is
removed with the container.  If root of the container renames a directory above a mount
point, the names that this layer adds there do not get into an image.

Threading: one thread.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from contextlib import suppress

from layerstore.errors import StoreError
from layerstore.light_json import dumps
from mount_tools.container.root_options import Point
from mount_tools.container.union_path import walk
from unionfs import UnionConfig, UnionFs, open_union
from unionfs.errors import ConfigError
from unionfs.syscalls.removal import remove_tree
from unionfs.types import ROOT_NODEID, Attr, NodeId, SetAttr

_POINTS = "points"
_MADE_OF = "made-of"


# We mount filesystems there, so this layer has nothing below them.
_OURS = (Point("/proc", True), Point("/sys", True), Point("/dev", True))
_BENEATH_OURS = tuple(os.fsencode(own.path[1:]) for own in _OURS)


def with_points(
    union: UnionConfig, directory: str | os.PathLike[str], wanted: Iterable[Point]
) -> UnionConfig:
    """Return `union` with one more lower, of the `wanted` mount points that it lacks.

    `directory` is the container's, and the container is not mounted.  Raises StoreError.  There
    is room for the layer: a union takes more of them than an image has (layerstore.limits).
    """
    points = [*_OURS, *wanted]
    place = os.path.join(directory, _POINTS)
    diff, made = os.path.join(place, "diff"), os.path.join(place, _MADE_OF)
    made_of = dumps([_boot(), [os.fsdecode(path) for path in union.lowers], points])
    if _read(made) != made_of:
        # A container may have made some of it immutable.
        remove_tree(None, os.fsencode(place), protected=True)
        umask = os.umask(0)  # the union makes files with the modes that they are to have
        try:
            _build(union.lowers, place, diff, points)
        finally:
            os.umask(umask)
        with open(made, "w") as file:
            file.write(made_of)
    if not os.listdir(diff):
        return union
    return union._replace(lowers=(os.fsencode(diff), *union.lowers))


def _boot() -> str:
    # After a crash the layer may be incomplete, whatever `made-of` says.
    return _read("/proc/sys/kernel/random/boot_id")


def _read(path: str) -> str:
    try:
        with open(path, errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def _build(lowers: tuple[bytes, ...], place: str, diff: str, points: Iterable[Point]) -> None:
    work = os.path.join(place, "work")
    for directory in (place, diff, work):
        os.mkdir(directory, 0o755)
    config = UnionConfig(lowers=lowers, upper=os.fsencode(diff), work=os.fsencode(work))
    try:
        union = open_union(config)
    except ConfigError as error:
        raise StoreError(f"the container's layers cannot be opened: {error}") from None
    try:
        for point in points:
            # If it cannot be made, for example beneath a file, the mount on it fails.
            with suppress(OSError):
                _make(union, point)
    finally:
        union.close(write_back=False)
    remove_tree(None, os.fsencode(work))


def _make(union: UnionFs, point: Point) -> None:
    """Make the missing components of `point`; links are followed as in the container."""

    def look(parent: NodeId, name: bytes, last: bool) -> Attr | None:
        if not last and parent == ROOT_NODEID and name in _BENEATH_OURS:
            return None
        found = union.lookup(parent, name)
        if found is None:
            found = _add(union, parent, name, folder=not last or point.folder)
        return found

    walk(union, os.fsencode(point.path), look, follow_last=True)


def _add(union: UnionFs, parent: NodeId, name: bytes, *, folder: bool) -> Attr:
    was = union.getattr(parent).st
    if folder:
        made = union.mkdir(parent, name, 0o755, 0, 0, 0)
    else:
        made = union.mknod(parent, name, stat.S_IFREG | 0o644, 0, 0, 0, 0)
    times = SetAttr(atime_ns=was.st_atime_ns, mtime_ns=was.st_mtime_ns)
    union.setattr(parent, times, None)
    return made
