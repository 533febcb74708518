"""A union whose layers have the owners, modes and types of files in an attribute.

Decided here and only here: what each operation does with the attribute.  What the kernel
does for a real owner and mode is done here for the stored ones: set-group-ID directories
hand on their group, chown and writing take suid, sgid and capabilities away.

Source: see `unionfs.core.override`; inode(7) "The set-group-ID bit"; chown(2);
capabilities(7).
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial

from unionfs.core import dirops
from unionfs.core.file import Handle, current_fd, real_flags
from unionfs.core.inode import Dir, File, Node, in_upper, lower_position
from unionfs.core.layer import Fd, open_path
from unionfs.core.override import (
    ENCODED_CAPABILITY,
    Overrides,
    can_carry,
    decode,
    is_hidden,
    layer_of,
    shown_names,
)
from unionfs.core.override_format import ENCODED_PREFIX, Override
from unionfs.core.owner_rights import Place, may_be_widened, settled
from unionfs.core.real_file import AtRest, stat_node
from unionfs.core.remote import RemoteUnion
from unionfs.core.setattr import as_meant
from unionfs.core.state import State
from unionfs.core.union import UnionFs
from unionfs.core.whiteout import DT_REG
from unionfs.core.xattrs import bring_up
from unionfs.credentials import Credentials
from unionfs.errors import fs_error
from unionfs.syscalls import xattr
from unionfs.syscalls.attributes import utimens_at
from unionfs.types import (
    Attr,
    Backing,
    Buffer,
    DirEntry,
    Fh,
    Listed,
    LookedUp,
    NodeId,
    SetAttr,
    changed_stat,
)

_CAPABILITY = b"security.capability"
_SUID_SGID = stat.S_ISUID | stat.S_ISGID


class OverrideUnion(UnionFs):
    """A union that shows and stores owners, modes and types by `Overrides`."""

    def __init__(self, state: State) -> None:
        super().__init__(state)
        assert isinstance(state.owners, Overrides)
        self._overrides = state.owners
        # The modes that are widened are those of the real files.
        self._real_widens, self._widens = self._widens, False

    # -- attributes --

    def _attr(self, node: Node, st: os.stat_result) -> Attr:
        if self._real_widens and may_be_widened(st):
            st = settled(partial(stat_node, self._state, node))
        if can_carry(st.st_mode):
            try:
                override = self._read(node, st)
            except OSError as error:
                # A directory that was removed has no fd any more; its last stat is shown.
                if error.errno != errno.ESTALE or node.last_stat is None:
                    raise
                override = None
            if override is not None:
                st = changed_stat(
                    st,
                    {
                        stat.ST_MODE: override.mode,
                        stat.ST_UID: override.uid,
                        stat.ST_GID: override.gid,
                    },
                    st_rdev=override.rdev,
                )
        return super()._attr(node, st)

    def setattr(
        self, nodeid: NodeId, change: SetAttr, fh: Fh | None, writer: Credentials | None = None
    ) -> Attr:
        node = self._table.get(nodeid)
        st = stat_node(self._state, node)
        if writer is not None and change.is_chown():
            change = as_meant(node, self._attr(node, st), change, writer, self._files)
        if not can_carry(st.st_mode):
            with suppress(PermissionError):  # the owner of a link gives no rights
                return super().setattr(nodeid, change, fh, writer)
            return self._attr(node, stat_node(self._state, node))
        self._state.require_upper()
        real = SetAttr(
            size=change.size,
            atime_ns=change.atime_ns,
            mtime_ns=change.mtime_ns,
            times_now=change.times_now,
        )
        if real.is_chown():  # it changes nothing of the real file
            bring_up(self._state, node)
        else:
            super().setattr(nodeid, real, fh)
        before = self._now(node)
        after = self._changed(node, before, change, writer)
        if after != before:
            self._write(node, after)
        elif change.is_chown() or change.mode is not None:
            # A filesystem may take the same value for no change, but a chmod moves the ctime.
            st = stat_node(self._state, node)
            with _place(node) as (fd, name):
                if name is None:
                    times = st.st_atime_ns, st.st_mtime_ns
                    os.utime(b"/proc/self/fd/%d" % fd, ns=times)
                else:
                    utimens_at(fd, name, st.st_atime_ns, None)
        return self._attr(node, stat_node(self._state, node))

    def _changed(
        self, node: Node, now: Override, change: SetAttr, writer: Credentials | None
    ) -> Override:
        """Return what is stored after `change`, and take capabilities away as it does."""
        uid = now.uid if change.uid is None else self._overrides.stored_uid(change.uid)
        gid = now.gid if change.gid is None else self._overrides.stored_gid(change.gid)
        mode = now.mode
        if change.is_chown() or change.size is not None:
            self._drop_capability(node)
        if change.is_chown() and not stat.S_ISDIR(mode):
            mode &= ~stat.S_ISUID
            if mode & stat.S_IXGRP:
                mode &= ~stat.S_ISGID
        if change.size is not None and writer is not None:
            mode = self._without_suid(now._replace(mode=mode), writer)
        if change.mode is not None:
            mode = stat.S_IFMT(mode) | stat.S_IMODE(change.mode)
        return now._replace(uid=uid, gid=gid, mode=mode)

    # -- making --

    def mknod(
        self, parent: NodeId, name: bytes, mode: int, rdev: int, umask: int, uid: int, gid: int
    ) -> Attr:
        if stat.S_ISCHR(mode) and rdev == 0:
            raise OSError(errno.EPERM, "a character device 0:0 is a whiteout")
        new = dirops.NewInode(mode, umask, uid, gid)
        maker = self._made_by(parent, dirops.make_node(0), uid, gid, rdev)
        return self._make(parent, name, new, maker)

    def mkdir(self, parent: NodeId, name: bytes, mode: int, umask: int, uid: int, gid: int) -> Attr:
        new = dirops.NewInode(mode | stat.S_IFDIR, umask, uid, gid)
        return self._make(parent, name, new, self._made_by(parent, dirops.make_directory, uid, gid))

    def symlink(self, parent: NodeId, name: bytes, target: bytes, uid: int, gid: int) -> Attr:
        own = self._inherited(parent, stat.S_IFLNK | 0o777, uid, gid)

        def make(dir_fd: int, name: bytes, _mode: int) -> None:
            os.symlink(target, name, dir_fd=dir_fd)
            # A daemon without privilege keeps it; the owner of a link gives no rights.
            with suppress(PermissionError):
                os.chown(name, own.uid, own.gid, dir_fd=dir_fd, follow_symlinks=False)

        new = dirops.NewInode(stat.S_IFLNK | 0o777, 0, uid, gid)
        return self._make(parent, name, new, make)

    def create(
        self, parent: NodeId, name: bytes, mode: int, flags: int, umask: int, uid: int, gid: int
    ) -> tuple[Attr, Fh]:
        d = self._table.directory(parent)
        maker = self._made_by(parent, dirops.make_file(self._state, real_flags(flags)), uid, gid)
        new = dirops.NewInode(stat.S_IFREG | stat.S_IMODE(mode), umask, uid, gid)
        node, st, fd = dirops.create(self._state, d, name, new, maker)
        return self._attr_of_held(node, st), self._files.add(Handle(node, fd, flags))

    def tmpfile(
        self, parent: NodeId, mode: int, flags: int, umask: int, uid: int, gid: int
    ) -> tuple[Attr, Fh]:
        real_mode = self._overrides.real_mode
        attr, fh = super().tmpfile(parent, real_mode, flags, 0, uid, gid)
        override = self._inherited(parent, stat.S_IFREG | mode & ~umask, uid, gid)
        try:
            self._overrides.write((self.fileno(fh), None), override)
            return self.getattr(attr.nodeid, fh), fh
        except OSError:
            self.release(fh)
            self.forget(attr.nodeid, 1)
            raise

    def _made_by(
        self, parent: NodeId, maker: dirops.Maker, uid: int, gid: int, rdev: int = 0
    ) -> dirops.Maker:
        """Return a maker of the daemon's own files, which stores owner and mode on them.

        They are staged, and have no name in the upper before.
        """

        def make(dir_fd: int, name: bytes, mode: int) -> Fd | None:
            override = self._inherited(parent, mode, uid, gid)._replace(rdev=rdev)
            kind = stat.S_IFDIR if stat.S_ISDIR(mode) else stat.S_IFREG
            fd = maker(dir_fd, name, kind | self._overrides.real_mode)
            self._overrides.write((dir_fd, name) if fd is None else (fd, None), override)
            return fd

        return make

    def _inherited(self, parent: NodeId, mode: int, uid: int, gid: int) -> Override:
        """Return the owner and mode of a file made in `parent` by the user `uid`:`gid`."""
        owners = self._overrides
        override = Override(owners.stored_uid(uid), owners.stored_gid(gid), mode)
        folder = self._now(self._table.directory(parent))
        if not folder.mode & stat.S_ISGID:
            return override
        if stat.S_ISDIR(mode):
            mode |= stat.S_ISGID
        return override._replace(gid=folder.gid, mode=mode)

    # -- writing, which takes rights away from a program --

    def write(self, fh: Fh, offset: int, data: Buffer) -> int:
        done = super().write(fh, offset, data)
        self._drop_capability_of(self._files.require(fh))
        return done

    def fallocate(self, fh: Fh, mode: int, offset: int, length: int) -> None:
        super().fallocate(fh, mode, offset, length)
        self._drop_capability_of(self._files.require(fh))

    def copy_range(
        self, fh: Fh, offset: int, target_fh: Fh, target_offset: int, length: int
    ) -> int:
        done = super().copy_range(fh, offset, target_fh, target_offset, length)
        self._drop_capability_of(self._files.require(target_fh))
        return done

    def drop_suid(self, fh: Fh, writer: Credentials) -> bool:
        node = self._files.require(fh).node
        now = self._now(node)
        mode = self._without_suid(now, writer)
        if mode == now.mode:
            return False
        self._write(node, now._replace(mode=mode))
        return True

    def has_suid(self, fh: Fh) -> bool:
        return bool(self._now(self._files.require(fh).node).mode & _SUID_SGID)

    def backing(self, fh: Fh) -> Backing | None:
        backing = super().backing(fh)
        if backing is None:
            return None
        # Writing by itself, the kernel would take the rights from the real file, which has
        # none; and the file may get them while it is open.
        node = self._files.require(fh).node
        return backing._replace(guarded=in_upper(node) or node.orphan is not None)

    def _without_suid(self, now: Override, writer: Credentials) -> int:
        """Return the mode after `writer`, who has no CAP_FSETID, has written to the file.

        Source: fs/attr.c:setattr_should_drop_suidgid().
        """
        if not stat.S_ISREG(now.mode):
            return now.mode
        mode = now.mode & ~stat.S_ISUID
        member = writer.is_member(self._overrides.shown_gid(now.gid))
        if mode & stat.S_IXGRP or not member:
            mode &= ~stat.S_ISGID
        return mode

    def _drop_capability_of(self, handle: Handle) -> None:
        if not handle.node.bare:
            _drop_attribute(current_fd(self._state, handle), ENCODED_CAPABILITY)

    def _drop_capability(self, node: Node) -> None:
        if isinstance(node, File) and node.kind == stat.S_IFREG and not node.bare:
            with _place(node) as (fd, name):
                real = fd if name is None else open_path(name, fd)
                for attribute in (ENCODED_CAPABILITY, _CAPABILITY):
                    _drop_attribute(real, attribute)

    # -- listings --

    def listdir(self, nodeid: NodeId, offset: int) -> Iterator[DirEntry]:
        entries = super().listdir(nodeid, offset)
        return self._with_types(self._table.directory(nodeid), entries)

    def list_looked_up(
        self, nodeid: NodeId, offset: int, what: LookedUp, tell: Callable[[NodeId], object]
    ) -> Iterator[Listed]:
        d = self._table.directory(nodeid)
        entries = super().list_looked_up(nodeid, offset, what, tell)
        for cookie, name, d_type, st_ino, attr in entries:
            if attr is not None:
                d_type = stat.S_IFMT(attr.st.st_mode) >> 12
            elif d_type == DT_REG:
                with suppress(OSError):  # a lookup of the name reports the error
                    d_type = self._d_type(d, name)
            yield cookie, name, d_type, st_ino, attr

    def readdir(self, fh: Fh, offset: int) -> Iterator[DirEntry]:
        return self._with_types(self._dir(fh), super().readdir(fh, offset))

    def _with_types(self, d: Dir, entries: Iterator[DirEntry]) -> Iterator[DirEntry]:
        for entry in entries:
            if entry.d_type == DT_REG:
                with suppress(OSError):  # a lookup of the name reports the error
                    entry = entry._replace(d_type=self._d_type(d, entry.name))
            yield entry

    def _d_type(self, d: Dir, name: bytes) -> int:
        loaded = d.loaded
        if loaded is None:
            return DT_REG
        real = d.upper
        if name not in loaded.upper:
            real = d.lowers[lower_position(loaded.lower[name])]
        if real is None:
            return DT_REG
        attribute = self._overrides.name_in(real.layer)
        if attribute is None:
            return DT_REG
        value = xattr.get_at(real.fd(), name, attribute)
        return DT_REG if value is None else stat.S_IFMT(decode(value, stat.S_IFREG).mode) >> 12

    # -- extended attributes --

    def getxattr(self, nodeid: NodeId, name: bytes) -> bytes:
        if is_hidden(name):
            raise fs_error(errno.ENODATA)
        if name.startswith(b"security."):
            node = self._table.get(nodeid)
            with _place(node) as (fd, entry):
                stored = ENCODED_PREFIX + name
                if entry is None:
                    value = xattr.get_fd(fd, stored)
                else:
                    value = xattr.get_at(fd, entry, stored)
            if value is not None:
                return self._overrides.shown_xattr(layer_of(node), os.fsdecode(name), value)
        return super().getxattr(nodeid, name)

    def lacks_xattr(self, nodeid: NodeId, name: bytes) -> bool:
        return False  # it may be stored under another name

    def listxattr(self, nodeid: NodeId) -> list[bytes]:
        return list(shown_names(super().listxattr(nodeid)))

    def setxattr(self, nodeid: NodeId, name: bytes, value: bytes, flags: int) -> None:
        if is_hidden(name):
            raise OSError(errno.EPERM, "the attribute is the union's own")
        if self._encodes(nodeid, name):
            if flags & os.XATTR_REPLACE:
                self.getxattr(nodeid, name)
                flags = 0
            value = self._overrides.stored_xattr(os.fsdecode(name), value)
            name = ENCODED_PREFIX + name
        super().setxattr(nodeid, name, value, flags)

    def removexattr(self, nodeid: NodeId, name: bytes) -> None:
        if is_hidden(name):
            raise OSError(errno.EPERM, "the attribute is the union's own")
        if self._encodes(nodeid, name):
            self._state.require_upper()
            self.getxattr(nodeid, name)
            try:
                super().removexattr(nodeid, ENCODED_PREFIX + name)
            except OSError as error:
                if error.errno != errno.ENODATA:
                    raise
            with suppress(OSError):  # a copy may have the lower's own as well
                super().removexattr(nodeid, name)
            return
        super().removexattr(nodeid, name)

    def _encodes(self, nodeid: NodeId, name: bytes) -> bool:
        if not self._overrides.encodes(name):
            return False
        return can_carry(stat_node(self._state, self._table.get(nodeid)).st_mode)

    # -- inside --

    def _read(self, node: Node, st: os.stat_result) -> Override | None:
        layer = layer_of(node)
        if self._overrides.name_in(layer) is None:
            return None
        with _place(node) as place:
            return self._overrides.read(layer, place, st)

    def _now(self, node: Node) -> Override:
        """Return the owner and mode of `node` at present, with the ids as they are stored."""
        st = stat_node(self._state, node)
        return self._read(node, st) or Override(st.st_uid, st.st_gid, st.st_mode, st.st_rdev)

    def _write(self, node: Node, override: Override) -> None:
        with _place(node) as place:
            self._overrides.write(place, override)


# RemoteUnion takes the arguments that it hands on as *args.
class RemoteOverrideUnion(OverrideUnion, RemoteUnion):  # type: ignore[misc]
    """Such a union with layers that may stop to answer."""


@contextmanager
def _place(node: Node) -> Iterator[Place]:
    if isinstance(node, Dir):
        yield node.top().fd(), None
        return
    assert isinstance(node, File)
    with AtRest(node) as place:
        yield place


def _drop_attribute(fd: int, name: bytes) -> None:
    """Remove an attribute of the open file `fd`, which may be O_PATH, if it has that."""
    try:
        os.removexattr(b"/proc/self/fd/%d" % fd, name)
    except OSError as error:
        # EPERM: a daemon without privilege, which can have given no real file a capability.
        if error.errno not in (errno.ENODATA, errno.EOPNOTSUPP, errno.EPERM):
            raise
