"""Which real directories of lowers are merged, and the names in them.

Decided here and only here: how far down the stack a directory is merged, and which lower
provides a name.

With hundreds of layers this is what the first lookup in a directory takes, so each real directory
is opened, asked for its marks and listed once, all in one go.

Source: overlayfs.rst "Merging directories", "whiteouts and opaque directories", "redirect_dir";
fs/overlayfs/namei.c:ovl_lookup(), readdir.c:ovl_dir_read_merged().
"""

from __future__ import annotations

import errno

from unionfs.core.config import RedirectDir
from unionfs.core.inode import LOW_SHIFT, POSITION_MASK, Dir
from unionfs.core.layer import GONE, OUT_OF_FDS, RealDir
from unionfs.core.redirect import (
    follow_beneath,
    follow_dir,
    marks_of,
    own_marks,
    split_redirect,
)
from unionfs.core.state import State
from unionfs.core.whiteout import DT_DIR, INO_SHIFT, NO_MARKS, TYPE_MASK, DirMarks, Scan, scan
from unionfs.errors import fs_error
from unionfs.light_logging import Logger

log = Logger(__name__)

# EBADF is the error of a directory that could only be opened with O_PATH.
_DENIED = (errno.EACCES, errno.EBADF)


def merge_locked(state: State, d: Dir) -> tuple[dict[bytes, int], dict[bytes, tuple[int, ...]]]:
    """Read the lowers of `d`; return the `lower` and `lower_dirs` of its `Loaded`.

    If `d` is not resolved yet, this resolves it.  The caller holds `d.lock`.  Raises EIO if a
    directory cannot be read, EACCES if that is denied, EMFILE or ENFILE if too many files are
    open, ESTALE if it is gone and layers may change, with `d` as it was.
    """
    names = _Names()
    reals, resolved = d.lowers, d.resolved
    position = 0
    while position < len(reals):
        real = reals[position]
        marks = _read(state, real, names, position, marked=resolved)
        position += 1
        if marks.opaque:
            break
        if not resolved:
            if real.layer.bottom:
                break
            if (beneath := _redirected(state, d, real, marks)) is not None:
                reals, resolved = (*reals[:position], *beneath), True
    if not d.resolved:
        _resolve(d, reals[:position])
    return names.lower, {name: tuple(places) for name, places in names.several.items()}


def resolve_locked(state: State, d: Dir) -> None:
    """Read the marks on the real directories of `d`, and decide which of them are merged.

    The caller holds `d.lock`.  Raises what `merge_locked` does.
    """
    if d.resolved:
        return
    stack: list[RealDir] = []
    for real in d.lowers:
        stack.append(real)
        try:
            found = marks_of(state.marks, real)
        except OSError as error:
            raise _unreadable(state, real, error) from error
        if found.opaque or real.layer.bottom:
            break
        if (beneath := _redirected(state, d, real, found)) is not None:
            stack += beneath
            break
    _resolve(d, tuple(stack))


class _Names:
    """The names that the lowers above a position provide, see `Loaded`.

    `closed` are those that are whited out, and directories over a file: nothing beneath shows.
    """

    __slots__ = ("closed", "lower", "several")

    def __init__(self) -> None:
        self.lower: dict[bytes, int] = {}
        self.several: dict[bytes, list[int]] = {}
        self.closed: set[bytes] = set()

    def add(self, found: Scan, position: int) -> bool:
        """Add what was found in the directory at `position`; tell whether it provides a name."""
        lower, several, closed = self.lower, self.several, self.closed
        names = found.names
        if not lower and not closed:
            self.lower, self.closed = names, found.whiteouts
            return bool(names)
        used = False
        for name, packed in names.items():
            before = lower.get(name)
            if before is None:
                if name not in closed:
                    lower[name] = packed
                    used = True
            elif before & TYPE_MASK == DT_DIR and name not in closed:
                if packed & TYPE_MASK != DT_DIR:
                    closed.add(name)
                    continue
                places = several.get(name)
                if places is None:
                    several[name] = [before >> INO_SHIFT & POSITION_MASK, position]
                else:
                    places.append(position)
                used = True
        closed |= found.whiteouts
        return used


def _read(state: State, real: RealDir, names: _Names, position: int, *, marked: bool) -> DirMarks:
    """Read the directory `real` into `names`; return its marks, AUFS's among them.

    If it is `marked`, its attributes are known and not read again.
    """
    try:
        fd = real.fd_to_list()
        marks = NO_MARKS if marked else own_marks(state.marks, real, fd)
        found = scan(
            state.marks,
            fd,
            xwhiteouts=real.xwhiteouts,
            ino_shift=LOW_SHIFT,
            place=position << INO_SHIFT,
        )
    except OSError as error:
        raise _unreadable(state, real, error) from error
    if names.add(found, position):
        # Its files are looked at by this fd, and its directories opened.
        real.keep(fd)
    return marks._replace(opaque=True) if found.opaque else marks


def _unreadable(state: State, real: RealDir, error: OSError) -> OSError:
    if error.errno in GONE and not state.layers_immutable:
        return fs_error(errno.ESTALE)  # removed since it was looked up
    code, reason = errno.EIO, error.strerror
    if error.errno in OUT_OF_FDS:
        code = error.errno or code
    elif error.errno in _DENIED:
        code = errno.EACCES
        reason = "its mode does not allow the user of the mount to list it"
    log.error("the layer directory %r cannot be read: %s", real.full_path(), reason)
    return fs_error(code)


def _resolve(d: Dir, merged: tuple[RealDir, ...]) -> None:
    d.lowers = merged
    d.merged = len(merged) + (d.upper is not None) > 1
    d.resolved = True


def _redirected(state: State, d: Dir, real: RealDir, marks: DirMarks) -> list[RealDir] | None:
    """Return what is merged beneath `real` if that has a redirect, None if it has none.

    The marks on the directories are known.
    """
    if marks.redirect is None or state.config.redirect_dir is RedirectDir.NOFOLLOW or d.parent is d:
        return None
    absolute, names = split_redirect(marks.redirect)
    if not absolute:
        parents = d.parent.lowers
        assert real.parent is not None
        beneath = parents[parents.index(real.parent) + 1 :]
        return follow_beneath(state.marks, state.lowers, beneath, names[0])
    return follow_dir(state.marks, state.lowers[real.layer.number + 1 :], names, redirects=True)
