"""The text of `mount.pyunion --help`."""

from __future__ import annotations

USAGE = """\
usage: mount.pyunion [-sfnv] SPEC DIR -o OPTIONS     as mount(8) calls it
       mount.pyunion [-fd] -o OPTIONS DIR            as fuse-overlayfs is called

Mount a union of directories on DIR.  Returns once the mount is live; ends by
itself at umount DIR.  SPEC is a free text that `mount` shows;
without lowerdir= it is the name of an image in the store.

  -o OPTIONS         mount options, separated by commas; may be given again
  -f                 with SPEC: fake, check the options and do nothing;
                     without SPEC: stay in the foreground
  --foreground, --fake   the two without doubt
  -d, --debug        log more
  -v, --verbose      say what was mounted
  -s, --sloppy       ignore unknown options
  -n, -t TYPE        accepted, as mount(8) gives them
  -N NAMESPACE       mount in this mount namespace, such as /proc/PID/ns/mnt
  -h, --help         print this
  -V, --version      print the version

Layers
  lowerdir=A:B:C     read-only layers, the topmost first; up to 500
  lowerdir=A::D      D is data-only: it holds the data of metacopy files
  lowerdir+=A, datadir+=D   add one layer below the others
  upperdir=U,workdir=W      take all changes; without them the mount is read-only
In values, \\, \\: and \\\\ stand for the character itself; a value in double
quotes may hold commas.

What the union does
  redirect_dir=on|off|follow|nofollow   rename directories of lower layers (on)
  index=on|off           keep hard links of a lower file together (on)
  metacopy=on|off        copy no data up for chown and chmod (off)
  volatile, fsync=0|1    skip every sync: a crash may lose the upper (fsync=1)
  userxattr              marks in user.overlay.*; taken by itself without privilege
  whiteout=auto|char|xattr|aufs         how deletions are written (auto)
  timeout=SECONDS        how long names and attributes are remembered; without
                         it for good, for the mount owns its layers
  uidmapping=, gidmapping=STORED:SHOWN:COUNT[:...]
  squash_to_root, squash_to_uid=N, squash_to_gid=N
  noacl, noxattrs=0|1    offer no POSIX ACLs, no extended attributes

How it is mounted
  ro rw suid nosuid dev nodev exec noexec sync dirsync noatime ... of mount(8)
  allow_other            for all users; the default for root
  transport=auto|dev_fuse|pyfuse3       speak FUSE ourselves, or by libfuse (auto)
  io_uring=auto|on|off   take requests through io_uring, where the administrator
                         has written Y to /sys/module/fuse/parameters/enable_uring
  passthrough=on|off     let the kernel read and write the layers' files by itself,
                         which only root may (on)
  fsname=TEXT            shown instead of SPEC
  context="...", fscontext=, defcontext=, rootcontext=   where SELinux is on
  foreground, debug, log=FILE           without log=, a daemon logs to syslog; where
                         none listens, warnings to /run/mount.pyunion.PID.log
  control=PATH           a socket on which `pyunion` talks to the live mount
  container=NAME         with an image for SPEC: the container whose upper to use, which is
                         made where there is none

Accepted, and decided otherwise here: default_permissions (always on), xino,
override_creds, static_nlink, fast_ino, threaded, writeback, kernel_cache,
auto_cache, max_read, max_write, max_readahead, max_background, clone_fd,
splice_*, and private, defaults, _netdev, nofail, user, x-* and the like.
Refused, since they would change what is seen: nfs_export=on, verity=on,
uuid=on, xattr_permissions=1|2, ino32_t, nooverride_creds, allow_root,
auto_unmount, remount.

Signals to the daemon: TERM, INT and HUP unmount; USR1 logs counters.

Exit status: 0 mounted, 1 usage, 2 system, 4 a bug, 8 interrupted, 32 the mount
failed.
"""
