"""PyUnion's union filesystem: a copy-on-write upper over read-only layers.

`core` has the policy, `vfs` is the interface to it, `wire` speaks the FUSE protocol,
`transports` carry requests from the kernel, and only `syscalls` uses ctypes.  Imports point
one way: transports -> core, wire -> vfs -> syscalls -> the small modules beside them.

The store and the tools import the names below from here and nothing from `unionfs.core`,
so the core can change inside.  A module of the core is imported when one of its names is
first used: a command that opens no union does not load the core.
"""

from __future__ import annotations

from unionfs.lazy_names import lazy_names
from unionfs.light_typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unionfs.core.config import (
        MAX_LOWERS,
        Atime,
        IdRange,
        OverrideStat,
        RedirectDir,
        UnionConfig,
        WhiteoutForm,
    )
    from unionfs.core.introspect import places
    from unionfs.core.opening import open_union
    from unionfs.core.override_format import Override
    from unionfs.core.union import UnionFs
    from unionfs.core.whiteout import (
        AUFS_META,
        AUFS_OPAQUE,
        AUFS_PREFIX,
        FUSE_OVERLAYFS_PREFIX,
        Marks,
        make_char_whiteout,
        make_xattr_whiteout,
    )

__all__ = [
    "AUFS_META",
    "AUFS_OPAQUE",
    "AUFS_PREFIX",
    "FUSE_OVERLAYFS_PREFIX",
    "MAX_LOWERS",
    "Atime",
    "IdRange",
    "Marks",
    "Override",
    "OverrideStat",
    "RedirectDir",
    "UnionConfig",
    "UnionFs",
    "WhiteoutForm",
    "make_char_whiteout",
    "make_xattr_whiteout",
    "open_union",
    "places",
]

_HOMES = {
    "config": (
        *("MAX_LOWERS", "Atime", "IdRange", "OverrideStat", "RedirectDir", "UnionConfig"),
        "WhiteoutForm",
    ),
    "introspect": ("places",),
    "opening": ("open_union",),
    "override_format": ("Override",),
    "union": ("UnionFs",),
    "whiteout": (
        *("AUFS_META", "AUFS_OPAQUE", "AUFS_PREFIX", "FUSE_OVERLAYFS_PREFIX"),
        *("Marks", "make_char_whiteout", "make_xattr_whiteout"),
    ),
}
_HOME = {name: f"core.{module}" for module, names in _HOMES.items() for name in names}

if not TYPE_CHECKING:  # a checker must not take any name for one of ours
    __getattr__ = lazy_names(__name__, _HOME)
