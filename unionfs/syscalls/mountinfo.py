"""The mount table, /proc/self/mountinfo, which lists mounts without accessing them.

Source: proc_pid_mountinfo(5); fs/seq_file.c:mangle_path(), seq_escape_str().
"""

from __future__ import annotations

from collections.abc import Callable

from unionfs.light_typing import NamedTuple


class Mount(NamedTuple):
    """One line of the table, with its octal escapes decoded.

    `device` is MAJOR:MINOR.  `root` is the path in the filesystem that is
    mounted on `mount_point`.  `options` are those of the mount, `super_options` those of
    the filesystem, of which a value may contain a comma.
    """

    mount_id: int
    parent_id: int
    device: str
    root: bytes
    mount_point: bytes
    options: tuple[bytes, ...]
    fs_type: bytes
    source: bytes
    super_options: tuple[bytes, ...]


def read_mounts(
    path: str = "/proc/self/mountinfo", *, of_type: Callable[[bytes], bool] | None = None
) -> list[Mount]:
    """Return the mounts in the table `path`, in its order: a later one covers an earlier one.

    With `of_type` only those of filesystems whose type it accepts.  The rest is not parsed,
    since a machine with many containers has a long table.  Raises the `OSError` of reading it.
    """
    lines = _lines(path)
    if of_type is not None:
        types = (line.partition(b" - ")[2].partition(b" ")[0] for line in lines)
        lines = [line for line, fs_type in zip(lines, types, strict=True) if of_type(fs_type)]
    return [parse_mount(line) for line in lines]


def read_points(path: str = "/proc/self/mountinfo") -> dict[int, tuple[bytes, bytes]]:
    """Return the mount point of each mount, and its line for `parse_mount`, by its id.

    Raises the `OSError` of reading the table.
    """
    found = {}
    for line in _lines(path):
        number, _, _, _, point, _ = line.split(b" ", 5)
        found[int(number)] = _unescaped(point), line
    return found


def device_on(mount_point: bytes, path: str = "/proc/self/mountinfo") -> str | None:
    """Return MAJOR:MINOR of the topmost mount on `mount_point`, None if there is none.

    Raises the `OSError` of reading the table.
    """
    for line in reversed(_lines(path)):
        _, _, device, _, point, _ = line.split(b" ", 5)
        if _unescaped(point) == mount_point:
            return device.decode()
    return None


def _lines(path: str) -> list[bytes]:
    with open(path, "rb") as table:
        return table.read().splitlines()


def parse_mount(line: bytes) -> Mount:
    """Parse one line of mountinfo."""
    head, _, tail = line.partition(b" - ")
    fields = head.split(b" ")
    fs_type, source, super_options = [*tail.split(b" "), b"", b""][:3]
    return Mount(
        int(fields[0]),
        int(fields[1]),
        fields[2].decode(),
        _unescaped(fields[3]),
        _unescaped(fields[4]),
        tuple(map(_unescaped, fields[5].split(b","))),
        _unescaped(fs_type),
        _unescaped(source),
        tuple(map(_unescaped, super_options.split(b","))),
    )


def _unescaped(field: bytes) -> bytes:
    if b"\\" not in field:
        return field
    first, *parts = field.split(b"\\")
    return first + b"".join(map(_character, parts))


def _character(part: bytes) -> bytes:
    """Return what follows a backslash, the digits of a character replaced by it."""
    digits = part[:3]
    if len(digits) < 3 or digits.strip(b"01234567"):
        return b"\\" + part
    return bytes([int(digits, 8) & 0xFF]) + part[3:]
