"""Control groups: where a container's processes can be limited and frozen.

Decided here and only here: where the group of a container is made, and what is said if it
cannot be.  Root makes it in `/pyunion` of cgroup v2.  An ordinary user makes it beside the
group of the calling process, which works if systemd has delegated the group above it.

`containers/<id>/cgroup` has the path of the group, so that it can be removed at the
container's end; if its keeper was killed, the next command that sees the container removes it.
`containers/<id>/oom-killed` says that the kernel killed a process of the last run because
the group had no memory left.

Source: Documentation/admin-guide/cgroup-v2.rst, "Delegation", "No Internal Process
Constraint".
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from layerstore.errors import Busy, NotFound, StoreError
from unionfs.light_typing import TYPE_CHECKING
from unionfs.syscalls.mountinfo import read_mounts

if TYPE_CHECKING:
    from layerstore.containers.container import Container
    from layerstore.store import Store

OURSELVES = 0  # the pid that stands for the process that writes it
_OURS = "pyunion"
_RECORD = "cgroup"
_OOM = "oom-killed"
_PATIENCE = 5.0  # seconds for the kernel to freeze, thaw or empty a group
_LOOK = 0.002


class NoCgroup(StoreError):
    """No control group can be made; the text says why."""


def make_cgroup(container_id: str, controllers: Sequence[str] = ()) -> Path:
    """Return the directory of a control group for a container, with these controllers.

    Raises NoCgroup.
    """
    found = hierarchy()
    if found is None:
        raise NoCgroup("cgroup v2 is not mounted on this machine")
    top, own = found
    name = f"{_OURS}-{container_id}"
    places = [(top, top / _OURS)]
    if own is not None and own != top:
        places.append((own.parent, own.parent))
    reason = ""
    for above, parent in places:
        try:
            parent.mkdir(mode=0o755, exist_ok=True)
            for directory in dict.fromkeys((above, parent)):
                _enable(directory, controllers)
            (parent / name).mkdir(mode=0o755, exist_ok=True)
            return parent / name
        except OSError as error:
            reason = reason or f"{parent}: {error.strerror}"
    raise NoCgroup(f"no control group can be made here ({reason})")


def hierarchy() -> tuple[Path, Path | None] | None:
    """Return where cgroup v2 is mounted, and the directory of our own group, if it shows there."""
    mount = next((one for one in read_mounts() if one.fs_type == b"cgroup2"), None)
    if mount is None:
        return None
    top = Path(os.fsdecode(mount.mount_point))
    path = _path_of("self")
    root = os.fsdecode(mount.root)
    if path is None or not (path + "/").startswith(root.rstrip("/") + "/"):
        return top, None
    return top, top / path[len(root.rstrip("/")) :].lstrip("/")


def _path_of(process: int | str) -> str | None:
    with suppress(OSError), open(f"/proc/{process}/cgroup") as lines:
        for line in lines:
            if line.startswith("0::"):
                return line[3:].rstrip("\n")
    return None


def _enable(directory: Path, controllers: Sequence[str]) -> None:
    """Let the groups in `directory` have `controllers`."""
    enabled = (directory / "cgroup.subtree_control").read_text().split()
    missing = [name for name in controllers if name not in enabled]
    if not missing:
        return
    there = (directory / "cgroup.controllers").read_text().split()
    lacking = [name for name in missing if name not in there]
    if lacking:
        raise NoCgroup(
            f"cgroup v2 on this machine does not have the controllers {', '.join(lacking)} "
            f"({directory}/cgroup.controllers lists those it has; cgroup v1 is not used)"
        )
    (directory / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in missing))


def set_limits(group: Path, values: Mapping[str, str]) -> None:
    """Write `values`, by the names of files in the group.  Raises NoCgroup."""
    for name, value in values.items():
        try:
            (group / name).write_text(value)
        except FileNotFoundError:
            if name != "memory.swap.max":  # a kernel without swap has no such file
                raise NoCgroup(f"the control group {group} has no {name}") from None
        except OSError as error:
            raise NoCgroup(
                f"{name} of the control group cannot be {value}: {error.strerror}"
            ) from (None)


def enter(group: Path, pid: int) -> None:
    """Move a process, with what it forks from now on, into the group.  Raises OSError."""
    (group / "cgroup.procs").write_text(str(pid))


def processes_of(group: Path) -> set[int]:
    """Return the processes that are in the group.  Raises OSError."""
    return set(map(int, (group / "cgroup.procs").read_text().split()))


def group_of(pid: int) -> Path | None:
    """Return the group that we made and the process `pid` is in, None for any other."""
    path = _path_of(pid)
    if path is None or not os.path.basename(path).startswith(f"{_OURS}-"):
        return None
    found = hierarchy()
    if found is None:
        return None
    mounts = next(one for one in read_mounts() if one.fs_type == b"cgroup2")
    root = os.fsdecode(mounts.root).rstrip("/")
    return found[0] / path[len(root) :].lstrip("/") if path.startswith(root) else None


def freeze(group: Path) -> None:
    """Freeze what is in the group, and what enters it later.  Raises OSError."""
    (group / "cgroup.freeze").write_text("1")


def thaw(group: Path) -> None:
    """Let the processes of the group go on.  Raises OSError."""
    (group / "cgroup.freeze").write_text("0")


def is_freezing(group: Path) -> bool:
    """Tell whether the group is frozen, or about to be."""
    try:
        return (group / "cgroup.freeze").read_text().strip() == "1"
    except OSError:
        return False


def wait_until_frozen(group: Path) -> bool:
    """Wait until every process of the group stands still; False if one does not in 5 s."""
    end = time.monotonic() + _PATIENCE
    while "frozen 1" not in (group / "cgroup.events").read_text():
        if time.monotonic() > end:
            return False
        time.sleep(_LOOK)
    return True


def record(directory: Path, group: Path) -> None:
    """Record, in a container's directory, which group it has."""
    (directory / _RECORD).write_text(os.fspath(group))


def release(directory: Path, patience: float = _PATIENCE) -> None:
    """Remove the group of a container whose processes have ended, if it has one.

    Notes before that whether the kernel killed one of them for want of memory.
    """
    try:
        group = Path((directory / _RECORD).read_text())
    except OSError:
        return
    if _oom_kills(group):
        (directory / _OOM).touch()
    end = time.monotonic() + patience
    while True:
        try:
            os.rmdir(group)
        except FileNotFoundError:
            pass
        except OSError:
            if time.monotonic() < end:  # the last process is about to go
                time.sleep(_LOOK)
                continue
            return
        break
    with suppress(FileNotFoundError):
        (directory / _RECORD).unlink()


def release_ended(store: Store, container: Container) -> None:
    """Remove the group that the keeper of an ended container left, because it was killed."""
    directory = container.directory
    if container.running or not (directory / _RECORD).exists():
        return
    # The process that starts the container holds its lock: the group may be that of the next run.
    with suppress(Busy, NotFound), store.containers.lock(container, wait=False):
        if not store.containers.get(container.id).running:
            release(directory, patience=0)


def was_oom_killed(directory: Path) -> bool:
    """Tell whether the kernel killed a process of a container's last run for want of memory."""
    return (directory / _OOM).exists()


def forget_oom_kills(directory: Path) -> None:
    """Let `was_oom_killed` be about the run that begins."""
    (directory / _OOM).unlink(missing_ok=True)


def _oom_kills(group: Path) -> int:
    """Return how many processes of the group the kernel killed for want of memory."""
    with suppress(OSError, ValueError):  # there is no such file without a limit of memory
        for line in (group / "memory.events").read_text().splitlines():
            name, _, count = line.partition(" ")
            if name == "oom_kill":
                return int(count)
    return 0
