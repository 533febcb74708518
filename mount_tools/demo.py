"""`make demo`: install a package in a chroot on a union of a real Debian.

A Debian root filesystem made by mmdebstrap (kept in `.cache` between runs) is
the lowest layer, a small layer of site settings lies on it, and an empty upper
takes what apt changes.  Mirrors and proxies are those this machine's own apt is
set up with.

Whatever fails, and on Ctrl-C and SIGTERM, nothing stays mounted: the union is
unmounted on every way out, and /proc, /sys and /dev of the chroot exist only in
the mount namespace that apt runs in.  When the demo itself is killed outright,
a guard detaches the union, and the next run clears what lies in `.cache`.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from layerstore.changes import Change, changes
from mount_tools.option_grammar import escaped
from unionfs.errors import ConfigError

CACHE = Path(__file__).resolve().parent.parent / ".cache"
PACKAGE = "tree"
SHOWN = 24

# The settings of apt that say how to reach a mirror; the rest are this machine's business.
ACQUIRE = re.compile(r"Acquire::(https?(?!.*Auto-Detect)|Check-|Languages|Retries|ForceIPv)")

MOTD = "Debian with a layer of this site's settings on it.\n"
NO_SERVICES = (
    "#!/bin/sh\n# Packages installed in a chroot start no services (policy-rc.d(8)).\nexit 101\n"
)

IN_CHROOT = """
mount -t proc proc "$0/proc"
mount --rbind /sys "$0/sys"
mount --rbind /dev "$0/dev"
exec chroot "$0" /usr/bin/env PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive "$@"
"""


class DemoError(Exception):
    """A step failed; the text says which and shows the end of what it printed."""


# -- signals --

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def stop(signum: int, frame: object) -> NoReturn:
    sys.exit(128 + signum)


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Let a signal that is to end the demo wait for the end of the block."""
    caught: list[int] = []
    before = [signal.signal(signum, lambda number, _: caught.append(number)) for signum in ENDING]
    try:
        yield
    finally:
        for signum, handler in zip(ENDING, before, strict=True):
            signal.signal(signum, handler)
    if caught:
        sys.exit(128 + caught[0])


# -- saying what happens --


def say(text: str) -> None:
    print(text, flush=True)


@contextlib.contextmanager
def step(text: str) -> Iterator[None]:
    """Print what is being done, and, once done, the seconds it took."""
    print(f"{text} ...", end="", flush=True)
    start = time.perf_counter()
    try:
        yield
    except BaseException:
        print(flush=True)
        raise
    print(f" {time.perf_counter() - start:.1f} s", flush=True)


def run(*argv: str | os.PathLike[str], given: str = "", name: str = "") -> str:
    """Run a command with `given` on its stdin and return all it printed.

    It has a session of its own: Ctrl-C is for the demo, which ends it.  An
    error calls the command `name`, or else what `argv` does.
    """
    done = subprocess.run(
        argv,
        input=given,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    )
    if done.returncode != 0:
        tail = "".join(f"  {line}\n" for line in done.stdout.splitlines()[-15:])
        name = name or os.fspath(argv[0])
        raise DemoError(f"{name} ended with status {done.returncode}:\n{tail}".rstrip())
    return done.stdout


def isolated(*argv: str | os.PathLike[str], given: str = "", name: str = "") -> str:
    """As `run`, with mounts and processes of its own, which end with it."""
    return run(
        *("unshare", "--mount", "--propagation", "private"),
        *("--pid", "--mount-proc", "--fork", "--kill-child"),
        *argv,
        given=given,
        name=name or os.fspath(argv[0]),
    )


# -- the layers --


def debian_sources(release: str) -> str:
    """Return sources.list lines for the archives of `release` this machine's apt uses."""
    listing = "$(ORIGIN) $(CODENAME)|deb $(REPO_URI) $(RELEASE) $(COMPONENT)"
    query = ("apt-get", "indextargets", "--format", listing, "Identifier: Packages")
    for _ in range(2):
        lines = [line.partition("|") for line in run(*query).splitlines()]
        ours = dict.fromkeys(
            line for origin, _, line in lines if origin.startswith(f"Debian {release}")
        )
        if ours:
            return "".join(f"{line}\n" for line in ours)
        run("apt-get", "update")  # what is where is known once the lists are here
    raise DemoError(f"apt on this machine knows no archive of Debian {release}")


def debian_rootfs() -> Path:
    """Return the Debian layer, made now where no earlier run has left one."""
    release = run("sh", "-c", '. /etc/os-release && echo "$VERSION_CODENAME"').strip()
    root = CACHE / f"debian-{release}"
    if root.exists():
        say(f"Using the Debian {release} root filesystem in {root}.")
        return root
    with step(f"Making a Debian {release} root filesystem with mmdebstrap"):
        acquire = [line for line in run("apt-config", "dump").splitlines() if ACQUIRE.match(line)]
        half = root.with_suffix(".partial")
        isolated(
            *("mmdebstrap", "--quiet", "--variant=apt", *(f"--aptopt={line}" for line in acquire)),
            *(release, half, "-"),
            given=debian_sources(release),
        )
        half.rename(root)
    return root


def site_layer(layer: Path) -> None:
    """Make a second lower: a greeting, this machine's resolver, no services, one file gone."""
    for directory in ("etc", "usr/sbin"):
        (layer / directory).mkdir(parents=True)
    (layer / "etc/motd").write_text(MOTD)
    (layer / "etc/resolv.conf").write_text(Path("/etc/resolv.conf").read_text())
    (layer / "usr/sbin/policy-rc.d").write_text(NO_SERVICES)
    (layer / "usr/sbin/policy-rc.d").chmod(0o755)
    os.mknod(layer / "etc/issue.net", stat.S_IFCHR, os.makedev(0, 0))  # a whiteout


# -- the mount --


def mounts_beneath(directory: Path) -> list[Path]:
    """Return the mount points at or below `directory`, the last one mounted first."""
    table = json.loads(run("findmnt", "--json", "--list", "--output", "TARGET"))["filesystems"]
    points = [Path(mount["target"]) for mount in table]
    return [point for point in points[::-1] if point.is_relative_to(directory)]


def unmount(point: Path) -> None:
    """Unmount `point`, waiting a little for processes that are just ending."""
    for _ in range(50):
        if subprocess.run(["umount", point], stderr=subprocess.DEVNULL).returncode == 0:
            return
        time.sleep(0.1)
    run("umount", "--lazy", point)
    raise DemoError(f"{point} stayed busy and was detached; something still uses it")


@contextlib.contextmanager
def workspace() -> Iterator[Path]:
    """Hold the cache and a fresh directory in it; in the end nothing is mounted there."""

    def clear() -> None:
        for point in mounts_beneath(CACHE):
            unmount(point)
        for left in (*CACHE.glob("demo-*"), *CACHE.glob("*.partial")):
            shutil.rmtree(left)

    CACHE.mkdir(exist_ok=True)
    with open(CACHE / "lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DemoError(f"another demo is running in {CACHE}") from None
        clear()
        try:
            yield Path(tempfile.mkdtemp(prefix="demo-", dir=CACHE))
        finally:
            with uninterrupted():
                clear()


@contextlib.contextmanager
def mounted(lowers: list[Path], upper: Path, work: Path, merged: Path) -> Iterator[None]:
    """Mount the union as a user would, by the command that `make install` links."""
    layers = ":".join(escaped(str(lower), r"\,:") for lower in lowers)
    options = f"lowerdir={layers},upperdir={escaped(str(upper))},workdir={escaped(str(work))}"
    command = Path(sys.executable).with_name("mount.pyunion")
    # The guard outlives us and acts at the end of its input, should we be killed outright.
    guard = ("sh", "-c", 'cat; umount --lazy "$0" 2>/dev/null', merged)
    with subprocess.Popen(guard, stdin=subprocess.PIPE, start_new_session=True):
        try:
            # Cut short, the command could still mount behind our back.
            with step("Mounting it, a layer of site settings and an empty upper"), uninterrupted():
                run(command, "demo", merged, "-o", options)
            yield
        finally:
            if merged in mounts_beneath(CACHE):
                with step("Unmounting"), uninterrupted():
                    unmount(merged)


def in_chroot(root: Path, *argv: str) -> str:
    return isolated("sh", "-euc", IN_CHROOT, root, *argv, name=" ".join(argv))


# -- the demo --


def use(merged: Path) -> None:
    """Do on the mount what one does in a chroot."""
    say("  " + next(line for line in run("mount").splitlines() if f" on {merged} " in line))
    say("  /etc/motd: " + in_chroot(merged, "cat", "/etc/motd").strip())
    with step("apt-get update in a chroot on it"):
        in_chroot(merged, "apt-get", "update")
    with step(f"apt-get install {PACKAGE}"):
        in_chroot(merged, "apt-get", "install", "-y", PACKAGE)
        in_chroot(merged, "apt-get", "clean")
    say(f"Running {PACKAGE} there, and deleting a file of the Debian layer:")
    tree = in_chroot(merged, PACKAGE, "--noreport", "-L", "1", "/etc/apt")
    say("".join(f"  {line}\n" for line in tree.splitlines()).rstrip())
    in_chroot(merged, "rm", "/etc/issue")


def show(found: list[Change]) -> None:
    say(f"What changed, {len(found)} paths, all in the upper (A added, C changed, D deleted):")
    for change in found[:SHOWN]:
        say(f"  {change.kind} {change.path.decode(errors='backslashreplace')}")
    if len(found) > SHOWN:
        say(f"  ... and {len(found) - SHOWN} more")


def demo() -> None:
    with workspace() as here:
        rootfs = debian_rootfs()
        site, upper, work, merged = (here / name for name in ("site", "upper", "work", "merged"))
        for directory in (site, upper, work, merged):
            directory.mkdir()
        site_layer(site)
        with mounted([site, rootfs], upper, work, merged):
            use(merged)
        show(changes(bytes(upper), [bytes(site), bytes(rootfs)]))
    left = mounts_beneath(CACHE)
    if left:
        raise DemoError("still mounted: " + ", ".join(map(str, left)))
    say("Nothing is left mounted; the Debian layer stays in .cache for the next run.")


def main() -> int:
    if os.geteuid() != 0:
        print("the demo mounts and makes device nodes: run it as root", file=sys.stderr)
        return 1
    os.umask(0o022)  # the upper's mode is what apt's own user meets at the root
    for signum in ENDING:
        signal.signal(signum, stop)
    try:
        demo()
    except (DemoError, ConfigError, OSError) as error:
        print(f"the demo failed: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
