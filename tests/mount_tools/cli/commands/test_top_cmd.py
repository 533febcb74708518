"""`pyunion top`: the processes of a container, in the columns that were asked for."""

from __future__ import annotations

import os
import shutil

import pytest

from layerstore import Image
from layerstore.errors import StoreError
from mount_tools.cli.commands.top_cmd import ps, table
from tests.helpers.cli import Cli
from tests.helpers.containers import Containers


def test_a_row_for_each_process(containers: Containers) -> None:
    if shutil.which("ps") is None:
        pytest.skip("procps is not installed")
    containers.ok("run", "-d", "--name", "box", "busy:1", "sh", "-c", "sleep 1001 & sleep 1002")
    titles, *rows = containers.ok("top", "box").splitlines()
    assert titles.split() == ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]
    assert titles.startswith("UID" + " " * 17 + "PID")
    commands = {" ".join(row.split()[7:]) for row in rows}
    assert {"sleep 1001", "sleep 1002"} <= commands
    titles, *rows = containers.ok("top", "box", "-eo", "pid,args").splitlines()
    assert titles.split() == ["PID", "COMMAND"] and len(rows) == len(commands)
    for options, complaint in (
        (("-eo", "args"), "Couldn't find PID field in ps output"),
        (("--nonsense",), "ps: error: unknown gnu long option"),
    ):
        done = containers("top", "box", *options)
        assert done.returncode == 1 and complaint in done.stderr
    containers.ok("rm", "-f", "box")


def test_what_exceeds_the_titles_is_in_the_last_cell() -> None:
    lines = ["  PID CMD", "    1 sh  -c 'a   b'", "    2 other", "    3"]
    assert table(lines, [1, 3]) == [["PID", "CMD"], ["1", "sh -c 'a b'"], ["3", ""]]
    with pytest.raises(StoreError, match="Couldn't find PID field"):
        table([], [1])


def test_a_machine_without_ps(monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("ps") is None:
        pytest.skip("procps is not installed")
    assert any(str(os.getpid()) in line for line in ps(("-ef",), [os.getpid()]))
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(StoreError, match="is in the package procps"):
        ps(("-ef",), [1])


def test_what_does_not_run(cli: Cli, base: Image) -> None:
    with cli.store() as store:
        box = store.containers.create(base, name="box")
    assert cli.fails("top", "box") == f"Error: Container {box.id} is not running\n"
