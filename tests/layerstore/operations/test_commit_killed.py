"""kill -9 of a commit, or of the mount it talks to, at any moment: nothing is lost."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from layerstore import Container, Store
from layerstore.db.processes import ProcessId
from layerstore.operations.check import check
from layerstore.operations.commit import commit
from mount_tools.container.running import wait_for_end
from tests.helpers.images import add_image
from tests.helpers.mounts import DEADLINE, helper_environment, require_fuse, require_root, run
from tests.helpers.processes import ending

ROUNDS = 6
FILES = 60


def pyunion(store: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "mount_tools.pyunion", "--root", str(store), "--no-sync", *words]


def mount(store: Path, name: str, point: Path) -> Container:
    run(*pyunion(store, "mount", name, str(point)), env=helper_environment())
    with Store.open(store, sync=False) as opened:
        return opened.containers.resolve(name)


def unmount(container: Container, point: Path) -> None:
    run("umount", "-l", point, check=False)
    assert container.pid is not None
    assert wait_for_end(ProcessId(container.pid, container.pid_start or 0), 120)


@pytest.mark.parametrize("victim", ["commit", "mount", "both"])
def test_nothing_is_lost(tmp_path: Path, victim: str) -> None:
    require_root()
    require_fuse()
    path, point = tmp_path / "store", tmp_path / "point"
    point.mkdir()
    with Store.open(path, sync=False) as store:
        image = add_image(store, {"etc/motd": b"hello"}, names=["base:1"])
        store.containers.create(image, name="box", config={"Cmd": ["sh"]})
    chance = random.Random(victim)
    wanted: dict[str, str] = {}
    for number in range(ROUNDS):
        container = mount(path, "box", point)
        for file in range(FILES):
            name = f"round{number}/file{file}"
            (point / name).parent.mkdir(exist_ok=True)
            (point / name).write_text(name * 50)
            wanted[name] = name * 50
        with (point / "log").open("a") as held:
            held.write("x")
            held.flush()
            wanted["log"] = wanted.get("log", "") + "x"
            running = subprocess.Popen(
                pyunion(path, "commit", "box", f"made:{number}"),
                env=helper_environment(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            with ending(running):
                time.sleep(chance.uniform(0.2, 0.9))  # not to wait for anything: any moment will do
                if victim != "mount":
                    running.kill()
                if victim != "commit":
                    assert container.pid is not None
                    os.kill(container.pid, signal.SIGKILL)
                running.wait(DEADLINE)
            try:
                held.close()
            except OSError:
                assert victim != "commit"
        unmount(container, point)
        with Store.open(path, sync=False) as store:
            assert check(store) == []
            for tagged in store.images.list():
                assert store.layers.chain(tagged.top), "an image has all of its layers"
    container = mount(path, "box", point)
    try:
        found = {name: (point / name).read_text() for name in wanted}
    finally:
        unmount(container, point)
    assert found == wanted
    with Store.open(path, sync=False) as store:
        made = commit(store, store.containers.resolve("box")).image
        assert made.top is not None
        assert check(store) == []
