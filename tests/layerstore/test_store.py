"""The store as a whole: where it is, how it is made and shared, what an opening puts right."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import stat
import tempfile
from pathlib import Path
from unittest.mock import Mock

import pytest

from layerstore import Store, default_root
from layerstore.archive.engine_store import parse_source
from layerstore.errors import NotFound, StoreError
from layerstore.oci.documents import DOCKER_LAYER
from layerstore.operations.check import check
from layerstore.registry.locations import Locations
from tests.helpers import children
from tests.helpers.acls import ACCESS_ACL, ACL_OF_1234, DEFAULT_ACL
from tests.helpers.as_user import NOBODY
from tests.helpers.images import add_image, add_layer, config_of, diff_id, some_digest
from tests.helpers.mounts import require_root

A, B = {"a": b"1"}, {"b": b"22"}


def test_the_root_of_the_store_can_be_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYUNION_ROOT", "/somewhere")
    assert default_root() == Path("/somewhere")
    monkeypatch.delenv("PYUNION_ROOT")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert default_root() == Path("/var/lib/pyunion")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_DATA_HOME", "/home/me/data")
    assert default_root() == Path("/home/me/data/pyunion")
    monkeypatch.setenv("HOME", "/home/me")
    for relative in ("", "data"):
        monkeypatch.setenv("XDG_DATA_HOME", relative)
        assert default_root() == Path("/home/me/.local/share/pyunion")
    monkeypatch.delenv("XDG_DATA_HOME")
    assert default_root() == Path("/home/me/.local/share/pyunion")


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container with a user that its /etc/passwd does not have."""
    for name in ("PYUNION_ROOT", "XDG_DATA_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 4322)
    monkeypatch.setattr(pwd, "getpwuid", Mock(side_effect=KeyError))
    with pytest.raises(StoreError, match=r"user 4322 has no home directory .*: set HOME"):
        default_root()
    with pytest.raises(StoreError, match="no home directory"):
        parse_source("containers-storage:x")
    assert Locations.of_user().docker == Path("/.docker")


def test_store_is_made_for_its_owner_alone(root: Path) -> None:
    before = os.umask(0)
    try:
        Store.open(root / "deep" / "store", sync=False).close()
    finally:
        os.umask(before)
    made = root / "deep" / "store"
    assert stat.S_IMODE(made.stat().st_mode) == 0o700
    assert stat.S_IMODE((made / "store.db").stat().st_mode) == 0o600
    assert sorted(os.listdir(made)) == [
        "blobs",
        "containers",
        "layers",
        "partial",
        "reserve",
        "staging",
        "store.db",
        "volumes",
    ]


def test_a_store_of_another_user_is_refused(root: Path) -> None:
    """What its rows name would be removed from the machine, for example by its leases."""
    require_root()
    (root.parent / "victim").mkdir()
    with Store.open(root, sync=False) as store:
        store.database.write(
            "INSERT INTO leases (kind, key, pid, pid_start, created_ns)"
            " VALUES ('gone', '../../victim', 0, 0, 0)"
        )
    os.chown(root, NOBODY, NOBODY)
    with pytest.raises(StoreError, match="belongs to the user"):
        Store.open(root, sync=False)
    os.chown(root, 0, 0)
    root.chmod(0o770)
    with pytest.raises(StoreError, match="may write to the store"):
        Store.open(root, sync=False)
    assert (root.parent / "victim").is_dir()


def test_a_store_is_made_in_no_directory_of_another_user(root: Path) -> None:
    require_root()
    root.mkdir()
    os.chown(root, NOBODY, NOBODY)
    with pytest.raises(StoreError, match="belongs to the user"):
        Store.open(root, sync=False)
    assert os.listdir(root) == []


def test_directory_that_was_there_is_closed_to_others(root: Path) -> None:
    root.mkdir(mode=0o755)
    Store.open(root, sync=False).close()
    assert stat.S_IMODE(root.stat().st_mode) == 0o700


@pytest.mark.parametrize("made", [False, True])
def test_a_store_inherits_no_rights_from_its_place(root: Path, made: bool) -> None:
    """They would come to all files of layers, and so to containers."""
    os.setxattr(root.parent, DEFAULT_ACL, ACL_OF_1234)
    if made:
        root.mkdir()
    with Store.open(root, create=True) as store:
        layer = add_layer(store, None, A)
    for path in (root, *root.iterdir(), layer.diff, layer.diff / "a"):
        assert not {ACCESS_ACL, DEFAULT_ACL} & set(os.listxattr(path)), path


def test_what_is_stored_is_there_again(root: Path) -> None:
    with Store.open(root) as store:  # with all syncs
        image = add_image(store, A, B, names=["x"])
    with Store.open(root, create=False) as store:
        assert store.images.resolve("x").id == image.id
        assert len(store.layers.chain(image.top)) == 2


def test_store_that_is_not_there(root: Path) -> None:
    with pytest.raises(NotFound, match=f"there is no store at {root}"):
        Store.open(root, create=False)
    assert not root.exists()


def test_place_that_cannot_hold_a_store(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"the store .* cannot be opened: "):
        Store.open(tmp_path / "file" / "store")
    with pytest.raises(StoreError, match="file is not a directory, so it cannot be a store"):
        Store.open(tmp_path / "file")


def test_directory_that_holds_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    tmp_path.chmod(0o755)
    with pytest.raises(
        StoreError, match=r"is not a store and holds other things, for example thesis\.tex"
    ):
        Store.open(tmp_path)
    assert os.listdir(tmp_path) == ["thesis.tex"] and tmp_path.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("beside", ["seccomp-filter", "file-of-a-newer-version"])
def test_store_that_lost_its_database_is_not_taken_for_a_new_one(root: Path, beside: str) -> None:
    with Store.open(root, sync=False) as store:
        image = add_image(store, A)
    (root / beside).touch()
    os.unlink(root / "store.db")
    with pytest.raises(StoreError, match=r"its store\.db is missing: restore it"):
        Store.open(root)
    assert image.top is not None and (root / "layers" / image.top.encoded).is_dir()


@pytest.mark.parametrize("lost", ["staging", "partial", "blobs", "layers", "containers", "volumes"])
def test_a_directory_that_was_lost_is_made_again(root: Path, lost: str) -> None:
    """A backup may leave out empty ones, and staging is nearly always empty."""
    with Store.open(root, sync=False) as store:
        add_image(store, A)
    shutil.rmtree(root / lost)
    with Store.open(root, sync=False) as store:
        image = add_image(store, B)
        store.containers.create(image)
        problems = [str(finding) for finding in check(store)]
    assert any("lost" in problem for problem in problems) == (lost in ("blobs", "layers"))


@pytest.mark.parametrize("name", ["layers", "blobs/sha256", "partial"])
def test_a_file_in_the_place_of_a_directory(root: Path, name: str) -> None:
    Store.open(root).close()
    (root / name).rmdir()
    (root / name).write_text("")
    with pytest.raises(StoreError, match=rf"{name} is no directory: move it away") as raised:
        Store.open(root)
    assert "\n" not in str(raised.value)


def test_a_directory_in_the_place_of_the_database(root: Path) -> None:
    Store.open(root).close()
    (root / "store.db").unlink()
    (root / "store.db").mkdir()
    with pytest.raises(StoreError, match=r"store\.db is damaged: it is no file; restore it from"):
        Store.open(root)


def test_many_that_make_the_same_store_find_it_made(root: Path) -> None:
    def work() -> None:
        with Store.open(root, sync=False) as store:
            add_image(store, A, names=[f"x:{os.getpid()}"])

    pids = [children.spawn(work) for _ in range(6)]
    assert [children.wait(pid) for pid in pids] == [0] * 6
    with Store.open(root, sync=False) as store:
        (image,) = store.images.all()
        assert len(image.tags) == 6 and os.listdir(store.staging.path) == []


def test_work_that_fails_is_undone_at_once(store: Store) -> None:
    add_image(store, A, names=["x"])
    with pytest.raises(KeyError), store.leases.lease("work", "load"):
        add_layer(store, None, B)
        store.blobs.put(b"of a load")
        raise KeyError
    assert len(store.layers.all()) == 1 and len(list(store.blobs.all())) == 1


def killed(root: Path, work: str) -> None:
    """Do `work` in a process that is killed in the midst of it."""

    def run() -> None:
        store = Store.open(root, sync=False)
        with store.leases.lease("work", work):
            if work == "layer":
                add_layer(store, None, B)
            elif work == "staged":
                with store.layers.stage() as staging:
                    (staging.diff / "f").touch()
                    os.kill(os.getpid(), signal.SIGKILL)
            elif work == "blob":
                store.blobs.put(b"of nobody")
            elif work == "container":
                store.leases.hold("container", "stray")
                (root / "containers" / "stray" / "upper").mkdir(parents=True)
            os.kill(os.getpid(), signal.SIGKILL)

    assert children.wait(children.spawn(run)) == -signal.SIGKILL


def test_what_nobody_spoke_of_is_left_alone(root: Path) -> None:
    """A database restored from a backup knows nothing of what was made since."""
    with Store.open(root, sync=False):
        (root / "containers" / "unknown" / "upper").mkdir(parents=True)
        (root / "layers" / "unknown" / "diff").mkdir(parents=True)
    killed(root, "layer")
    with Store.open(root, sync=False) as store:
        assert store.leases.all() == []
        assert store.containers.strays() == store.layers.strays() == ["unknown"]


@pytest.mark.parametrize("work", ["layer", "staged", "blob", "container"])
def test_opening_removes_what_was_cut_short(root: Path, work: str) -> None:
    with Store.open(root, sync=False) as store:
        add_image(store, A, names=["x"])
    killed(root, work)
    with Store.open(root, sync=False) as store:
        assert store.leases.all() == [] and os.listdir(store.staging.path) == []
        assert len(list(store.blobs.all())) == 1
        assert store.containers.strays() == [] and store.layers.strays() == []
        assert store.images.resolve("x").size == 1


def test_opening_removes_what_lay_beneath_a_layer_that_was_leased(root: Path) -> None:
    """The lower layers of a removed image, whose top another process still needed, go with it."""
    with Store.open(root, sync=False) as store:
        image = add_image(store, A, B, names=["x"])
        base = store.layers.chain(image.top)[-1]
        blob = store.blobs.put(b"packed")
        store.layers.archives.add(base.diff_id, blob, DOCKER_LAYER, 6)
        with store.leases.lease("work", "build"):
            assert image.top is not None and store.layers.need(image.top)
            store.images.remove("x")
        assert len(store.layers.all()) == 2
    with Store.open(root, sync=False) as store:
        assert store.layers.all() == [] and store.layers.strays() == []
        assert list(store.blobs.all()) == [] and store.leases.all() == []


def test_opening_finishes_a_commit_that_was_cut_short(root: Path) -> None:
    chain = some_digest("frozen")

    def commit() -> None:
        store = Store.open(root, sync=False)
        container = store.containers.create(add_image(store), name="box")
        location = container.directory / "layers" / "1"
        (location / "diff").mkdir(parents=True)
        (location / "diff" / "f").write_text("committed")
        with store.leases.lease("work", "commit"):
            with store.database.transaction():
                store.layers.adopt(location, None, chain, 9)
                image = store.images.add(config_of([chain]).data)
                store.images.tag(image, "committed")
                store.containers.update(container, base=chain, published=1)
            os.kill(os.getpid(), signal.SIGKILL)

    assert children.wait(children.spawn(commit)) == -signal.SIGKILL
    with Store.open(root, sync=False) as store:
        (layer,) = store.layers.chain(store.images.resolve("committed").top)
        assert layer.path == root / "layers" / chain.encoded
        assert (layer.diff / "f").read_text() == "committed"
        container = store.containers.resolve("box")
        assert store.containers.lowers(container) == [layer.diff]


def test_work_of_others_is_left_alone(root: Path) -> None:
    with Store.open(root, sync=False) as store, store.leases.lease("work", "load"):
        layer = add_layer(store, None, A)
        killed(root, "blob")
        with Store.open(root, sync=False) as other:
            assert other.layers.find(layer.chain_id) == layer
        store.images.add(config_of([diff_id(A)]).data)


def test_ordinary_user_has_a_store_of_its_own() -> None:
    def work() -> None:
        with tempfile.TemporaryDirectory() as name:
            with Store.open(Path(name) / "store") as store:
                image = add_image(store, A, B, names=["x"])
                container = store.containers.create(image, name="box")
                assert len(store.containers.lowers(container)) == 2
                assert check(store) == []
                store.containers.remove(container)
                assert len(store.images.remove("x")) == 4
            closed = Path(name) / "closed"
            closed.mkdir(mode=0)
            with pytest.raises(StoreError, match=r"cannot be opened: .*Permission denied"):
                Store.open(closed / "store")

    children.run(work, nobody=os.geteuid() == 0)
