"""The union's policy: synchronous, thread-safe, with no FUSE, trio or threads of its own.

Lock order.  A thread that holds a lock takes only locks that are further down:

    UnionFs._freezing                one freeze at a time
      unionfs.gate                   a freeze closes it; every request is inside it
        wire.Files._lock             held while OPEN and RELEASE call the core
          StageAhead._turn           held while copies are staged ahead; a request only tries it
            Writable.copy_locks      one lock for each file that is being copied up; a thread
                                     with StageAhead._turn may take a second one
              State.rename_lock      one rename at a time
                Dir.lock             an ancestor before its descendants
                  FilesAhead._turn   held while files are asked for ahead; a request only tries it
                  FdCache.lock       fds of real directories, and their names in the upper
                  InodeTable.lock    the table of inodes, and every nlookup
                  InodeTable.removing one thread at a time removes a directory
                  InodeTable.freeing one thread at a time closes deleted files

`wire.Files._lock` belongs to the caller, and the core never takes it.  `CopyLocks._lock`
and the condition in `Gate` are held for a few lines that take no other lock, and `_Syncing._lock`
of `stage_ahead` while the disk is waited for, so they have no place in the order.
"""
