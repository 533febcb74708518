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
from dataclasses import dataclass, field
from typing import NoReturn

from mount_tools.id_maps import parse_id, parse_id_map
from mount_tools.option_grammar import OptionError, Word, shortened, split_layers, unescaped, words
from mount_tools.option_names import IGNORED, REFUSED, TUNING, VFS_FLAGS, is_ignored
from unionfs.core.config import IdRange, RedirectDir, UnionConfig, WhiteoutForm
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


@dataclass
class _Draft:
    """The options read so far."""

    allow_other: bool
    lowers: list[str] = field(default_factory=list)
    data: list[str] = field(default_factory=list)
    upper: str | None = None
    work: str | None = None
    flags: int = 0
    userxattr: bool | None = None
    whiteout: WhiteoutForm = WhiteoutForm.AUTO
    redirect_dir: RedirectDir = RedirectDir.ON
    metacopy: bool = False
    index: bool = True
    volatile: bool = False
    timeout: float | None = None
    uid_map: tuple[IdRange, ...] = ()
    gid_map: tuple[IdRange, ...] = ()
    squash_uid: int | None = None
    squash_gid: int | None = None
    fsname: str | None = None
    selinux: dict[str, str] = field(default_factory=dict)
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
        if self.container is not None and not of_image:
            raise OptionError("container= goes with the name of an image, not with lowerdir=")
        if not self.lowers and not of_image:
            raise OptionError("there is no layer to mount; give lowerdir=DIR[:DIR…]")
        count = len(self.lowers) + len(self.data)
        if count > MAX_LAYERS:
            raise OptionError(
                f"{count} lower layers are too many; at most {MAX_LAYERS} can be stacked"
            )
        if (self.upper is None) != (self.work is None):
            given, missing = (
                ("upperdir", "workdir") if self.work is None else ("workdir", "upperdir")
            )
            raise OptionError(
                f"{given}= was given without {missing}=; a writable mount needs both, "
                f"on the same filesystem"
            )
        transport = self.transport
        if self.io_uring == "on":
            if transport == "pyfuse3":
                raise OptionError("io_uring=on needs transport=dev_fuse; libfuse cannot use it")
            transport = "dev_fuse"
        # Without an upper nothing can be written, and mount(8) is to say so too.
        writable = self.upper is not None or of_image
        flags = self.flags | (0 if writable else MS_RDONLY)
        return MountOptions(
            union=UnionConfig(
                lowers=tuple(map(os.fsencode, self.lowers)),
                data=tuple(map(os.fsencode, self.data)),
                upper=None if self.upper is None else os.fsencode(self.upper),
                work=None if self.work is None else os.fsencode(self.work),
                read_only=bool(flags & MS_RDONLY),
                userxattr=self.userxattr,
                whiteout=self.whiteout,
                redirect_dir=self.redirect_dir,
                metacopy=self.metacopy,
                index=self.index,
                volatile=self.volatile,
                timeout=self.timeout,
                uid_map=self.uid_map,
                gid_map=self.gid_map,
                squash_uid=self.squash_uid,
                squash_gid=self.squash_gid,
            ),
            flags=flags,
            fsname=self.fsname,
            allow_other=self.allow_other,
            selinux=tuple(self.selinux.values()),
            acl=self.acl,
            xattrs=self.xattrs,
            transport=transport,
            io_uring=self.io_uring,
            passthrough=self.passthrough,
            foreground=self.foreground,
            debug=self.debug,
            log=self.log,
            control=self.control,
            container=self.container,
        )


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
    draft.squash_uid = draft.squash_gid = 0


def _userxattr(draft: _Draft, word: Word) -> None:
    _no_value(word)
    draft.userxattr = True


def _fsync(draft: _Draft, word: Word) -> None:
    draft.volatile = _choice(word, ("0", "1")) == "0"


def _set_text(attribute: str) -> _Handler:
    return lambda draft, word: setattr(draft, attribute, _text(word))


def _set_flag(attribute: str, value: bool = True) -> _Handler:
    def handle(draft: _Draft, word: Word) -> None:
        _no_value(word)
        setattr(draft, attribute, value)

    return handle


def _set_switch(attribute: str, on: str = "on", off: str = "off") -> _Handler:
    return lambda draft, word: setattr(draft, attribute, _choice(word, (on, off)) == on)


def _selinux(draft: _Draft, word: Word) -> None:
    draft.selinux[word.name] = f'{word.name}="{_text(word)}"'


_HANDLERS: dict[str, _Handler] = {
    "lowerdir": _lowerdir,
    "lowerdir+": _lowerdir_add,
    "datadir+": _datadir_add,
    "upperdir": _set_text("upper"),
    "workdir": _set_text("work"),
    "userxattr": _userxattr,
    "redirect_dir": lambda draft, word: setattr(
        draft, "redirect_dir", RedirectDir(_choice(word, [r.value for r in RedirectDir]))
    ),
    "whiteout": lambda draft, word: setattr(
        draft, "whiteout", WhiteoutForm(_choice(word, [w.value for w in WhiteoutForm]))
    ),
    "metacopy": _set_switch("metacopy"),
    "index": _set_switch("index"),
    "volatile": _set_flag("volatile"),
    "fsync": _fsync,
    "timeout": lambda draft, word: setattr(draft, "timeout", _seconds(word)),
    "uidmapping": lambda draft, word: setattr(draft, "uid_map", parse_id_map(word)),
    "gidmapping": lambda draft, word: setattr(draft, "gid_map", parse_id_map(word)),
    "squash_to_root": _squash_to_root,
    "squash_to_uid": lambda draft, word: setattr(draft, "squash_uid", parse_id(word)),
    "squash_to_gid": lambda draft, word: setattr(draft, "squash_gid", parse_id(word)),
    "noacl": _set_flag("acl", False),
    "noxattrs": _set_switch("xattrs", on="0", off="1"),
    "context": _selinux,
    "fscontext": _selinux,
    "defcontext": _selinux,
    "rootcontext": _selinux,
    "allow_other": _set_flag("allow_other"),
    "fsname": _set_text("fsname"),
    "transport": lambda draft, word: setattr(draft, "transport", _choice(word, TRANSPORTS)),
    "io_uring": lambda draft, word: setattr(draft, "io_uring", _choice(word, IO_URING)),
    "passthrough": _set_switch("passthrough"),
    "foreground": _set_flag("foreground"),
    "debug": _set_flag("debug"),
    "log": _set_text("log"),
    "control": _set_text("control"),
    "container": _set_text("container"),
}

KNOWN = frozenset(_HANDLERS) | frozenset(VFS_FLAGS) | frozenset(REFUSED) | TUNING | IGNORED


def _unknown(word: Word) -> NoReturn:
    import difflib  # only here, where its import costs nobody who mounts

    near = difflib.get_close_matches(word.name, sorted(KNOWN), n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "; --help lists what there is"
    raise OptionError(f"unknown option {shortened(word.name)!r}{hint}")
