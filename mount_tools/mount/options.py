"""What `-o` means: words → `MountOptions`, which holds the `UnionConfig`.

Decided here and only here: the values of the options, and their defaults.  Options of
kernel overlayfs and of fuse-overlayfs keep their names (see `option_table`).  An option
that only tunes speed there is accepted and has no effect; one that would change what
users see, and that PyUnion does not implement, is refused.  If two words contradict each
other the last one wins, as in mount(8).

Source: overlayfs.rst; fuse-overlayfs(1) and its `config.rs`; mount(8)
"FILESYSTEM-INDEPENDENT MOUNT OPTIONS".
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

from mount_tools.mount.id_maps import parse_id, parse_id_map
from mount_tools.mount.mount_options import MountOptions
from mount_tools.mount.option_grammar import (
    OptionError,
    Word,
    shortened,
    split_layers,
    unescaped,
    words,
)
from mount_tools.mount.option_table import (
    IO_URING,
    PASSTHROUGH,
    REFUSED,
    SCHED,
    TRANSPORTS,
    VFS_FLAGS,
    is_ignored,
    known_names,
)
from unionfs import MAX_LOWERS, Atime, OverrideStat, RedirectDir, UnionConfig, WhiteoutForm
from unionfs.light_enum import Enum
from unionfs.light_typing import TYPE_CHECKING, TypeVar
from unionfs.syscalls.mount import (
    MS_NOATIME,
    MS_NODEV,
    MS_NOSUID,
    MS_RDONLY,
    MS_RELATIME,
    MS_STRICTATIME,
)

if TYPE_CHECKING:
    from typing import NoReturn

LAYER_OPTIONS = frozenset(("lowerdir", "lowerdir+", "upperdir", "workdir", "datadir+"))


def parse_options(
    texts: Iterable[str],
    *,
    privileged: bool,
    sloppy: bool = False,
    of_image: bool = False,
    engine: bool = False,
) -> MountOptions:
    """Return what the `-o` strings `texts` ask for; paths stay as they are written.

    A `privileged` mount is for every user (allow_other) unless it says otherwise, as any
    other filesystem that root mounts.  With `sloppy`, unknown options are ignored
    (mount -s).  If the mount is `of_image`, its layers come later and not from the options,
    and it is nosuid and nodev unless it says otherwise: images come from strangers, and a
    mount shows their set-user-ID programs to every local user.

    An `engine` may give all options of fuse-overlayfs: one that fuse-overlayfs accepts or
    ignores is no error, unless to ignore it would mount the wrong layers or skip a check of
    their contents.  An id that no map contains is stored as the overflow id.

    Raises `OptionError` with a sentence that names the option and what to do.
    """
    options = MountOptions(
        union=UnionConfig(lowers=(), overflow_ids=engine),
        allow_other=privileged,
        flags=MS_NOSUID | MS_NODEV if of_image else 0,
    )
    for text in texts:
        for word in words(text):
            options = _taken(options, word, sloppy, engine)
    return _checked(options, of_image)


def _taken(options: MountOptions, word: Word, sloppy: bool, engine: bool) -> MountOptions:
    """Return `options` with what `word` says."""
    name = word.name
    if engine and (fewer := _as_engines_mean(options, word)) is not None:
        return fewer
    if name in VFS_FLAGS:
        _no_value(word)
        on, off = VFS_FLAGS[name]
        return options._replace(flags=options.flags & ~off | on)
    if name in _UNION:
        return options._replace(union=_UNION[name](options.union, word))
    if name in _MOUNT:
        return _MOUNT[name](options, word)
    if name in REFUSED:
        refused = REFUSED[name]
        if refused.concerns(word.value):
            raise OptionError(f"option {shortened(str(word))!r} is not supported: {refused.why}")
    elif not is_ignored(name) and not sloppy:
        _unknown(word)
    return options


def _as_engines_mean(options: MountOptions, word: Word) -> MountOptions | None:
    """Return `options` after a word that only engines write; None for any other `word`."""
    name = word.name
    if name in ("uidmapping", "gidmapping") and not word.value:
        return options
    if name == "squash_to_root" and word.value == "1":
        return options._replace(union=_squash_to_root(options.union, Word(name, None)))
    refused = REFUSED.get(name)
    if refused is not None:
        if refused.to_engines or not refused.concerns(word.value):
            return None
    elif name in MEANT or is_ignored(name) or _means_layers(name):
        return None
    return options._replace(ignored=(*options.ignored, shortened(str(word))))


def _means_layers(name: str) -> bool:
    """Tell whether the unknown option `name` is probably a misspelt option about layers."""
    import difflib  # only here: a mount should not wait for its import

    return bool(difflib.get_close_matches(name, sorted(LAYER_OPTIONS), n=1, cutoff=0.8))


def _checked(options: MountOptions, of_image: bool) -> MountOptions:
    """Return the finished options; raises OptionError if they contradict each other."""
    union = options.union
    if options.container is not None and not of_image:
        raise OptionError(
            "container= needs the name of an image as SPEC and does not go together with lowerdir="
        )
    if not union.lowers and not of_image:
        raise OptionError("there is no layer to mount; give lowerdir=DIR[:DIR…]")
    count = len(union.lowers) + len(union.data)
    if count > MAX_LOWERS:
        raise OptionError(f"{count} lower layers are too many; a union has at most {MAX_LOWERS}")
    if (union.upper is None) != (union.work is None):
        given, missing = ("upperdir", "workdir")[:: -1 if union.upper is None else 1]
        raise OptionError(
            f"{given}= was given without {missing}=; a writable mount needs both, "
            f"on the same filesystem"
        )
    if options.io_uring == "on":
        if options.transport == "pyfuse3":
            raise OptionError("io_uring=on needs transport=dev_fuse; libfuse cannot use it")
        options = options._replace(transport="dev_fuse")
    if union.override is not OverrideStat.NONE:
        # The ACL of a real file would replace the mode that the attribute says.
        options = options._replace(acl=False)
    # Without an upper nothing can be written, and mount(8) should say so too.
    writable = union.upper is not None or of_image
    flags = options.flags | (0 if writable else MS_RDONLY)
    if options.no_open:
        if not flags & MS_RDONLY:
            raise OptionError("noopen is for a read-only mount; add ro or leave noopen out")
        if options.transport == "pyfuse3":
            raise OptionError("noopen needs transport=dev_fuse; pyfuse3 opens every file")
        options = options._replace(transport="dev_fuse")
    union = union._replace(read_only=bool(flags & MS_RDONLY), atime=_atime(flags))
    return options._replace(flags=flags, union=union)


def _atime(flags: int) -> Atime | None:
    if flags & MS_NOATIME:
        return Atime.NOATIME
    if flags & MS_STRICTATIME:
        return Atime.STRICTATIME
    return Atime.RELATIME if flags & MS_RELATIME else None


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
    text = _text(word)
    try:
        seconds = float(text) if text.isascii() else -1.0
    except ValueError:
        seconds = -1.0
    if not seconds >= 0:  # also catches nan
        raise OptionError(
            f"{shortened(str(word))} is not a time; give a number of seconds, 0 or more"
        )
    return None if seconds == float("inf") else seconds


_Kind = TypeVar("_Kind", bound=Enum)


def _member(word: Word, kind: type[_Kind]) -> _Kind:
    return kind(_choice(word, [member.value for member in kind]))


def _path(word: Word) -> bytes:
    return os.fsencode(_text(word))


def _flag(word: Word) -> bool:
    _no_value(word)
    return True


def _switch(word: Word, on: str = "on", off: str = "off") -> bool:
    return _choice(word, (on, off)) == on


# -- what each option with a meaning changes --


def _lowerdir(union: UnionConfig, word: Word) -> UnionConfig:
    if not word.value:
        raise OptionError("lowerdir= is empty; give at least one directory: lowerdir=DIR[:DIR…]")
    lowers, data = split_layers(word.value)
    return union._replace(
        lowers=tuple(map(os.fsencode, lowers)), data=tuple(map(os.fsencode, data))
    )


def _lowerdir_add(union: UnionConfig, word: Word) -> UnionConfig:
    if union.data:
        raise OptionError(f"{shortened(str(word))} follows data-only layers, which come last")
    return union._replace(lowers=(*union.lowers, _path(word)))


def _squash_to_root(union: UnionConfig, word: Word) -> UnionConfig:
    _no_value(word)
    return union._replace(squash_uid=0, squash_gid=0)


def _selinux(options: MountOptions, word: Word) -> MountOptions:
    others = tuple(w for w in options.selinux if not w.startswith(f"{word.name}="))
    return options._replace(selinux=(*others, f'{word.name}="{_text(word)}"'))


_UNION: dict[str, Callable[[UnionConfig, Word], UnionConfig]] = {
    "lowerdir": _lowerdir,
    "lowerdir+": _lowerdir_add,
    "datadir+": lambda u, word: u._replace(data=(*u.data, _path(word))),
    "upperdir": lambda u, word: u._replace(upper=_path(word)),
    "workdir": lambda u, word: u._replace(work=_path(word)),
    "userxattr": lambda u, word: u._replace(userxattr=_flag(word)),
    "redirect_dir": lambda u, word: u._replace(redirect_dir=_member(word, RedirectDir)),
    "whiteout": lambda u, word: u._replace(whiteout=_member(word, WhiteoutForm)),
    "metacopy": lambda u, word: u._replace(metacopy=_switch(word)),
    "index": lambda u, word: u._replace(index=_switch(word)),
    "volatile": lambda u, word: u._replace(volatile=_flag(word)),
    "fsync": lambda u, word: u._replace(volatile=_switch(word, on="0", off="1")),
    "timeout": lambda u, word: u._replace(timeout=_seconds(word)),
    "uidmapping": lambda u, word: u._replace(uid_map=parse_id_map(word)),
    "gidmapping": lambda u, word: u._replace(gid_map=parse_id_map(word)),
    "xattr_permissions": lambda u, word: u._replace(override=_member(word, OverrideStat)),
    "squash_to_root": _squash_to_root,
    "squash_to_uid": lambda u, word: u._replace(squash_uid=parse_id(word)),
    "squash_to_gid": lambda u, word: u._replace(squash_gid=parse_id(word)),
}

_MOUNT: dict[str, Callable[[MountOptions, Word], MountOptions]] = {
    "noacl": lambda o, word: o._replace(acl=not _flag(word)),
    "noxattrs": lambda o, word: o._replace(xattrs=_switch(word, on="0", off="1")),
    "context": _selinux,
    "fscontext": _selinux,
    "defcontext": _selinux,
    "rootcontext": _selinux,
    "allow_other": lambda o, word: o._replace(allow_other=_flag(word)),
    "noallow_other": lambda o, word: o._replace(allow_other=not _flag(word)),
    "fsname": lambda o, word: o._replace(fsname=_text(word)),
    "transport": lambda o, word: o._replace(transport=_choice(word, TRANSPORTS)),
    "io_uring": lambda o, word: o._replace(io_uring=_choice(word, IO_URING)),
    "passthrough": lambda o, word: o._replace(passthrough=_choice(word, PASSTHROUGH)),
    "noopen": lambda o, word: o._replace(no_open=_flag(word)),
    "sched": lambda o, word: o._replace(sched=_choice(word, SCHED)),
    "foreground": lambda o, word: o._replace(foreground=_flag(word)),
    "debug": lambda o, word: o._replace(debug=_flag(word)),
    "log": lambda o, word: o._replace(log=_text(word)),
    "control": lambda o, word: o._replace(control=_text(word)),
    "container": lambda o, word: o._replace(container=_text(word)),
}

MEANT = frozenset(_UNION) | frozenset(_MOUNT) | frozenset(VFS_FLAGS)
"""The options that have an effect."""


def _unknown(word: Word) -> NoReturn:
    import difflib  # only here: a mount should not wait for its import

    near = difflib.get_close_matches(word.name, sorted(known_names()), n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "; --help lists the options"
    raise OptionError(f"unknown option {shortened(word.name)!r}{hint}")
