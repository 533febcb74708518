"""The way into a container, before its first process is in its root, and after its end."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import suppress

import pytest

from layerstore import Store
from layerstore.containers.container import Container
from layerstore.db.processes import ProcessId, this_process
from layerstore.errors import StoreError
from mount_tools.container.attach_messages import Connection, Gone, Input, Taken, Watch, listen
from mount_tools.container.entrance import check_still, first_process, wait_until_entered
from mount_tools.container.members import members
from mount_tools.container.start import exec_detached
from mount_tools.container.transfer import root_of
from tests.helpers.containers import Containers
from tests.helpers.images import add_image
from tests.helpers.mounts import require_root, wait_until
from tests.helpers.namespaces import has_namespaces


@pytest.fixture
def store(empty_store: Store) -> Store:
    require_root()
    return empty_store


@pytest.fixture
def starting(store: Store) -> Container:
    """A container whose first process, this one, has the root of this machine."""
    container = store.containers.create(add_image(store, {"file": b""}), name="box")
    return store.containers.started(container, os.getpid())


def test_what_no_process_keeps_is_not_entered(store: Store, starting: Container) -> None:
    with pytest.raises(StoreError, match="cannot be entered"), root_of(store, starting):
        pass
    with pytest.raises(StoreError, match="cannot be entered"):
        exec_detached(store, starting, {"Cmd": ["true"]})


@pytest.mark.parametrize("runs", [True, False], ids=["runs", "fails"])
def test_a_start_is_waited_for(store: Store, starting: Container, runs: bool) -> None:
    errors: list[str] = []

    def enter() -> None:
        try:
            wait_until_entered(starting)
        except StoreError as error:
            errors.append(str(error))

    with listen(starting.directory) as listener:
        waiting = threading.Thread(target=enter)
        waiting.start()
        listener.setblocking(True)
        connection = Connection(listener.accept()[0])
        try:
            asked: list[object] = []
            wait_until(lambda: _take(connection, asked) == Input(b""), "the question")
            assert asked == [Watch(output=False), Input(b"")]
            assert waiting.is_alive()
            if runs:
                connection.send(Taken())
        finally:
            connection.close()
    waiting.join()
    assert bool(errors) is not runs


def _take(connection: Connection, taken: list[object]) -> object:
    with suppress(Gone):
        message = connection.receive()
        if message is not None:
            taken.append(message)
    return taken[-1] if taken else None


def test_a_pid_that_another_process_has_is_noticed(starting: Container) -> None:
    check_still(first_process(starting))
    with pytest.raises(StoreError, match="has ended"):
        check_still(ProcessId(os.getpid(), this_process().start - 1))


def test_a_container_that_ends_leads_to_nothing_of_this_machine(containers: Containers) -> None:
    """While its first process ends it has no namespaces, and is a child of the keeper."""
    containers.ok("run", "-d", "--name", "box", "busy:1", "sleep", "1001")
    containers.ok("exec", "-d", "box", "sleep", "1002")
    with Store.open(containers.store, sync=False) as store:
        box = store.containers.resolve("box")
        assert box.process is not None
        init = box.process
        inside = [one for one in members(init) if one.id != init and one.parent != init.pid]
        (command,) = inside
    os.kill(command.parent, signal.SIGSTOP)  # so that the command is not waited for
    try:
        init.send(signal.SIGKILL)
        wait_until(lambda: not has_namespaces(init.pid), "the container to end")
        assert init.alive()
        for words in (["exec", "box", "ls"], ["cp", "box:/etc", "-"], ["restore", "box", "/file"]):
            done = containers(*words)
            assert (done.returncode != 0, done.stdout) == (True, ""), done
            assert "the container has ended" in done.stderr
    finally:
        os.kill(command.parent, signal.SIGCONT)
    containers.ok("rm", "-f", "box")
