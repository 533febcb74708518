"""The power fails: a file that was copied up is, after a restart, wholly old or wholly new.

And what a command of `pyunion` reported as done is there.

The upper, or the store, lies on a filesystem of its own, which is shut down without writing its
log, as a machine that loses its power would leave it, and mounted anew: what had not reached
the disk is gone.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from layerstore import Store
from layerstore.operations.check import check
from tests.conformance import tree as layer_tree
from tests.helpers.cli import Cli
from tests.helpers.core_driver import CoreDriver
from tests.helpers.images import add_image
from tests.helpers.layers import Layers
from tests.helpers.mounts import helper_environment, mounted_union, require_root, run
from tests.helpers.power import Disk
from tests.helpers.unions import in_a_thread
from tests.layerstore.image_archives import tar_of
from unionfs.core import copy_up, setup
from unionfs.core.config import WhiteoutForm
from unionfs.core.metadata import set_mark
from unionfs.core.owner_rights import Place
from unionfs.syscalls.writeback import is_ordered

FILES = 60


@pytest.mark.parametrize(
    ("kind", "mounted", "ordered"),
    [
        ("ext4", (), True),
        ("ext4", ("data=journal",), True),
        ("writeback", (), False),
        ("no journal", (), False),
    ],
)
def test_which_ext4_keeps_the_order(
    tmp_path: Path, kind: str, mounted: tuple[str, ...], ordered: bool
) -> None:
    require_root()
    with Disk(tmp_path, kind).mounted(*mounted) as top:
        fd = os.open(top, os.O_RDONLY)
        try:
            assert is_ordered(fd) is ordered
        finally:
            os.close(fd)


@pytest.mark.parametrize("kind", ["ext4", "writeback"])
@pytest.mark.parametrize("seed", range(3))
def test_copies_survive_whole_or_not_at_all(tmp_path: Path, seed: int, kind: str) -> None:
    """Where the disk keeps no order by itself, each copy takes an fsync(2)."""
    require_root()
    chance = random.Random(seed)
    old = {f"f{n}": chance.randbytes(chance.randrange(1, 60_000)) for n in range(FILES)}
    for name in chance.sample(sorted(old), 4):
        old[name] *= 100  # of some MiB, which are written while they are copied
    lower = tmp_path / "lower"
    layer_tree.build(
        [layer_tree.file(name, data, mode=0o600) for name, data in old.items()], os.fsencode(lower)
    )
    disk = Disk(tmp_path, kind)
    disk.mount()
    try:
        upper, work = disk.top / "upper", disk.top / "work"
        upper.mkdir()
        work.mkdir()
        os.sync()
        with mounted_union([lower], upper, work) as union:
            last = chance.randrange(FILES // 2, FILES)
            # In this order the copies of most are staged ahead.
            names = os.listdir(union.root)
            for number, name in enumerate(names[:last]):
                os.chmod(union.root / name, 0o640)
                if number == last // 2:
                    # Commits the names that are there by now, and leaves the rest in memory.
                    with (disk.top / "new").open("wb") as new:
                        os.fsync(new.fileno())
            disk.cut()
            union.crash()
    finally:
        disk.unmount()
    with disk.mounted() as top:
        found = {path.name: path.read_bytes() for path in (top / "upper").iterdir()}
        assert found, "nothing at all had reached the disk, so nothing was shown"
        torn = [name for name, data in found.items() if data != old[name]]
        assert torn == []


METACOPY = "trusted.overlay.metacopy"


@pytest.mark.parametrize("change", ["chmod", "rename"])
def test_metacopies_survive_whole_without_a_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """The inode of each was written while the file was empty, and later the directory was."""
    require_root()
    ftruncate, fsync, write_mark = os.ftruncate, os.fsync, set_mark

    def early(fd: int, size: int) -> None:
        fsync(fd)
        ftruncate(fd, size)

    def early_mark(place: Place, attribute: str, value: bytes) -> None:
        folder, name = place
        if name is not None:
            fd = os.open(name, os.O_RDONLY, dir_fd=folder)
            fsync(fd)
            os.close(fd)
        write_mark(place, attribute, value)

    disk, names = Disk(tmp_path, "no journal"), [f"f{n:02}" for n in range(30)]
    with disk.mounted() as top:
        content = {name: f"content of {name} " * 300 for name in names}
        layers = Layers(top / "layers", content | {f"new-{name}": "another" for name in names})
        os.sync()
        with layers.union(metacopy=True, background=in_a_thread) as tree:
            monkeypatch.setattr(os, "ftruncate", early)
            monkeypatch.setattr(copy_up, "set_mark", early_mark)
            for name in names:
                if change == "chmod":
                    tree.chmod(name.encode(), 0o600)
                else:
                    tree.rename(name.encode(), f"new-{name}".encode(), 0)
            monkeypatch.undo()
            upper = os.open(layers.upper, os.O_RDONLY)
            fsync(upper)
            os.close(upper)
            monkeypatch.setattr(setup, "syncfs", lambda _fd: None)
        disk.cut()
    with disk.mounted():
        for name in names:
            there = name if change == "chmod" else f"new-{name}"
            assert METACOPY in os.listxattr(layers.upper / there)
            assert layers.look()[there.encode()].content == content[name].encode()


def _deleted(tree: CoreDriver, name: str) -> None:
    tree.unlink(f"{name}/old".encode())
    tree.rmdir(name.encode())


def _deleted_beside_another(tree: CoreDriver, name: str) -> None:
    _deleted(tree, name)
    tree.mkdir(f"new-{name}".encode(), 0o755)


def _emptied_beside_another(tree: CoreDriver, name: str) -> None:
    tree.unlink(f"{name}/old".encode())
    tree.mkdir(f"new-{name}".encode(), 0o755)


def _moved_over(tree: CoreDriver, name: str) -> None:
    with contextlib.suppress(OSError):  # the power fails in the middle
        tree.rename(f"new-{name}".encode(), name.encode(), 0)


@dataclass(frozen=True)
class Marked:
    """A `change` of a directory that takes a mark on it, and what it is called after that.

    It shows what it did `before`, or `what` is in it then.  `settings` are those of the union.
    """

    change: Callable[[CoreDriver, str], object]
    before: Callable[[CoreDriver, str], object]
    now: str
    what: tuple[bytes, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)


MARKED = {
    "made over a whiteout": Marked(lambda t, name: t.mkdir(name.encode(), 0o755), _deleted, "", ()),
    "renamed": Marked(
        lambda t, name: t.rename(name.encode(), f"there-{name}".encode(), 0),
        lambda t, name: t.chmod(name.encode(), 0o750),
        "there-",
        (b"old",),
    ),
    "renamed over a whiteout": Marked(
        lambda t, name: t.rename(f"new-{name}".encode(), name.encode(), 0),
        _deleted_beside_another,
        "",
        (),
    ),
    "renamed over whiteouts": Marked(
        _moved_over,
        _emptied_beside_another,
        "",
        (),
    ),
    "emptied": Marked(
        lambda t, name: t.unlink(f"{name}/old".encode()),
        lambda t, name: t.chmod(name.encode(), 0o750),
        "",
        (),
        {"whiteout": WhiteoutForm.XATTR},
    ),
}


@pytest.mark.parametrize("way", MARKED)
@pytest.mark.parametrize("kind", ["no journal", "writeback", "xfs", "btrfs"])
def test_a_directory_keeps_the_mark_that_its_name_depends_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str, kind: str
) -> None:
    """The inode of each was written before it had the mark, and its name is on disk."""
    require_root()
    marked, names = MARKED[way], [f"d{n:02}" for n in range(30)]
    disk = Disk(tmp_path, kind)
    setxattr, rename = os.setxattr, os.rename

    def early(path: int | bytes, *words: Any, **given: Any) -> None:
        fd = os.dup(path) if isinstance(path, int) else os.open(path, os.O_RDONLY)
        os.fsync(fd)
        os.close(fd)
        setxattr(path, *words, **given)

    def no_rename(source: bytes, *words: Any, **given: Any) -> None:
        if source.startswith(b"new-"):
            raise OSError(errno.EIO, "the power fails")
        rename(source, *words, **given)

    def sync(*folders: Path) -> None:
        for folder in folders:
            fd = os.open(folder, os.O_RDONLY)
            os.fsync(fd)
            os.close(fd)

    with disk.mounted() as top:
        layers = Layers(top / "layers", {name: {"old": "of the lower"} for name in names})
        with layers.union(**marked.settings) as tree:
            for name in names:
                marked.before(tree, name)
            os.sync()
            monkeypatch.setattr(os, "setxattr", early)
            if marked.change is _moved_over:
                monkeypatch.setattr(os, "rename", no_rename)
            for name in names:
                marked.change(tree, name)
            monkeypatch.undo()
            # An fsync(2) of the directories with the marks would write these, too.
            inside = list(layers.upper.iterdir()) if way == "emptied" else []
            sync(*inside, layers.upper)
            monkeypatch.setattr(setup, "syncfs", lambda _fd: None)
        disk.cut()
    with disk.mounted():
        shown = layers.look(**marked.settings)
        wrong = {
            name: seen
            for name in names
            if (there := (marked.now + name).encode()) in shown
            and (seen := tuple(p for p in shown if p.startswith(there + b"/")))
            != tuple(there + b"/" + entry for entry in marked.what)
        }
    assert wrong == {}


def test_what_a_command_reported_as_done_is_there(tmp_path: Path) -> None:
    require_root()
    disk = Disk(tmp_path)
    disk.mount()
    try:
        pyunion = Cli(disk.top / "store", sync=True)

        def and_cut(*words: str | Path, given: bytes = b"") -> str:
            said = pyunion.ok(*map(str, words), given=given).strip()
            disk.cut()
            disk.unmount()
            disk.mount()
            return said

        def id_of(name: str) -> str:
            return pyunion.ok("inspect", "-f", "{{.Id}}", name).strip()

        source, saved = tmp_path / "source", disk.top / "saved.tar"
        source.write_bytes(os.urandom(100_000))
        base = and_cut("import", "-", "base", given=tar_of({"a": b"of the base"}))
        assert id_of("base") == base
        box = and_cut("create", "--name", "box", "base", "true")
        assert id_of("box") == box
        pyunion.ok("cp", str(source), "box:/new")
        made = and_cut("commit", "box", "made")
        assert id_of("made") == made
        and_cut("save", "-q", "-o", saved, "made")
        and_cut("rmi", "made")
        assert pyunion.ok("images", "-q", "made") == ""
        and_cut("load", "-q", "-i", saved)
        assert id_of("made") == made
        and_cut("rename", "box", "crate")
        assert id_of("crate") == box
        and_cut("volume", "create", "data")
        assert pyunion.ok("volume", "ls", "-q") == "data\n"

        context = tmp_path / "context"
        context.mkdir()
        (context / "Dockerfile").write_text("FROM base\nCOPY new /\nCOPY new /second\n")
        (context / "new").write_bytes(source.read_bytes())
        built = and_cut("build", "-q", "-t", "built", str(context))
        assert id_of("built") == built
        pyunion.ok("create", "--name", "of-built", "built", "true")
        pyunion.ok("cp", "of-built:/second", str(tmp_path / "second"))
        assert (tmp_path / "second").read_bytes() == source.read_bytes()

        pyunion.ok("create", "--name", "again", "made", "true")
        pyunion.ok("cp", "again:/new", str(tmp_path / "copied"))
        assert (tmp_path / "copied").read_bytes() == source.read_bytes()
        pyunion.ok("check", "-q")
    finally:
        disk.unmount()


CREATE = """
import os, sys
from pathlib import Path
from layerstore import Store
store = Store.open(Path(sys.argv[1]))
image = store.images.resolve("base")
if sys.argv[2] == "run":
    store.containers.create(image, auto_remove=True, durable=False)
else:
    store.containers.create_on(image.top, name="stage", image=image.id, image_name="", config={})
store.durability.directory(store.containers.path)
os._exit(0)  # as a killed process, without the last sync of a database that is closed
"""


@pytest.mark.parametrize("whose", ["run", "build"])
def test_a_container_that_was_not_synced_leaves_nothing(tmp_path: Path, whose: str) -> None:
    """Its directory reached the disk, and its row did not: the lease on it has to."""
    require_root()
    disk = Disk(tmp_path)
    disk.mount()
    try:
        root = disk.top / "store"
        with Store.open(root) as store:
            add_image(store, {"a": b"1"}, names=("base",))
        os.sync()
        run(sys.executable, "-c", CREATE, str(root), whose, env=helper_environment())
        assert len(os.listdir(root / "containers")) == 1
        disk.cut()
        disk.unmount()
        disk.mount()
        with Store.open(root) as store:
            assert [finding.problem for finding in check(store)] == []
            assert os.listdir(store.containers.path) == []
    finally:
        disk.unmount()
