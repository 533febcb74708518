"""The processes of a container: all of them, in whatever namespace, and no other."""

from __future__ import annotations

import os
from pathlib import Path

from layerstore import Store
from layerstore.db.processes import ProcessId, process_start
from mount_tools.container.members import members
from tests.helpers.containers import Containers
from tests.helpers.mounts import wait_until
from tests.helpers.namespaces import ending_init


def words(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0").split("\0")


def test_a_container_has_its_own_and_those_of_exec(containers: Containers) -> None:
    script = "sleep 1001 & sleep 1002 & echo ready; wait"
    containers.ok("run", "-d", "--name", "box", "busy:1", "sh", "-c", script)
    containers.ok("run", "-d", "--name", "other", "busy:1", "sleep", "1003")
    containers.ok("exec", "-d", "box", "sleep", "1004")
    with Store.open(containers.store, sync=False) as store:
        init = store.containers.resolve("box").process
    assert init is not None

    def ends() -> set[str]:
        return {words(one.id.pid)[-1] for one in members(init)}

    wait_until(lambda: {"1001", "1002", "1004"} <= ends(), "the processes")
    found = members(init)
    pids = [one.id.pid for one in found]
    assert pids == sorted(pids) and init in [one.id for one in found]
    assert "1003" not in ends() and os.getpid() not in pids
    # Its pid may be that of another process by the time that it is looked at.
    assert members(init._replace(start=init.start - 1)) == []
    for name in ("box", "other"):
        containers.ok("rm", "-f", name)
    assert members(init) == []


def test_while_init_ends_nothing_of_this_machine_is_a_member() -> None:
    """What init was a child of would be stopped by `pause`, and this machine with it."""
    with ending_init() as (init, left):
        start = process_start(init)
        assert start is not None
        assert {one.id.pid for one in members(ProcessId(init, start))} <= {init, left}


def test_a_namespace_in_the_container_belongs_to_it(containers: Containers) -> None:
    script = "busybox unshare -p -f sleep 1005"
    containers.ok("run", "-d", "--privileged", "--name", "box", "busy:1", "sh", "-c", script)
    with Store.open(containers.store, sync=False) as store:
        init = store.containers.resolve("box").process
    assert init is not None
    wait_until(
        lambda: ["sleep", "1005"] in [words(one.id.pid) for one in members(init)], "the process"
    )
    containers.ok("rm", "-f", "box")
