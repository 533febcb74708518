"""The workloads, in the order in which they are run and shown."""

from __future__ import annotations

from benchmarks.workload import Workload
from benchmarks.workloads import (
    archives,
    chroot,
    copy_up,
    data,
    depth,
    memory,
    mounting,
    names,
    repository,
    walks,
)

WORKLOADS: tuple[Workload, ...] = (
    *names.WORKLOADS,
    *walks.WORKLOADS,
    *archives.WORKLOADS,
    *copy_up.WORKLOADS,
    *repository.WORKLOADS,
    *data.WORKLOADS,
    *chroot.WORKLOADS,
    *depth.WORKLOADS,
    *mounting.WORKLOADS,
    *memory.WORKLOADS,
)
