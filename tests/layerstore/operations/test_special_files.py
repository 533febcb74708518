"""FIFOs, devices, sockets and huge sparse files in an upper hold up no operation of the store."""

from __future__ import annotations

import io
import os
import socket
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from layerstore import Container, Store
from layerstore.diff.differences import differences
from layerstore.operations.check import check
from layerstore.operations.commit import commit
from layerstore.operations.gc import prune
from layerstore.operations.rootfs import export_container, import_image
from tests.helpers.images import add_image


@pytest.fixture
def container(store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Container]:
    """A container whose upper has a FIFO in the place of each lower file, and others beside."""
    image = add_image(store, {"pipe": b"1", "device": b"2", "d/pipe": b"3"}, names=["x"])
    made = store.containers.create(image, name="box")
    upper = made.upper
    (upper / "d").mkdir()
    for name in ("pipe", "d/pipe", "new"):
        os.mkfifo(upper / name)
    if os.geteuid() == 0:
        os.mknod(upper / "device", stat.S_IFCHR | 0o600, os.makedev(5, 0))
        os.mknod(upper / "other", stat.S_IFBLK | 0o600, os.makedev(7, 200))
    monkeypatch.chdir(upper)  # whose path is too long for an address
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("socket")
    yield made
    store.containers.remove(store.containers.get(made.id))


def trees(store: Store, container: Container) -> list[Path]:
    return [container.upper, *store.containers.lowers(container)]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("prune_unchanged", [False, True])
def test_special_files_are_compared_committed_exported_and_checked(
    store: Store, container: Container, prune_unchanged: bool
) -> None:
    before = store.containers.lowers(container)
    for content in (False, True):
        found = differences(before, trees(store, container), content=content)
        assert {b"pipe", b"d/pipe", b"new"} <= {change.path.lstrip(b"/") for change in found}
    out = io.BytesIO()
    export_container(store, container, out)
    out.seek(0)
    with tarfile.open(fileobj=out) as tar:
        assert tar.getmember("pipe").isfifo() and tar.getmember("d/pipe").isfifo()
    assert container.size() == 0
    image = commit(store, container, "y", prune_unchanged=prune_unchanged).image
    (top, *_) = store.layers.chain(image.top)
    assert stat.S_ISFIFO((top.diff / "pipe").lstat().st_mode)
    out.seek(0)
    imported = import_image(store, out)
    assert stat.S_ISFIFO((store.layers.chain(imported.top)[0].diff / "new").lstat().st_mode)
    assert [str(finding) for finding in check(store) if top.chain_id in finding.key] == []
    prune(store, dry_run=True)


class Counted(io.RawIOBase):
    """Counts what is written to it."""

    size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        self.size += memoryview(data).nbytes  # type: ignore[arg-type]
        return memoryview(data).nbytes  # type: ignore[arg-type]


def bytes_read() -> int:
    """Return how many bytes this process has read by system calls."""
    (line,) = [line for line in Path("/proc/self/io").read_text().splitlines() if "rchar" in line]
    return int(line.split()[1])


def write_sparse(path: Path, size: int) -> None:
    with path.open("wb") as file:
        file.truncate(size)
        file.seek(size // 2)
        file.write(b"in the middle")


@pytest.mark.timeout(120)
def test_holes_are_not_read(store: Store) -> None:
    container = store.containers.create(add_image(store, {"a": b"1"}), name="box")
    sparse = container.upper / "sparse"
    write_sparse(sparse, 255 << 30)
    before = bytes_read()
    lowers = store.containers.lowers(container)
    found = list(differences(lowers, trees(store, container), content=True))
    assert len(found) == 1
    assert container.size() == 255 << 30
    write_sparse(sparse, 512 << 20)
    out = Counted()
    export_container(store, container, out)
    assert out.size < 1 << 20, "a hole is a sparse entry of the tar"
    # The digest of a layer is of all its zeros.
    image = commit(store, container, "y").image
    (top, *_) = store.layers.chain(image.top)
    assert not [found for found in check(store) if found.key == top.chain_id]
    assert (top.diff / "sparse").stat().st_blocks * 512 < 1 << 20
    assert bytes_read() - before < 64 << 20
