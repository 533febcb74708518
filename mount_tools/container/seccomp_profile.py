"""Profiles of seccomp: which system calls the command of a container may make.

Decided here and only here: how docker's file format becomes a filter.  The profile is the
user's, as docker's own or that of containers-common, `/usr/share/containers/seccomp.json`:
both follow the system calls that new kernels have.

Source: moby `profiles/seccomp/seccomp.go`, `seccomp_linux.go`; runc
`libcontainer/seccomp/seccomp_linux.go`.
"""

from __future__ import annotations

import errno
import json
import os
import struct
from collections.abc import Collection, Iterator

from layerstore.errors import StoreError, shown
from layerstore.given_file import read_given
from layerstore.oci.json_values import JSON, Object
from layerstore.oci.platform import this_platform
from unionfs.syscalls import seccomp
from unionfs.syscalls.seccomp import Condition, Filter, Unavailable

_LONGEST = 1 << 20  # bytes
_ACTIONS = {
    "SCMP_ACT_ALLOW": seccomp.ALLOW,
    "SCMP_ACT_LOG": seccomp.LOG,
    "SCMP_ACT_TRAP": seccomp.TRAP,
    "SCMP_ACT_KILL": seccomp.KILL_THREAD,
    "SCMP_ACT_KILL_THREAD": seccomp.KILL_THREAD,
    "SCMP_ACT_KILL_PROCESS": seccomp.KILL_PROCESS,
}


def read_profile(path: str) -> str:
    """Return the profile in the file `path`, checked, as JSON on one line.  Raises StoreError."""
    try:
        data = read_given(path, _LONGEST + 1)
    except OSError as error:
        raise StoreError(
            f"opening seccomp profile ({path}) failed: {(error.strerror or '').lower()}"
        ) from None
    if len(data) > _LONGEST:
        raise StoreError(f"the seccomp profile {path} is longer than {_LONGEST} bytes")
    try:
        text = json.dumps(json.loads(data))
    except (ValueError, RecursionError) as error:
        raise StoreError(f"Decoding seccomp profile failed: {path}: {error}") from None
    filter_of(text, frozenset())
    return text


def filter_of(text: str, held: frozenset[str], *, refused: Collection[str] = ()) -> Filter:
    """Return the filter of the profile `text` for a container with the capabilities `held`.

    These are names, as "CAP_MKNOD".  The filter does not allow the calls `refused`, whatever the
    profile says.  Raises StoreError.
    """
    try:
        return _filter(json.loads(text), held, refused)
    except Unavailable as error:
        raise StoreError(
            f"the container cannot have a seccomp profile: {error} (package libseccomp2)"
        ) from None
    except OSError as error:
        raise StoreError(f"the seccomp profile is refused: {error.strerror}") from None
    except (KeyError, TypeError, ValueError, struct.error) as error:
        raise StoreError(
            f"the seccomp profile is not one of docker's form: {type(error).__name__}: {error}"
        ) from None


def _filter(profile: JSON, held: frozenset[str], refused: Collection[str]) -> Filter:
    fields = _object(profile)
    made = Filter(_action(fields["defaultAction"], fields.get("defaultErrnoRet")))
    for name in _other_architectures(fields):
        made.add_architecture(name)
    for entry in map(_object, _list(fields.get("syscalls"))):
        if not _concerns(entry, held):
            continue
        action = _action(entry["action"], entry.get("errnoRet"))
        names = [*_list(entry.get("names")), *([entry["name"]] if entry.get("name") else [])]
        for call in map(_text, names):
            if action == seccomp.ALLOW and call in refused:
                continue
            for conditions in _alternatives(entry):
                made.add(call, action, conditions)
    return made


def _action(name: JSON, number: JSON) -> int:
    text = _text(name)
    if text == "SCMP_ACT_ERRNO":
        return seccomp.fail_with(errno.EPERM if number is None else _integer(number))
    if text not in _ACTIONS:
        raise ValueError(f"the action {shown(text)} is not supported")
    return _ACTIONS[text]


def _other_architectures(fields: Object) -> Iterator[str]:
    """Yield the names, in libseccomp's words, of those that this processor has besides its own."""
    own = f"SCMP_ARCH_{os.uname().machine.upper()}"
    for one in map(_object, _list(fields.get("archMap"))):
        if one.get("architecture") == own:
            names = _list(one.get("subArchitectures"))
            yield from (_text(name).removeprefix("SCMP_ARCH_").lower() for name in names)


def _concerns(entry: Object, held: frozenset[str]) -> bool:
    """Tell whether an entry is for this machine and a container with the capabilities `held`."""
    includes, excludes = (_object(entry.get(name) or {}) for name in ("includes", "excludes"))
    here = this_platform()[0]
    arches, caps = includes.get("arches"), {_text(one) for one in _list(includes.get("caps"))}
    kernel = includes.get("minKernel")
    if (arches and here not in _list(arches)) or not caps <= held:
        return False
    if kernel and not _is_kernel(_text(kernel)):
        return False
    kernel = excludes.get("minKernel")
    return not (
        here in _list(excludes.get("arches"))
        or {_text(one) for one in _list(excludes.get("caps"))} & held
        or (kernel and _is_kernel(_text(kernel)))
    )


def _is_kernel(least: str) -> bool:
    """Tell whether this kernel is of the version `least`, as "4.8", or a later one."""
    if not least.isascii():
        raise ValueError(f"{shown(least)} is no version of a kernel")
    own = os.uname().release.split("-")[0].split(".")
    return [int(part) for part in own[:2]] >= [int(part) for part in least.split(".")[:2]]


def _alternatives(entry: Object) -> list[list[Condition]]:
    """Return the lists of conditions; one of them has to hold as a whole."""
    found = [
        Condition(
            _integer(one["index"]),
            _text(one["op"]).removeprefix("SCMP_CMP_"),
            _integer(one["value"]),
            _integer(one.get("valueTwo") or 0),
        )
        for one in map(_object, _list(entry.get("args")))
    ]
    # Several conditions on one argument are alternatives, as runc has it.
    if len({one.argument for one in found}) < len(found):
        return [[one] for one in found]
    return [found]


def _object(value: JSON) -> Object:
    if not isinstance(value, dict):
        raise TypeError(f"{shown(str(value))} is not an object")
    return value


def _list(value: JSON) -> list[JSON]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise TypeError(f"{shown(str(value))} is not a list")
    return value


def _text(value: JSON) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{shown(str(value))} is not a text")
    return value


def _integer(value: JSON) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{shown(str(value))} is not a number")
    return value
