"""Every case of this suite, on every subject, in every placement of its tree.

A case is a test function that takes `root`, an empty directory or one that
holds the tree its `@tree` names, and may take `world` to learn where it runs.
Lowers are compared after each case: nothing may have changed there.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.cases import is_union_only, tree_of
from tests.conformance.deviations import reason_for
from tests.conformance.subjects import (
    SUBJECTS,
    Slot,
    Stage,
    Subject,
    Variant,
    World,
    staged,
)
from tests.helpers.mounts import require_root


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "world" not in metafunc.fixturenames:
        return
    nodes = tree_of(metafunc.function)
    variants = [
        Variant(subject, placement)
        for subject in SUBJECTS
        if subject.is_union or not is_union_only(metafunc.function)
        for placement in subject.placements(nodes)
    ]
    metafunc.parametrize("world", variants, indirect=True, ids=lambda variant: variant.id)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        variant = _variant(item)
        if variant is None:
            continue
        reason = reason_for(item.name, variant)
        if reason:
            item.add_marker(pytest.mark.xfail(reason=reason, strict=True))


def _variant(item: pytest.Item) -> Variant | None:
    if not isinstance(item, pytest.Function) or not hasattr(item, "callspec"):
        return None
    value = item.callspec.params.get("world")
    return value if isinstance(value, Variant) else None


class Stages:
    """The subjects of this session, each made ready when its first case asks."""

    def __init__(self, items: list[pytest.Item]) -> None:
        self._slots: dict[Subject, dict[pytest.Item, Slot]] = {}
        self._ready: dict[Subject, Stage] = {}
        self._broken: dict[Subject, BaseException] = {}
        self._open = contextlib.ExitStack()
        for number, item in enumerate(items):
            variant = _variant(item)
            if variant is not None and isinstance(item, pytest.Function):
                name = f"{number:05d}-{item.originalname.removeprefix('test_')}"
                slot = Slot(name, tree_of(item.function), variant.placement)
                self._slots.setdefault(variant.subject, {})[item] = slot

    def enter(self, item: pytest.Item, subject: Subject) -> World:
        """Return the world of `item`; skip or fail it where its subject cannot run here.

        What kept a subject from its mount is remembered, not tried a thousand times.
        """
        if subject in self._broken:
            raise self._broken[subject]
        if subject not in self._ready:
            slots = self._slots[subject]
            try:
                stage = self._open.enter_context(staged(subject, slots.values()))
            except BaseException as error:
                self._broken[subject] = error
                raise
            self._ready[subject] = stage
        return self._ready[subject].enter(self._slots[subject][item])

    def close(self) -> None:
        self._open.close()


@pytest.fixture(scope="session")
def stages(request: pytest.FixtureRequest) -> Iterator[Stages]:
    stages = Stages(request.session.items)
    yield stages
    stages.close()


@pytest.fixture
def world(request: pytest.FixtureRequest, stages: Stages) -> Iterator[World]:
    require_root()
    old_umask = os.umask(0o022)
    try:
        world = stages.enter(request.node, request.param.subject)
        before = [_frozen(path) for path in world.lower_paths()]
        yield world
        after = [_frozen(path) for path in world.lower_paths()]
    finally:
        os.umask(old_umask)
    assert after == before, "a lower layer was changed"


@pytest.fixture
def root(world: World) -> Path:
    return world.root


def _frozen(top: Path) -> dict[bytes, tuple[object, ...]]:
    """Return what must not change in a lower: every name's inode, times and xattrs.

    Content cannot change unseen: ctime_ns is among the times.  Looking moves
    no atime, which cases look at themselves.
    """
    found: dict[bytes, tuple[object, ...]] = {}
    waiting = [os.fsencode(top)]
    while waiting:
        path = waiting.pop()
        st = os.lstat(path)
        names = sorted(os.listxattr(path, follow_symlinks=False))
        found[path] = (
            (st.st_ino, st.st_mode, st.st_nlink, st.st_uid, st.st_gid, st.st_size),
            (st.st_mtime_ns, st.st_ctime_ns, names),
        )
        if stat.S_ISDIR(st.st_mode):
            fd = os.open(path, os.O_RDONLY | os.O_NOATIME)
            waiting += [os.path.join(path, os.fsencode(name)) for name in os.listdir(fd)]
            os.close(fd)
    return found
