"""How the mounts of a container are written: `-v`, `--mount` and `--tmpfs`.

Decided here and only here: which words these flags take, and what they mean.  `-v` is
`SOURCE:TARGET[:MODE]` or `TARGET` alone.  A SOURCE with a slash, dot or tilde at its
beginning is a path of the host; any other is the name of a volume.

Source: docker/cli `docs/reference/run.md` "VOLUME", `opts/mount.go`; moby
`volume/mounts/linux_parser.go`.
Differs from docker: a relative path of the host is one of the working directory; labels for
SELinux and words about propagation and caching are accepted without effect.
"""

from __future__ import annotations

import os
import posixpath

from layerstore.errors import InvalidArgument, InvalidReference, StoreError, shown
from layerstore.volumes import checked_name
from unionfs.light_typing import NamedTuple
from unionfs.syscalls.mount import MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_RDONLY

_READ_ONLY, _WRITABLE, _NO_COPY = "ro", "rw", "nocopy"
_WITHOUT_EFFECT = frozenset(
    ("z", "Z", "consistent", "cached", "delegated", "private", "rprivate", "slave", "rslave")
)
# What a word adds to the flags of mount(2), and takes from them.
_TMPFS_FLAGS = {
    "ro": (MS_RDONLY, 0),
    "rw": (0, MS_RDONLY),
    "exec": (0, MS_NOEXEC),
    "noexec": (MS_NOEXEC, 0),
    "suid": (0, MS_NOSUID),
    "nosuid": (MS_NOSUID, 0),
    "dev": (0, MS_NODEV),
    "nodev": (MS_NODEV, 0),
}
_MOUNT_WORDS = {
    "type": "type",
    "source": "source",
    "src": "source",
    "target": "target",
    "dst": "target",
    "destination": "target",
    "readonly": "readonly",
    "ro": "readonly",
    "volume-nocopy": "volume-nocopy",
    "tmpfs-size": "tmpfs-size",
    "tmpfs-mode": "tmpfs-mode",
}
_SWITCHES = ("readonly", "volume-nocopy")
_TRUE = ("true", "1")


class Volume(NamedTuple):
    """A directory or a file of the host, absolute, shown at `target` in the container.

    Without `devices` those in it cannot be opened: images may have filled it.
    """

    source: str
    target: str
    read_only: bool = False
    devices: bool = True

    @property
    def text(self) -> str:
        """The volume as `parse_volume` reads it."""
        return f"{self.source}:{self.target}{':ro' if self.read_only else ''}"


class StoreVolume(NamedTuple):
    """A volume of the store, shown at `target`; its `name` is "" if the user gave none.

    With `copy` it gets the content that the image has at `target` if it is empty.
    """

    name: str
    target: str
    read_only: bool = False
    copy: bool = True

    @property
    def text(self) -> str:
        """The volume as `parse_volume` reads it."""
        if not self.name:
            return self.target
        words = [_READ_ONLY] if self.read_only else []
        if not self.copy:
            words.append(_NO_COPY)
        return ":".join([self.name, self.target, *([",".join(words)] if words else [])])


class Tmpfs(NamedTuple):
    """An empty filesystem in memory at `target`, with options of mount(8)."""

    target: str
    options: str = ""

    def mount_options(self) -> tuple[int, bytes]:
        """Return the flags of mount(2), and the data for tmpfs(5)."""
        flags, data = MS_NOSUID | MS_NODEV | MS_NOEXEC, []
        for word in self.options.split(",") if self.options else ():
            if word in _TMPFS_FLAGS:
                on, off = _TMPFS_FLAGS[word]
                flags = flags & ~off | on
            else:
                data.append(word)
        return flags, ",".join(data).encode()


def parse_tmpfs(text: str) -> Tmpfs:
    """Read `TARGET[:OPTIONS]`; raises StoreError."""
    target, _, options = text.partition(":")
    return Tmpfs(checked_target(target, text), options)


def parse_mount(text: str) -> Volume | StoreVolume | Tmpfs:
    """Read `type=bind,source=…,target=…[,readonly]`, or one of type=volume or type=tmpfs.

    Raises StoreError, in docker's words where it has some.
    """
    given: dict[str, str] = {"type": "volume"}
    for word in text.split(","):
        name, equals, value = word.partition("=")
        name = _MOUNT_WORDS.get(name.lower(), "")
        if not name:
            raise InvalidArgument(
                f'invalid argument "{text}" for "--mount" flag: unexpected key {word}'
            )
        if not equals and name not in _SWITCHES:
            raise InvalidArgument(
                f'invalid argument "{text}" for "--mount" flag: invalid field \'{word}\' must be a '
                "key=value pair"
            )
        given[name] = value if equals else "true"
    kind, source = given["type"], given.get("source", "")
    if "target" not in given:
        raise InvalidArgument(f'invalid argument "{text}" for "--mount" flag: target is required')
    target = checked_target(given["target"], text)
    read_only = given.get("readonly", "false").lower() in _TRUE
    if kind == "tmpfs":
        words = [
            f"{word}={given[name]}"
            for name, word in (("tmpfs-size", "size"), ("tmpfs-mode", "mode"))
            if name in given
        ]
        return Tmpfs(target, ",".join([*(["ro"] if read_only else []), *words]))
    if kind == "volume":
        copy = given.get("volume-nocopy", "false").lower() not in _TRUE
        return StoreVolume(_volume_name(source), target, read_only, copy)
    if kind != "bind":
        raise StoreError(
            f'invalid mount config for type "{kind}": mount type unknown: there are bind, volume '
            "and tmpfs"
        )
    if not source:
        raise InvalidArgument(f'invalid argument "{text}" for "--mount" flag: source is required')
    return _bind(source, target, text, read_only=read_only)


def parse_volume(text: str) -> Volume | StoreVolume:
    """Read `SOURCE:TARGET[:MODE]`, or `TARGET` for a volume without a name.

    MODE has `ro` or `rw`, and `nocopy` for a volume.  Raises StoreError in docker's words.
    """
    source, colon, rest = text.partition(":")
    if not colon:
        return StoreVolume("", checked_target(text, text, "volume"))
    target, _, mode = rest.partition(":")
    if not target or not source:
        raise StoreError(f"invalid volume specification: '{text}'")
    of_host = source.startswith(("/", ".", "~"))
    words = mode.split(",") if mode else []
    known = {_READ_ONLY, _WRITABLE, *_WITHOUT_EFFECT, *(() if of_host else (_NO_COPY,))}
    if not known.issuperset(words) or {_READ_ONLY, _WRITABLE} <= set(words):
        raise StoreError(f"invalid mode: {mode}")
    target = checked_target(target, text, "bind" if of_host else "volume")
    if of_host:
        return _bind(source, target, text, read_only=_READ_ONLY in words)
    return StoreVolume(_volume_name(source), target, _READ_ONLY in words, _NO_COPY not in words)


def checked_target(target: str, text: str, kind: str = "bind") -> str:
    """Return a mount point in its shortest form; raises StoreError in docker's words."""
    if "\0" in target:
        raise StoreError(f"invalid volume specification: '{shown(text)}': a NUL byte is in it")
    if not target.startswith("/"):
        raise StoreError(
            f"invalid volume specification: '{text}': invalid mount config for type \"{kind}\": "
            f"invalid mount path: '{target}' mount path must be absolute"
        )
    target = posixpath.normpath("/" + target.lstrip("/"))
    if target == "/":
        raise StoreError(
            f"invalid volume specification: '{text}': invalid mount config for type \"{kind}\": "
            "invalid specification: destination can't be '/'"
        )
    return target


def _volume_name(name: str) -> str:
    try:
        return checked_name(name) if name else ""
    except InvalidReference as error:
        raise InvalidReference(
            f"{error}: for the directory {shown(name)} of the working directory write "
            f"./{shown(name)}"
        ) from None


def _bind(source: str, target: str, text: str, *, read_only: bool) -> Volume:
    source = os.path.abspath(os.path.expanduser(source))
    if ":" in source:
        raise StoreError(
            f"invalid volume specification: '{text}': {source} has a colon in its name, which "
            "separates the two paths; bind it to a directory without one first"
        )
    return Volume(source, target, read_only)
