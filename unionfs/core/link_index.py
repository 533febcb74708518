"""The index, which keeps the hard links of a lower file one file after copy_up.

`<workdir>/index/<hex of the origin mark>` is a hard link of the upper inode, so
every other lower name of the same inode leads to it, even after a remount.
Its mark `overlay.nlink` says how the union's link count differs from the
upper inode's own.  If the inode cannot carry a mark, a separate file next to the entry
has it, and the name of the entry is the origin.  overlayfs has no such file, and no
index if the marks are in user.*.

Source: overlayfs.rst "Index"; fs/overlayfs/namei.c:ovl_get_index_name_fh(),
inode.c:ovl_get_nlink().
"""

from __future__ import annotations

import os
from contextlib import suppress

from unionfs.core.layer import Fd
from unionfs.core.origin import NO_UUID, lacks_uuid, with_uuid
from unionfs.core.owner_rights import upper_mark
from unionfs.core.whiteout import Marks, is_whiteout
from unionfs.light_logging import Logger
from unionfs.syscalls import xattr

log = Logger(__name__)

_HEX = b"0123456789abcdef"
_LONGEST = 9  # digits of the number of a mark
_NOTE = b".nlink"


class LinkIndex:
    """An open index directory, whose names are kept in memory.

    `used` are the entries through which a lookup reached a file by a name that the upper
    may not have.  A freeze requires that there are none.

    `uuid` is that of the filesystem of all lowers, or zeros.  Entries that were made where
    it could not be asked for get it now, as lookups and overlayfs expect it in their names.
    """

    def __init__(self, fd: Fd, marks: Marks, uuid: bytes = NO_UUID) -> None:
        self.fd = fd
        self._marks = marks
        found = os.listdir(b"/proc/self/fd/%d" % fd)
        self._names = {name for name in found if _is_entry(name)}
        if uuid != NO_UUID:
            self._complete(uuid)
        self._by_ino: dict[int, bytes] | None = None
        self.used = set(self._names)
        for name in found:
            if name.endswith(_NOTE) and name.removesuffix(_NOTE) not in self._names:
                os.unlink(name, dir_fd=fd)  # of a copy_up that a crash interrupted

    def _complete(self, uuid: bytes) -> None:
        """Give the entries without a uuid `uuid`; after a crash the next mount does the rest."""
        for name in [name for name in self._names if lacks_uuid(bytes.fromhex(name.decode()))]:
            origin = with_uuid(bytes.fromhex(name.decode()), uuid)
            entry = entry_name(origin)
            if entry in self._names:
                continue
            try:
                self._rename(name, entry, origin)
            except OSError as error:
                log.warning("the entry %r of the index keeps its name: %s", name, error.strerror)

    def _rename(self, name: bytes, entry: bytes, origin: bytes) -> None:
        if self._marks.can_carry(os.lstat(name, dir_fd=self.fd).st_mode):
            mark, path = self._marks.origin, xattr.at(self.fd, name)
            os.setxattr(path, mark, origin, follow_symlinks=False)
        with suppress(FileNotFoundError):
            os.rename(name + _NOTE, entry + _NOTE, src_dir_fd=self.fd, dst_dir_fd=self.fd)
        os.rename(name, entry, src_dir_fd=self.fd, dst_dir_fd=self.fd)
        self._names.remove(name)
        self._names.add(entry)

    def __bool__(self) -> bool:
        return bool(self._names)

    def find(self, name: bytes) -> os.stat_result | None:
        """Return the attributes of the entry `name`, None if there is none."""
        if name not in self._names:
            return None
        try:
            st = os.stat(name, dir_fd=self.fd, follow_symlinks=False)
        except FileNotFoundError:
            self._names.discard(name)
            return None
        return None if is_whiteout(st) else st

    def entry_of(self, dir_fd: int, name: bytes | None, st: os.stat_result) -> bytes | None:
        """Return the entry of the upper file `name` in `dir_fd`, None if it has none.

        With `name` None it is that of the file `dir_fd`.
        """
        if not self._names:
            return None
        if not self._marks.can_carry(st.st_mode):
            return self._inos().get(st.st_ino)
        origin = upper_mark(dir_fd, name, self._marks.origin.encode())
        entry = None if origin is None else entry_name(origin)
        return entry if entry in self._names else None

    def _inos(self) -> dict[int, bytes]:
        if self._by_ino is None:
            self._by_ino = {}
            for name in self._names.copy():
                st = self.find(name)
                if st is not None:
                    self._by_ino[st.st_ino] = name
        return self._by_ino

    def add(self, name: bytes, ino: int) -> None:
        """Note that the entry `name`, with the inode number `ino`, was made."""
        self._names.add(name)
        self.used.add(name)
        if self._by_ino is not None:
            self._by_ino[ino] = name

    def delta(self, name: bytes, st: os.stat_result) -> int:
        """Return the union's link count minus that of the entry `name`, whose stat is `st`."""
        bearer = name if self._marks.can_carry(st.st_mode) else name + _NOTE
        value = None
        with suppress(FileNotFoundError):
            value = upper_mark(self.fd, bearer, self._marks.nlink.encode())
        return 0 if value is None else decode_delta(value, st.st_nlink)

    def note_delta(self, name: bytes, delta: int) -> None:
        """Store the `delta` of an entry that cannot carry the mark, before or after it is made."""
        flags = os.O_CREAT | os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        note = Fd(os.open(name + _NOTE, flags, 0o600, dir_fd=self.fd))
        os.setxattr(note, self._marks.nlink, encode_delta(delta))

    def remove(self, name: bytes) -> bool:
        """Remove the entry `name` of a file that has no name left; tell whether there was one."""
        if name not in self._names:
            return False
        self._names.discard(name)
        self.used.discard(name)
        if self._by_ino is not None:
            self._by_ino = {ino: entry for ino, entry in self._by_ino.items() if entry != name}
        os.unlink(name, dir_fd=self.fd)
        with suppress(FileNotFoundError):
            os.unlink(name + _NOTE, dir_fd=self.fd)
        return True


def entry_name(origin: bytes) -> bytes:
    """Return the name of the index entry for the origin mark of a lower inode."""
    return origin.hex().encode()


def _is_entry(name: bytes) -> bool:
    return bool(name) and len(name) % 2 == 0 and not name.strip(_HEX)


def encode_delta(delta: int) -> bytes:
    """Return the value of `overlay.nlink` if the union has `delta` more links than the upper."""
    return b"U%+d" % delta


def decode_delta(value: bytes, upper_nlink: int) -> int:
    """Return the number that `overlay.nlink` adds to `upper_nlink`; 0 for an invalid value.

    overlayfs writes the form that is relative to the lower inode (`L`) only until its
    copy_up is complete.
    """
    number = value.rstrip(b"\0").removeprefix(b"U")
    digits = number[1:]
    if (
        value[:1] != b"U"
        or number[:1] not in (b"+", b"-")
        or not digits.isdigit()
        or len(digits) > _LONGEST
        or upper_nlink + int(number) < 1
    ):
        log.warning("the mark overlay.nlink has the value %r, which is ignored", value)
        return 0
    return int(number)
