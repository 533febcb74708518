"""Containers: made, found, believed to run only while they do, removed with all they hold."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from layerstore import Container, Store
from layerstore.db.processes import this_process
from layerstore.errors import (
    Busy,
    Conflict,
    DiskFull,
    InvalidReference,
    NoSuchContainer,
    NotFound,
)
from layerstore.operations.gc import prune_containers
from tests.helpers import children
from tests.helpers.images import add_image

A, B = {"a": b"1"}, {"b": b"22"}


@pytest.fixture
def container(store: Store) -> Container:
    return store.containers.create(add_image(store, A, B, names=["x"]), name="box")


def test_created_container_has_its_directories_and_lowers(store: Store) -> None:
    image = add_image(store, A, B)
    config: dict[str, object] = {"Cmd": ["sh"], "Env": ["A=ä"]}
    container = store.containers.create(
        image, name="box", image_name="x:1", config=json.loads(json.dumps(config)), auto_remove=True
    )
    assert container.upper.is_dir() and container.work.is_dir()
    assert (container.image, container.base, container.image_name) == (image.id, image.top, "x:1")
    assert container.config == config and container.auto_remove
    assert container.status == "created" and not container.running
    assert store.containers.lowers(container) == [
        layer.diff for layer in store.layers.chain(image.top)
    ]
    assert store.containers.get(container.id) == container


def test_root_of_the_upper_is_as_the_images(store: Store) -> None:
    image = add_image(store, A)
    (layer,) = store.layers.chain(image.top)
    layer.diff.chmod(0o711)
    upper = store.containers.create(image).upper
    assert upper.stat().st_mode & 0o7777 == 0o711


def test_container_is_found_by_name_and_by_id(store: Store, container: Container) -> None:
    for text in ("box", "/box", container.id, container.short, container.id[:5]):
        assert store.containers.resolve(text) == container
    for text in ("bo", "none", "/", ""):
        with pytest.raises(NotFound, match=f"No such container: {text}"):
            store.containers.resolve(text)


def test_name_goes_before_the_beginning_of_an_id(store: Store, container: Container) -> None:
    other = store.containers.create(store.images.resolve("x"), name=container.id[:3])
    assert store.containers.resolve(container.id[:3]) == other


def test_beginning_of_several_ids(store: Store) -> None:
    image = add_image(store)
    beginnings: set[str] = set()
    while True:
        container = store.containers.create(image)
        if container.id[0] in beginnings:
            break
        beginnings.add(container.id[0])
    with pytest.raises(InvalidReference, match="multiple IDs found with provided prefix: "):
        store.containers.resolve(container.id[0])


def test_taken_name_is_a_conflict_in_dockers_words(store: Store, container: Container) -> None:
    with pytest.raises(Conflict) as caught:
        store.containers.create(store.images.resolve("x"), name="box")
    assert str(caught.value) == (
        f'Conflict. The container name "/box" is already in use by container "{container.id}". '
        "You have to remove (or rename) that container to be able to reuse that name."
    )
    assert store.containers.strays() == []


@pytest.mark.parametrize("name", ["", "-x", "a b", "../x", "x", "a/b"])
def test_name_that_is_none(store: Store, name: str) -> None:
    with pytest.raises(InvalidReference, match="Invalid container name"):
        store.containers.create(add_image(store), name=name)


def test_container_without_a_name_gets_one(store: Store) -> None:
    image = add_image(store)
    names = {store.containers.create(image).name for _ in range(20)}
    assert len(names) == 20 and "" not in names


def test_container_of_an_image_that_went_away_is_not_made(store: Store) -> None:
    image = add_image(store, A, names=["x"])
    store.images.remove("x")
    with pytest.raises(NotFound):
        store.containers.create(image)
    assert store.containers.list() == [] and store.containers.strays() == []


def test_container_runs_while_its_process_does(store: Store, container: Container) -> None:
    with subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE) as child:
        running = store.containers.started(container, child.pid, mount_point="/mnt")
        assert running.running and running.mount_point == "/mnt" and running.started_ns
        assert [found.status for found in store.containers.list()] == ["running"]
        child.send_signal(signal.SIGKILL)
    # We wait for its end, so it runs until we record that.
    assert store.containers.get(container.id).running
    found = store.containers.finished(container, 137)
    assert (found.status, found.pid, found.mount_point) == ("exited", None, None)
    with pytest.raises(NotFound, match="there is no process"):
        store.containers.started(container, child.pid)


def killed_while_running(store: Store, container: Container) -> None:
    """Run `container` in a process that is killed with it, so that nobody records its end."""
    with subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE) as init:

        def run() -> None:
            store.containers.started(container, init.pid)
            init.kill()
            os.kill(os.getpid(), signal.SIGKILL)

        assert children.wait(children.spawn(run)) == -signal.SIGKILL


@pytest.mark.parametrize("look", ["get", "resolve", "list", "prune"])
def test_the_next_reader_records_the_end_of_a_killed_container(
    store: Store, container: Container, look: str
) -> None:
    before = time.time_ns()
    killed_while_running(store, container)
    match look:
        case "get":
            assert not store.containers.get(container.id).running
        case "resolve":
            assert not store.containers.resolve("box").running
        case "list":
            assert [found.status for found in store.containers.list()] == ["exited"]
        case _:
            assert prune_containers(store, dry_run=True).containers == [container.id]
    sql = "SELECT status, exit_code, pid, runner FROM containers"
    assert store.database.read(sql) == [("exited", 137, None, None)]
    (finished_ns,) = store.database.select(int, "SELECT finished_ns FROM containers")
    assert before <= finished_ns <= time.time_ns()
    found = store.containers.get(container.id)
    assert (found.exit_code, found.finished_ns) == (137, finished_ns)


def test_a_killed_container_does_not_run_for_rmi(store: Store, container: Container) -> None:
    killed_while_running(store, container)
    with pytest.raises(Conflict, match="being used by stopped container"):
        store.images.remove(container.image)
    assert store.containers.get(container.id).exit_code == 137


def test_an_end_noticed_after_a_restart_of_the_machine_is_unknown(
    store: Store, container: Container
) -> None:
    store.containers.started(container, os.getpid())
    start = this_process().start ^ (1 << 40)  # of another boot
    before = time.time_ns()
    found = store.containers.update(container, pid_start=start, runner_start=start)
    assert (found.status, found.exit_code) == ("exited", 255)
    assert found.finished_ns is not None and found.finished_ns >= before
    assert store.containers.get(container.id) == found


def test_a_row_written_before_runners_were_recorded(store: Store, container: Container) -> None:
    store.containers.started(container, os.getpid())
    running = store.containers.update(container, runner=None, runner_start=None)
    assert running.running
    killed_while_running(store, container)
    store.containers.update(container, runner=None, runner_start=None)
    assert store.containers.get(container.id).exit_code == 137


def test_an_end_that_cannot_be_recorded_is_shown(
    store: Store, container: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed_while_running(store, container)

    def full(*_: object) -> int:
        raise DiskFull("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(store.database, "write", full)
        assert store.containers.get(container.id).exit_code == 137
    assert store.database.read("SELECT status FROM containers") == [("running",)]
    assert store.containers.get(container.id).status == "exited"
    assert store.database.read("SELECT status FROM containers") == [("exited",)]


def test_finished_container(store: Store, container: Container) -> None:
    store.containers.started(container, os.getpid())
    found = store.containers.finished(container, 7)
    assert (found.status, found.exit_code, found.pid) == ("exited", 7, None)
    assert found.finished_ns and found.started_ns and found.finished_ns >= found.started_ns


def test_running_container_is_not_removed(store: Store, container: Container) -> None:
    store.containers.started(container, os.getpid())
    with pytest.raises(Conflict) as caught:
        store.containers.remove(container)
    assert str(caught.value) == (
        f"You cannot remove a running container {container.id}. Stop the container before "
        "attempting removal or force remove"
    )
    assert container.directory.is_dir()
    store.containers.started(container, os.getpid(), mount_point="/on\nit")
    with pytest.raises(Conflict) as caught:
        store.containers.remove(container)
    assert str(caught.value) == (
        f"You cannot remove container {container.id}, which is mounted on /on\\nit. Unmount it "
        "before attempting removal or force remove"
    )


def test_removed_container_is_gone_with_all_it_holds(store: Store, container: Container) -> None:
    (container.upper / "f").write_text("x")
    store.containers.remove(container)
    assert store.containers.list() == [] and os.listdir(store.containers.path) == []
    for use in (store.containers.remove, store.containers.get):
        with pytest.raises(NotFound):
            use(container.id if use == store.containers.get else container)  # type: ignore[arg-type]


def test_one_at_a_time_changes_a_container(store: Store, container: Container) -> None:
    def try_lock() -> None:
        lock = store.containers.lock(container, wait=False)
        with pytest.raises(Busy, match="container box is being changed"), lock:
            pass

    with store.containers.lock(container):
        children.run(try_lock)
    with store.containers.lock(container, wait=False):
        pass


def test_lock_of_a_container_removed_meanwhile(store: Store, container: Container) -> None:
    store.containers.remove(container)
    with pytest.raises(NotFound), store.containers.lock(container):
        pass


def test_directories_without_a_row_are_collected(store: Store, container: Container) -> None:
    (store.containers.path / "stray" / "upper").mkdir(parents=True)
    assert store.containers.strays() == ["stray"]
    store.containers.collect(["stray", container.id])
    assert os.listdir(store.containers.path) == [container.id]


def test_a_container_that_lost_its_directory_is_not_called_unknown(
    store: Store, container: Container
) -> None:
    shutil.rmtree(container.upper)
    with pytest.raises(NotFound, match=r"box has lost its upper, .*; `pyunion check --repair`"):
        store.containers.trees(container)
    with pytest.raises(NotFound, match="has lost its upper"):
        store.containers.lowers_to_mount(container)
    shutil.rmtree(container.directory)
    lost = r"box has lost its directory, .*; `pyunion rm box`"
    with pytest.raises(NotFound, match=lost), store.containers.lock(container):
        pass
    with pytest.raises(NotFound, match=lost):
        store.containers.trees(container)
    store.containers.remove(container)
    with pytest.raises(NoSuchContainer), store.containers.lock(container):
        pass
    with pytest.raises(NoSuchContainer):
        store.containers.trees(container)


def test_process_that_was_killed_leaves_the_lock_free(store: Store, container: Container) -> None:
    def work() -> None:
        with store.containers.lock(container):
            os.kill(os.getpid(), signal.SIGKILL)

    assert children.wait(children.spawn(work)) == -signal.SIGKILL
    with store.containers.lock(container, wait=False):
        assert Path(container.directory, "lock").exists()
