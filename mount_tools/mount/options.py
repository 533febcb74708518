"""What `-o` means: words → `MountOptions`, which holds the `UnionConfig`.

Decided here and only here: the names of the options, their defaults, which are
ignored and which refused.  Options of kernel overlayfs and of fuse-overlayfs
keep their names.  One that only tunes speed there is accepted and does
nothing; one that would change what is seen, and that we cannot honour, is
refused.  The last of several words for one thing wins, as in mount(8).

Source: overlayfs.rst; fuse-overlayfs(1) and its `config.rs`; mount(8)
"FILESYSTEM-INDEPENDENT MOUNT OPTIONS".
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any, NoReturn, TypeVar

from mount_tools.mount.id_maps import parse_id, parse_id_map
from mount_tools.mount.option_grammar import (
    OptionError,
    Word,
    shortened,
    split_layers,
    unescaped,
    words,
)
from mount_tools.mount.option_names import IGNORED, REFUSED, TUNING, VFS_FLAGS, is_ignored
from unionfs import RedirectDir, UnionConfig, WhiteoutForm
from unionfs.syscalls.mount import MS_RDONLY

MAX_LAYERS = 500  # as kernel overlayfs: fs/overlayfs/params.h OVL_MAX_STACK
TRANSPORTS = ("auto", "dev_fuse", "pyfuse3")
LAYER_OPTIONS = frozenset(("lowerdir", "lowerdir+", "upperdir", "workdir", "datadir+"))
IO_URING = ("auto", "on", "off")


@dataclass(frozen=True, slots=True, kw_only=True)
class MountOptions:
    """One mount, as asked for.

    `flags` are MS_* of mount(2).  `selinux` are words such as `context="…"`,
    for the kernel where SELinux is on.  `acl` and `xattrs` say whether the
    mount offers POSIX ACLs and extended attributes at all.  `io_uring`, one of
    `IO_URING`, and `passthrough` concern dev_fuse alone.  `log` is the file to
    log to instead of syslog, `control` where to make the control socket.
    """

    union: UnionConfig
    flags: int = 0
    fsname: str | None = None
    allow_other: bool = False
    selinux: tuple[str, ...] = ()
    acl: bool = True
    xattrs: bool = True
    transport: str = "auto"
    io_uring: str = "auto"
    passthrough: bool = True
    foreground: bool = False
    debug: bool = False
    log: str | None = None
    control: str | None = None
    container: str | None = None


def parse_options(
    texts: Iterable[str], *, privileged: bool, sloppy: bool = False, of_image: bool = False
) -> MountOptions:
    """Return what the `-o` strings `texts` ask for; paths stay as they are written.

    A `privileged` mount is for every user (allow_other) unless it says
    otherwise.  With `sloppy`, unknown options are ignored (mount -s).  The layers
    `of_image` are not among the options, and come later.

    Raises `OptionError` with a sentence that names the option and what to do.
    """
    draft = _Draft(allow_other=privileged)
    for text in texts:
        for word in words(text):
            draft.take(word, sloppy)
    return draft.finish(of_image)


class _Draft:
    """The options read so far: `union` and `mount` by the names of the fields they are for."""

    def __init__(self, *, allow_other: bool) -> None:
        self.lowers: list[str] = []
        self.data: list[str] = []
        self.flags = 0
        self.selinux: dict[str, str] = {}
        self.union: dict[str, Any] = {}
        self.mount: dict[str, Any] = {"allow_other": allow_other}

    def take(self, word: Word, sloppy: bool) -> None:
        name = word.name
        if name in VFS_FLAGS:
            _no_value(word)
            on, off = VFS_FLAGS[name]
            self.flags = self.flags & ~off | on
        elif name in _HANDLERS:
            _HANDLERS[name](self, word)
        elif name in REFUSED:
            refused, why = REFUSED[name]
            if refused is None or (word.value or "on") in refused:
                raise OptionError(f"option {shortened(str(word))!r} cannot be honoured: {why}")
        elif not is_ignored(name) and not sloppy:
            _unknown(word)

    def finish(self, of_image: bool) -> MountOptions:
        if "container" in self.mount and not of_image:
            raise OptionError("container= goes with the name of an image, not with lowerdir=")
        if not self.lowers and not of_image:
            raise OptionError("there is no layer to mount; give lowerdir=DIR[:DIR…]")
        count = len(self.lowers) + len(self.data)
        if count > MAX_LAYERS:
            raise OptionError(
                f"{count} lower layers are too many; at most {MAX_LAYERS} can be stacked"
            )
        if ("upper" in self.union) != ("work" in self.union):
            given, missing = ("upperdir", "workdir")[:: 1 if "upper" in self.union else -1]
            raise OptionError(
                f"{given}= was given without {missing}=; a writable mount needs both, "
                f"on the same filesystem"
            )
        if self.mount.get("io_uring") == "on":
            if self.mount.get("transport") == "pyfuse3":
                raise OptionError("io_uring=on needs transport=dev_fuse; libfuse cannot use it")
            self.mount["transport"] = "dev_fuse"
        # Without an upper nothing can be written, and mount(8) is to say so too.
        writable = "upper" in self.union or of_image
        flags = self.flags | (0 if writable else MS_RDONLY)
        union = UnionConfig(
            lowers=tuple(map(os.fsencode, self.lowers)),
            data=tuple(map(os.fsencode, self.data)),
            read_only=bool(flags & MS_RDONLY),
            **self.union,
        )
        selinux = tuple(self.selinux.values())
        return MountOptions(union=union, flags=flags, selinux=selinux, **self.mount)


# -- values --


def _text(word: Word) -> str:
    if not word.value:
        raise OptionError(f"option {word.name!r} needs a value: {word.name}=…")
    return unescaped(word.value)


def _no_value(word: Word) -> None:
    if word.value is not None:
        raise OptionError(f"option {word.name!r} takes no value, but got {shortened(word.value)!r}")


def _choice(word: Word, choices: Iterable[str]) -> str:
    value = _text(word)
    known = list(choices)
    if value not in known:
        raise OptionError(
            f"{word.name}={shortened(value)} is not understood; it is one of {', '.join(known)}"
        )
    return value


def _seconds(word: Word) -> float | None:
    try:
        seconds = float(_text(word))
    except ValueError:
        seconds = -1.0
    if not seconds >= 0:  # also catches nan
        raise OptionError(
            f"{shortened(str(word))} is not a time; give a number of seconds, 0 or more"
        )
    return None if seconds == float("inf") else seconds


# -- one handler for each option with a meaning --

_Handler = Callable[[_Draft, Word], None]
_Kind = TypeVar("_Kind", bound=Enum)


def _lowerdir(draft: _Draft, word: Word) -> None:
    if not word.value:
        raise OptionError("lowerdir= is empty; give at least one directory: lowerdir=DIR[:DIR…]")
    draft.lowers, draft.data = split_layers(word.value)


def _lowerdir_add(draft: _Draft, word: Word) -> None:
    if draft.data:
        raise OptionError(f"{shortened(str(word))} follows data-only layers, which come last")
    draft.lowers.append(_text(word))


def _datadir_add(draft: _Draft, word: Word) -> None:
    draft.data.append(_text(word))


def _squash_to_root(draft: _Draft, word: Word) -> None:
    _no_value(word)
    draft.union |= {"squash_uid": 0, "squash_gid": 0}


def _selinux(draft: _Draft, word: Word) -> None:
    draft.selinux[word.name] = f'{word.name}="{_text(word)}"'


def _union(field: str, read: Callable[[Word], object]) -> _Handler:
    return lambda draft, word: draft.union.update({field: read(word)})


def _mount(field: str, read: Callable[[Word], object]) -> _Handler:
    return lambda draft, word: draft.mount.update({field: read(word)})


def _path(word: Word) -> bytes:
    return os.fsencode(_text(word))


def _flag(word: Word) -> bool:
    _no_value(word)
    return True


def _no(word: Word) -> bool:
    return not _flag(word)


def _switch(on: str = "on", off: str = "off") -> Callable[[Word], bool]:
    return lambda word: _choice(word, (on, off)) == on


def _one_of(choices: Iterable[str]) -> Callable[[Word], str]:
    return lambda word: _choice(word, choices)


def _member(kind: type[_Kind]) -> Callable[[Word], _Kind]:
    return lambda word: kind(_choice(word, [member.value for member in kind]))


_HANDLERS: dict[str, _Handler] = {
    "lowerdir": _lowerdir,
    "lowerdir+": _lowerdir_add,
    "datadir+": _datadir_add,
    "upperdir": _union("upper", _path),
    "workdir": _union("work", _path),
    "userxattr": _union("userxattr", _flag),
    "redirect_dir": _union("redirect_dir", _member(RedirectDir)),
    "whiteout": _union("whiteout", _member(WhiteoutForm)),
    "metacopy": _union("metacopy", _switch()),
    "index": _union("index", _switch()),
    "volatile": _union("volatile", _flag),
    "fsync": _union("volatile", _switch(on="0", off="1")),
    "timeout": _union("timeout", _seconds),
    "uidmapping": _union("uid_map", parse_id_map),
    "gidmapping": _union("gid_map", parse_id_map),
    "squash_to_root": _squash_to_root,
    "squash_to_uid": _union("squash_uid", parse_id),
    "squash_to_gid": _union("squash_gid", parse_id),
    "noacl": _mount("acl", _no),
    "noxattrs": _mount("xattrs", _switch(on="0", off="1")),
    "context": _selinux,
    "fscontext": _selinux,
    "defcontext": _selinux,
    "rootcontext": _selinux,
    "allow_other": _mount("allow_other", _flag),
    "fsname": _mount("fsname", _text),
    "transport": _mount("transport", _one_of(TRANSPORTS)),
    "io_uring": _mount("io_uring", _one_of(IO_URING)),
    "passthrough": _mount("passthrough", _switch()),
    "foreground": _mount("foreground", _flag),
    "debug": _mount("debug", _flag),
    "log": _mount("log", _text),
    "control": _mount("control", _text),
    "container": _mount("container", _text),
}

KNOWN = frozenset(_HANDLERS) | frozenset(VFS_FLAGS) | frozenset(REFUSED) | TUNING | IGNORED


def _unknown(word: Word) -> NoReturn:
    import difflib  # only here, where its import costs nobody who mounts

    near = difflib.get_close_matches(word.name, sorted(KNOWN), n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "; --help lists what there is"
    raise OptionError(f"unknown option {shortened(word.name)!r}{hint}")
