"""apt in a chroot on a union: a layer that lets it work there, and how it is run.

/proc, /sys and /dev of the chroot exist only in the mount namespace that the command runs
in, so they are gone with it.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.demo import NO_SERVICES, isolated

IN_CHROOT = """
mount -t proc proc "$0/proc"
mount --rbind /sys "$0/sys"
mount --rbind /dev "$0/dev"
exec chroot "$0" /usr/bin/env PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive "$@"
"""


def site_layer(layer: Path) -> None:
    """Make a layer with this machine's resolver, on which packages start no services."""
    for directory in ("etc", "usr/sbin"):
        (layer / directory).mkdir(parents=True)
    (layer / "etc/resolv.conf").write_text(Path("/etc/resolv.conf").read_text())
    (layer / "usr/sbin/policy-rc.d").write_text(NO_SERVICES)
    (layer / "usr/sbin/policy-rc.d").chmod(0o755)


def in_chroot(root: Path, *argv: str) -> str:
    """Run a command in a chroot at `root` and return all it printed."""
    return isolated("sh", "-euc", IN_CHROOT, root, *argv, name=" ".join(argv))
