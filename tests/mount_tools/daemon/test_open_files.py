"""The limit of open files of a daemon, and the room for them before it has threads."""

from __future__ import annotations

import os
import resource

import pytest

from mount_tools.daemon.open_files import ROOM, allow_many_files
from tests.helpers.children import run
from tests.helpers.descriptors import room_for_files
from tests.helpers.layers import MountLayers
from tests.helpers.mounts import mounted_union, require_root


def test_the_limit_is_raised_and_the_table_has_room() -> None:
    def work() -> None:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, hard), hard))
        before = os.listdir("/proc/self/fd")
        allow_many_files()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
        assert room_for_files(os.getpid()) >= min(ROOM, hard)
        assert os.listdir("/proc/self/fd") == before

    run(work)


@pytest.mark.parametrize("limit", [100, 256, 1000])
def test_the_room_is_within_the_limit(limit: int) -> None:
    def work() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
        allow_many_files()
        assert limit <= room_for_files(os.getpid()) < ROOM

    run(work)


def test_a_daemon_has_room_before_it_opens_a_directory(layers: MountLayers) -> None:
    require_root()
    with mounted_union([layers.low], layers.upper, layers.work) as union:
        assert room_for_files(union.process.pid) >= min(
            ROOM, resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        )
