"""Freezing the upper of a mount that programs are busy on: none of them notices."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from layerstore.containers.control_client import freeze
from tests.helpers.io_uring import io_uring_enabled
from tests.helpers.layers import Layers
from tests.helpers.mounts import DEADLINE, Union, mounted_union, require_root, wait_until
from tests.helpers.processes import ending

FREEZES = 4

APPENDER = """
import os, sys
fd = os.open("log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
print("ready", flush=True)
n = 0
while not os.path.exists("stop"):
    os.write(fd, b"%d\\n" % n)
    n += 1
print(n)
"""
MAPPER = """
import mmap, os, sys
fd = os.open("mapped", os.O_RDWR | os.O_CREAT, 0o644)
os.ftruncate(fd, 4096)
view = mmap.mmap(fd, 4096)
print("ready", flush=True)
n = 0
while not os.path.exists("stop"):
    view[:8] = n.to_bytes(8, "little")
    n += 1
view.flush()
print(n - 1)
"""
SQLITE = """
import os, sqlite3
db = sqlite3.connect("database", isolation_level=None)
db.execute("PRAGMA synchronous = OFF")
db.execute("CREATE TABLE t (n INTEGER)")
print("ready", flush=True)
n = 0
while not os.path.exists("stop"):
    db.execute("INSERT INTO t VALUES (?)", (n,))
    n += 1
db.close()
print(n)
"""
MAKER = """
import os
os.makedirs("deep/er/est")
os.chdir("deep/er/est")
print("ready", flush=True)
n = 0
while not os.path.exists("../../../stop"):
    with open("tmp", "w") as file:
        file.write(str(n))
    os.rename("tmp", f"made{n % 50}")
    assert open(f"made{n % 50}").read() == str(n), n
    if n % 7 == 0:
        os.unlink(f"made{n % 50}")
    n += 1
print(n)
"""
PROGRAMS = {"appender": APPENDER, "mapper": MAPPER, "sqlite": SQLITE, "maker": MAKER}


@pytest.fixture(params=["pyfuse3", "dev_fuse", "io_uring"])
def transport(request: pytest.FixtureRequest) -> Iterator[str]:
    require_root()
    if request.param == "io_uring":
        with io_uring_enabled():
            yield "transport=dev_fuse,io_uring=on"
    elif request.param == "dev_fuse":
        yield "transport=dev_fuse,io_uring=off"
    else:
        yield "transport=pyfuse3"


def start(union: Union, program: str, stack: ExitStack) -> subprocess.Popen[str]:
    running = stack.enter_context(
        ending(
            subprocess.Popen(
                [sys.executable, "-c", program], cwd=union.root, stdout=subprocess.PIPE, text=True
            )
        )
    )
    assert running.stdout is not None
    assert running.stdout.readline() == "ready\n"
    return running


def test_programs_do_not_notice(tmp_path: Path, transport: str) -> None:
    layers = Layers(tmp_path / "layers", {"low": "lower"})
    control = layers.base / "control"
    options = (f"control={control}", transport)
    frozen = []
    with (
        mounted_union(layers.lowers, layers.upper, layers.work, options) as union,
        ExitStack() as stack,
    ):
        running = {name: start(union, program, stack) for name, program in PROGRAMS.items()}
        log = union.root / "log"
        for number in range(FREEZES):
            size = log.stat().st_size
            wait_until(lambda size=size: log.stat().st_size > size, "the appender to go on")  # type: ignore[misc]
            to = layers.base / f"frozen{number}"
            freeze(control, to)
            frozen.append(to)
        (union.root / "stop").touch()
        counts = {}
        for name, process in running.items():
            out, _ = process.communicate(timeout=DEADLINE)
            assert process.returncode == 0, name
            counts[name] = int(out)
        check(union.root, counts)
    for layer in frozen:
        lines = (layer / "log").read_bytes().split(b"\n")[:-1]
        assert lines == [b"%d" % n for n in range(len(lines))], "a prefix of what was written"
    lowers = [*reversed(frozen), *layers.lowers]
    with mounted_union(lowers, layers.upper, layers.work) as again:
        check(again.root, counts)


def check(root: Path, counts: dict[str, int]) -> None:
    log = (root / "log").read_bytes().split(b"\n")[:-1]
    assert log == [b"%d" % n for n in range(counts["appender"])]
    mapped = (root / "mapped").read_bytes()[:8]
    assert int.from_bytes(mapped, "little") == counts["mapper"]
    database = sqlite3.connect(f"file:{root}/database?mode=ro", uri=True)
    try:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        rows = database.execute("SELECT count(*), max(n) FROM t").fetchone()
    finally:
        database.close()
    assert rows == (counts["sqlite"], counts["sqlite"] - 1)
    made = root / "deep/er/est"
    assert all(int((made / name).read_text()) % 50 == int(name[4:]) for name in os.listdir(made))
