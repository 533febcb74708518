"""A daemon that waits for what it is to serve: told, cancelled, abandoned, forgotten."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from layerstore import Store
from mount_tools.container.prepared_daemon import MODULES, PreparedDaemon
from mount_tools.container.root_options import root_order
from mount_tools.daemon.report import Failed
from tests.helpers.containers import Containers
from tests.helpers.mounts import DEADLINE, helper_environment


def test_the_keeper_needs_no_union_and_the_daemon_no_store() -> None:
    program = (
        "import sys\n"
        "from importlib import import_module\n"
        "for name in sys.argv[1].split(): import_module(name)\n"
        "print(*sys.modules)"
    )

    def loaded(*names: str) -> set[str]:
        command = [sys.executable, "-c", program, " ".join(names)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return set(done.stdout.split())

    keeper = loaded("mount_tools.pyunion", "mount_tools.container.run")
    assert "layerstore.store" in keeper
    assert not {"unionfs.core.union", "unionfs.transports.dev_fuse", "logging"} & keeper
    daemon = loaded("mount_tools.pyunion", *MODULES)
    assert "unionfs.core.union" in daemon
    assert not {"layerstore.store", "sqlite3", "pathlib", "datetime"} & daemon


def ended(pidfd: int) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(20_000))


def test_one_that_is_cancelled_ends_at_once() -> None:
    daemon = PreparedDaemon()
    daemon.cancel()
    daemon.release()


def test_one_that_nobody_can_tell_any_more_ends_by_itself() -> None:
    daemon = PreparedDaemon()
    orders, reading, pidfd = map(os.dup, daemon.fds)
    os.close(orders)
    daemon.release()
    assert ended(pidfd)
    os.waitpid(-1, 0)
    os.close(reading)
    os.close(pidfd)


def test_the_keeper_ends_one_that_it_has_no_use_for() -> None:
    daemon = PreparedDaemon()
    daemon.abandon()
    assert daemon.ended_within(0)
    daemon.release()
    os.waitpid(-1, 0)


def test_what_it_cannot_serve_is_reported(store: Store, tmp_path: Path) -> None:
    container = store.containers.create(store.images.resolve("box:1"), name="box")
    order = root_order(store, container)._replace(lowers=(str(tmp_path / "nosuch"),))
    daemon = PreparedDaemon()
    ours, theirs = socket.socketpair()
    with ours, theirs, open(os.devnull) as null:
        daemon.begin(order, (null.fileno(), theirs.fileno(), theirs.fileno()))
        report = daemon.report()
    assert isinstance(report, Failed) and "nosuch" in report.text
    assert daemon.ended_within(0)
    daemon.abandon()  # it was told: nothing to do
    os.waitpid(-1, 0)


@pytest.mark.parametrize("words", [("run", "--rm"), ("run", "-d", "--name", "box")])
def test_a_command_that_starts_nothing_leaves_no_daemon(
    containers: Containers, words: tuple[str, ...]
) -> None:
    done = containers(*words, "busy:1", "nosuch")
    assert done.returncode == 127
    assert containers.mine() == []


def test_the_second_container_of_a_start_has_a_daemon_too(containers: Containers) -> None:
    for name in ("one", "two"):
        containers.ok("create", "--name", name, "busy:1", "cat", "/file")
    command = containers.command("start", "one", "two")
    done = subprocess.run(command, env=helper_environment(), capture_output=True, timeout=DEADLINE)
    assert (done.returncode, done.stdout) == (0, b"one\ntwo\n")
    for name in ("one", "two"):
        assert containers.ok("wait", name) == "0"
        assert containers.ok("logs", name) == "of the image"
