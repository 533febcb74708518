"""`RUN --mount`: its options as written, and as typed mounts once the variables are known.

This module alone decides which options a type of mount has, and their defaults.  An option
that has no effect is an error.  `type=ssh` is refused because no agent is forwarded.

Source: the Dockerfile reference, "RUN --mount"; buildkit `commands_runmount.go`,
`convert_runmount.go`, `convert_secrets.go`.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable

from layerstore.containerfile.errors import ContainerfileError, Location
from layerstore.containerfile.flags import suggestion
from layerstore.containerfile.instructions import (
    BindMount,
    CacheMount,
    Mount,
    MountFlag,
    SecretMount,
    Sharing,
    TmpfsMount,
)
from layerstore.errors import shown

_ALIASES = {"src": "source", "dst": "target", "destination": "target", "ro": "readonly"}
_ALIASES["rw"] = "readwrite"
_COMMON = frozenset(("type", "target"))
_SOME_DIRECTORY = "/d" * 64  # a relative target beneath it is not the root
_OPTIONS = {
    "bind": _COMMON | {"source", "from", "readonly", "readwrite"},
    "cache": _COMMON
    | {"id", "sharing", "source", "from", "readonly", "readwrite", "mode", "uid", "gid"},
    "tmpfs": _COMMON | {"size"},
    "secret": _COMMON | {"id", "source", "env", "required", "mode", "uid", "gid"},
}
_ALL = sorted(frozenset().union(*_OPTIONS.values()))
_TRUTHS = ("readonly", "readwrite", "required")
_TRUE = ("1", "t", "true")
_FALSE = ("0", "f", "false")
_SIZE = r"(?P<number>[0-9]{1,18})(?P<unit>[kmgt]?)i?b?"
_MOST = (1 << 32) - 1

Expand = Callable[[str], str]


def read_flag(text: str, at: Location) -> MountFlag:
    """Split `--mount=text` into its options; raises ContainerfileError."""
    import csv  # few files have such a flag

    try:
        rows = list(csv.reader([text], strict=True))
    except csv.Error as error:
        raise ContainerfileError(at, f"--mount={shown(text)} is not valid: {error}") from None
    options: list[tuple[str, str | None]] = []
    stage = ""
    for field in rows[0] if rows else []:
        name, equals, value = field.partition("=")
        name = name.lower()
        name = _ALIASES.get(name, name)
        if name not in _ALL:
            raise ContainerfileError(
                at, f"unexpected key '{shown(name)}' in '{shown(field)}'{suggestion(name, _ALL)}"
            )
        if not equals and name not in _TRUTHS:
            raise ContainerfileError(at, f"invalid field '{shown(field)}' must be a key=value pair")
        if name == "from":
            if "$" in value[:-1]:
                raise ContainerfileError(
                    at, "'from' doesn't support variable expansion, define alias stage instead"
                )
            stage = value
        options.append((name, value if equals else None))
    flag = MountFlag(text, tuple(options), stage)
    if "$" not in text:
        # Report faults before the build starts, when the working directory is not known yet.
        typed_mount(flag, at, _SOME_DIRECTORY, lambda word: word)
    return flag


def typed_mount(flag: MountFlag, at: Location, workdir: str, expand: Expand) -> Mount:
    """Return the mount that `flag` describes; a relative target is beneath `workdir`."""
    given: dict[str, str] = {}
    for name, value in flag.options:
        expanded = "true" if value is None else value if name == "from" else expand(value)
        if name == "readwrite":
            name, expanded = "readonly", "false" if _truth(at, name, expanded) else "true"
        given[name] = expanded
    kind = given.pop("type", "bind").lower()
    if kind not in _OPTIONS:
        if kind == "ssh":
            raise ContainerfileError(
                at, "mounts of type ssh are not supported: use a secret with the key"
            )
        raise ContainerfileError(
            at, f'unsupported mount type "{shown(kind)}"{suggestion(kind, list(_OPTIONS))}'
        )
    allowed = _OPTIONS[kind] | ({"readonly"} if kind == "tmpfs" else frozenset())
    for name in given:
        if name not in allowed:
            raise ContainerfileError(at, f"unexpected key '{name}' for mount type '{kind}'")
    return _TYPED[kind](given, at, workdir)


def _bind(given: dict[str, str], at: Location, workdir: str) -> Mount:
    return BindMount(
        _target(given, at, workdir),
        given.get("source", ""),
        given.get("from", ""),
        _truth(at, "readonly", given.get("readonly", "true")),
    )


def _cache(given: dict[str, str], at: Location, workdir: str) -> Mount:
    sharing = given.get("sharing", "shared").lower()
    if sharing not in ("shared", "private", "locked"):
        raise ContainerfileError(at, f'unsupported sharing value "{shown(sharing)}"')
    chosen: Sharing = "private" if sharing == "private" else "shared"
    return CacheMount(
        target=_target(given, at, workdir),
        id=given.get("id", "") or posixpath.normpath(given.get("target", "/")),
        sharing="locked" if sharing == "locked" else chosen,
        source=given.get("source", ""),
        stage=given.get("from", ""),
        read_only=_truth(at, "readonly", given.get("readonly", "false")),
        mode=_number(given, at, "mode", 0o755),
        uid=_number(given, at, "uid", 0),
        gid=_number(given, at, "gid", 0),
    )


def _tmpfs(given: dict[str, str], at: Location, workdir: str) -> Mount:
    if given.get("readonly", "false") != "false":
        raise ContainerfileError(at, "a tmpfs that is read-only would stay empty")
    text = given.get("size", "0")
    found = re.fullmatch(_SIZE, text, re.IGNORECASE)
    if found is None:
        raise ContainerfileError(at, f"invalid value for size: {shown(text)}")
    unit = found["unit"].lower()
    return TmpfsMount(
        _target(given, at, workdir),
        int(found["number"]) << (10 * (" kmgt".index(unit) if unit else 0)),
    )


def _secret(given: dict[str, str], at: Location, workdir: str) -> Mount:
    if given.get("source") and given.get("id"):
        raise ContainerfileError(at, "both source and id can't be set")
    target = given.get("target", "")
    name = given.get("source") or given.get("id") or posixpath.basename(target)
    if not name:
        raise ContainerfileError(at, "invalid secret mount. one of source, target required")
    if "env" in given and not given["env"]:
        given["env"] = name
    if not target and "env" not in given:
        target = f"/run/secrets/{posixpath.basename(name)}"
    return SecretMount(
        id=name,
        target=_below(target, at, workdir) if target else "",
        variable=given.get("env", ""),
        required=_truth(at, "required", given.get("required", "false")),
        mode=_number(given, at, "mode", 0o400),
        uid=_number(given, at, "uid", 0),
        gid=_number(given, at, "gid", 0),
    )


_TYPED: dict[str, Callable[[dict[str, str], Location, str], Mount]] = {
    "bind": _bind,
    "cache": _cache,
    "tmpfs": _tmpfs,
    "secret": _secret,
}


def _target(given: dict[str, str], at: Location, workdir: str) -> str:
    if not given.get("target"):
        raise ContainerfileError(at, "a mount needs a target: add target=PATH")
    return _below(given["target"], at, workdir)


def _below(target: str, at: Location, workdir: str) -> str:
    path = posixpath.normpath(posixpath.join("/", workdir, target)).replace("//", "/")
    if path == "/":
        raise ContainerfileError(at, f'invalid mount target "{shown(target)}"')
    return path


def _truth(at: Location, name: str, value: str) -> bool:
    if value.lower() not in _TRUE + _FALSE:
        raise ContainerfileError(at, f"invalid value for {name}: {shown(value)}")
    return value.lower() in _TRUE


def _number(given: dict[str, str], at: Location, name: str, default: int) -> int:
    value = given.get(name)
    if value is None:
        return default
    digits, base = ("01234567", 8) if name == "mode" else ("0123456789", 10)
    if not value or len(value) > 12 or value.strip(digits) or int(value, base) > _MOST:
        raise ContainerfileError(at, f"invalid value {shown(value)} for {name}")
    return int(value, base)
