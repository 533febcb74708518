"""What is stored through a shared mapping is in the layer, over every transport."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from layerstore import Store
from layerstore.operations.commit import commit
from layerstore.operations.write_back import sync_file
from tests.helpers.images import add_image
from tests.helpers.io_uring import io_uring_enabled
from tests.helpers.mounts import (
    helper_environment,
    mount_type,
    require_fuse,
    require_root,
    run,
    wait_until,
)
from tests.helpers.processes import ending

PAGES = 4096
PAGE = 4096

# Dirties every page, and again each time it is told to.
PROGRAM = """
import mmap, sys
pages, path = int(sys.argv[1]), sys.argv[2]
with open(path, "w+b") as file:
    file.truncate(pages * 4096)
    view = mmap.mmap(file.fileno(), 0)
for turn in sys.stdin:
    for page in range(pages):
        view[page * 4096 : page * 4096 + 12] = b"%4s%8d" % (turn.strip().encode(), page)
    print(turn, end="", flush=True)
"""


@contextmanager
def mapping(path: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(PAGES), str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with ending(process):
        yield process


def dirty(process: subprocess.Popen[str], turn: str) -> None:
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(f"{turn}\n")
    process.stdin.flush()
    assert process.stdout.readline() == f"{turn}\n"


def pages_of(file: Path, turn: str) -> int:
    """Return how many pages of `file` are as they were stored in that turn."""
    data = file.read_bytes()
    return sum(
        data[page * PAGE : page * PAGE + 12] == b"%4s%8d" % (turn.encode(), page)
        for page in range(PAGES)
    )


@pytest.fixture(params=["pyfuse3", "no pause", "dev_fuse", "io_uring", "passthrough"])
def options(request: pytest.FixtureRequest) -> Iterator[str]:
    require_root()
    require_fuse()
    if request.param == "io_uring":
        with io_uring_enabled():
            yield "transport=dev_fuse,io_uring=on,passthrough=off"
    elif request.param == "dev_fuse":
        yield "transport=dev_fuse,io_uring=off,passthrough=off"
    elif request.param == "passthrough":
        yield "transport=dev_fuse"
    else:
        yield "transport=pyfuse3"


def test_stores_before_a_commit_are_in_it(
    tmp_path: Path, options: str, request: pytest.FixtureRequest
) -> None:
    pause = "no pause" not in request.node.name
    point, path = tmp_path / "point", tmp_path / "store"
    point.mkdir()
    with Store.open(path, sync=False) as store:
        add_image(store, {"file": b"1"}, names=["box:1"])
    run(
        *(sys.executable, "-m", "mount_tools.helper.main", "box:1", point),
        *("-o", f"container=box,{options}"),
        env={**helper_environment(), "PYUNION_ROOT": str(path)},
    )
    try:
        with mapping(point / "mapped") as process, Store.open(path, sync=False) as store:
            upper = store.containers.resolve("box").upper
            for turn in ("one", "two"):
                dirty(process, turn)
                container = store.containers.resolve("box")
                done = commit(store, container, f"{turn}:1", pause=pause)
                assert b"/mapped" in done.copied
                top = done.image.top
                assert top is not None
                assert pages_of(store.layers.get(top).diff / "mapped", turn) == PAGES
                assert pages_of(point / "mapped", turn) == PAGES
            dirty(process, "last")
    finally:
        run("umount", point, check=False)
        wait_until(lambda: mount_type(point) is None, "it to be unmounted")
    assert pages_of(upper / "mapped", "last") == PAGES


def test_what_took_the_place_of_a_file_is_left_alone(tmp_path: Path) -> None:
    """A name is all the daemon tells; a pipe there now would be waited for."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/zero")
    (tmp_path / "file").touch()
    root = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for name in (b"/pipe", b"/link", b"/file"):
            sync_file(root, name)
        with pytest.raises(FileNotFoundError):
            sync_file(root, b"/gone")
    finally:
        os.close(root)
