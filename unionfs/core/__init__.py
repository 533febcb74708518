"""The union's policy: synchronous, thread-safe, with no FUSE, trio or threads of its own.

Locks are taken in this order, each before those below it:

    UnionFs._freezing (freeze)
    the gate (unionfs.gate), which everybody else is inside of
    a copy_up in progress (copy_up)
      State.rename_lock (rename)
        Dir.lock of an ancestor
          Dir.lock of a descendant, or the other directory of a rename
            FdCache.lock
            InodeTable.lock
"""
