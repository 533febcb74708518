"""Data: fio reading a file of a lower and writing a new one, in order and at random.

Buffered, as programs do it: what is compared is the way to the page cache, not
the disk.  The lower file is in the page cache where a subject can keep it there.
"""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.cell import Cell, Wrong
from benchmarks.layers import IO_FILE, Stack, large_file
from benchmarks.scale import Scale
from benchmarks.workload import Row, Step, Workload

_NEW = "new.bin"
_AT_RANDOM = 1 / 8


def _layers(where: Path, scale: Scale) -> Stack:
    return large_file(where, scale.io_mib)


def _fio(cell: Cell, mode: str, name: str, *, block: str, times: float = 1) -> float:
    """Return the milliseconds that fio's job took, for `times` as many bytes as the file has."""
    size = cell.scale.io_mib << 20
    moved = int(size * times)
    printed = cell.run(
        *("fio", "--output-format=json", f"--name={mode}", f"--rw={mode}", f"--bs={block}"),
        *(f"--filename={cell.root / name}", f"--size={size}", f"--io_size={moved}"),
        *("--ioengine=psync", "--invalidate=0", "--fallocate=none", "--randrepeat=1"),
        *("--norandommap", "--allow_file_create=1", "--group_reporting"),
    )
    side = "read" if "read" in mode else "write"
    job = json.loads(printed[printed.index("{") :])["jobs"][0]
    if job["error"] or job[side]["io_bytes"] != moved:
        raise Wrong(f"fio moved {job[side]['io_bytes']} bytes, error {job['error']}")
    # The runtime is in whole ms; sums of latencies leave out fio's own part.
    return float(job[side]["lat_ns"]["mean"]) * int(job[side]["total_ios"]) / 1e6


def _read(cell: Cell) -> float:
    cell.warm_layers()
    _fio(cell, "read", IO_FILE, block="1M")
    return _fio(cell, "read", IO_FILE, block="1M", times=2)


def _read_at_random(cell: Cell) -> float:
    return _fio(cell, "randread", IO_FILE, block="4k", times=_AT_RANDOM)


def _write(cell: Cell) -> float:
    return _fio(cell, "write", _NEW, block="1M")


def _write_at_random(cell: Cell) -> float:
    return _fio(cell, "randwrite", _NEW, block="4k", times=_AT_RANDOM)


def _the_lower_file_is_whole(cell: Cell) -> None:
    cell.run("cmp", cell.root / IO_FILE, cell.stack.where / "1" / IO_FILE)


def _the_new_file_is_whole(cell: Cell) -> None:
    size = cell.run("stat", "-c", "%s", cell.root / _NEW).strip()
    cell.expect("size of the new file", int(size), cell.scale.io_mib << 20)


WORKLOADS = (
    Workload(
        name="io",
        prepare=_layers,
        steps=(
            Step(
                Row(
                    name="read",
                    title="sequential read",
                    how="fio, 1 MiB at a time, twice over a lower file in the page cache",
                ),
                _read,
                _the_lower_file_is_whole,
            ),
            Step(
                Row(
                    name="randread",
                    title="random read",
                    how="fio, 4 KiB at a time, of the same file, an eighth as many bytes",
                ),
                _read_at_random,
            ),
            Step(
                Row(
                    name="write",
                    title="sequential write",
                    how="fio, 1 MiB at a time, a new file; no sync",
                ),
                _write,
                _the_new_file_is_whole,
            ),
            Step(
                Row(
                    name="randwrite",
                    title="random write",
                    how="fio, 4 KiB at a time, into an eighth of the file just written; no sync",
                ),
                _write_at_random,
            ),
        ),
    ),
)
