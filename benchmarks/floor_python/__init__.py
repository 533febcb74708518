"""The floor in Python, and the least union: FUSE filesystems in CPython that do the least.

The floor is what `benchmarks/floor.c` is, in Python: it holds the merged tree in memory, asks
the kernel for what PyUnion asks for, and gets the same requests.  So it shows what the
interpreter costs where there is no union, no lock and no check.  The least union gets them too,
and does what they ask for in a real upper over real lowers: see `union`.

How they are made fast, as far as plain CPython goes:

- The reply to a LOOKUP, the `entry` of an inode, is kept packed, and copied as it is; that to a
  GETATTR is the end of the same bytes, and a listing is a join of them.
- One struct is unpacked for each request, with the opcode, the inode and what the transport
  needs.  Handlers are closures in a list by opcode; what they need are their own variables.
- A handler writes into the memory that the kernel reads the reply from.
- For each request there is one io_uring_enter(2), by ctypes, or one readv(2) and one write(2).
  A reply over io_uring stores five integers in shared memory.
- What is seldom asked for is reckoned then: the times of a directory, the size of a file that
  has been written.  The union asks the filesystem for them then.
- FORGETs are dropped, so lookups are not counted and no inode is freed.  The garbage collector
  is off.

    python -m benchmarks.floor_python [-f] [-u] [--upper DIR --work DIR] LAYER... MOUNTPOINT
"""
