"""Where a subject differs from a plain directory, each with its reason.

The one table: a case listed here must fail on that subject (strict), so that
an entry that outlives its reason is found.
"""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass

from tests.conformance.subjects import Variant
from tests.conformance.tree import Placement


@dataclass(frozen=True)
class Deviation:
    """Cases (patterns of `test_name` or `test_name[parameters`) a subject cannot pass.

    `subject` is a pattern as well.
    """

    subject: str
    reason: str
    cases: tuple[str, ...]
    placements: tuple[Placement, ...] = tuple(Placement)


# Where the first object of a tree lies in a lower.
IN_A_LOWER = (Placement.LOWER, Placement.DEEP, Placement.MERGED)

DEVIATIONS = (
    Deviation(
        "kernel",
        "a mapping made before copy-up keeps showing the lower file's pages",
        ("test_map_before_a_write",),
        IN_A_LOWER,
    ),
    Deviation(
        "kernel",
        "an open lower file shows the lower's link count after its last unlink",
        ("test_read_after_unlink", "test_replaced_while_open"),
        IN_A_LOWER,
    ),
    Deviation(
        "kernel",
        "an unlinked lower file is not copied up any more; index=on makes that EEXIST",
        ("test_chmod_of_an_unlinked_reader",),
        IN_A_LOWER,
    ),
    Deviation(
        "kernel",
        "a lower program that runs is truncated by the copy_up before the open fails",
        ("test_open_truncating_a_running_program",),
        IN_A_LOWER,
    ),
    Deviation(
        "kernel",
        "kernel overlayfs neither reads nor reserves AUFS's marks",
        ("test_reserved_names",),
    ),
    Deviation(
        "kernel",
        "an upper that the kernel did not mark impure lists the upper's own numbers",
        ("test_d_ino_is_st_ino", "test_scandir_agrees"),
        (Placement.MIXED,),
    ),
    Deviation(
        "pyunion.pyfuse3",
        "pyfuse3 has no FALLOCATE",
        (
            "test_fallocate_extends",
            "test_fallocate_keeping_the_size",
            "test_punch_a_hole",
            "test_zero_a_range",
        ),
    ),
    Deviation(
        "pyunion.pyfuse3",
        "pyfuse3 has no LSEEK: the kernel takes every file for one piece of data",
        ("test_seek_data_and_hole",),
    ),
    Deviation(
        "pyunion.pyfuse3",
        "pyfuse3 has no TMPFILE",
        ("test_*tmpfile_*",),
    ),
    Deviation(
        "pyunion.pyfuse3",
        "pyfuse3 does not tell who writes, so every write takes suid and sgid away",
        (
            "test_suid_is_kept_when_root_changes_the_file[*append",
            "test_suid_is_kept_when_root_changes_a_capable_file[*append",
        ),
    ),
    Deviation(
        "pyunion.pyfuse3",
        "pyfuse3 has no IOCTL",
        ("test_flags_are_set_and_read", "test_immutable_file", "test_append_only_file*"),
    ),
    Deviation(
        "pyunion.pyfuse3",
        "pyfuse3 has no STATX, and no other request tells the birth time",
        ("test_birth_time",),
    ),
)


def reason_for(item_name: str, variant: Variant) -> str | None:
    """Return why the case `item_name` (with its parameters) may not pass, or None."""
    for deviation in DEVIATIONS:
        if (
            fnmatch.fnmatchcase(variant.subject.name, deviation.subject)
            and variant.placement in deviation.placements
            and any(_covers(pattern, item_name) for pattern in deviation.cases)
        ):
            return deviation.reason
    return None


def _covers(pattern: str, item_name: str) -> bool:
    function, _, parameters = item_name.partition("[")
    wanted, _, some = pattern.partition("[")
    return fnmatch.fnmatchcase(function, wanted) and fnmatch.fnmatchcase(parameters, some + "*")
