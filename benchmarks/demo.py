"""`make demo`: a Debian becomes an image, is run, changed, committed, and the commit is run.

A Debian root filesystem made by mmdebstrap (kept in `.cache` between runs) is
imported into a store of the demo's own; apt installs a package in a container
of it, which is committed while it goes on running.  Each command is shown as
one would type it.  Mirrors and proxies are those this machine's own apt is set
up with.

Whatever fails, and on Ctrl-C and SIGTERM, nothing is left running or mounted:
the containers are removed on every way out.  When the demo itself is killed
outright, a guard removes them, and the next run clears what lies in `.cache`.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

CACHE = Path(__file__).resolve().parent.parent / ".cache"
PACKAGE = "tree"
SHOWN = 16
WORTH_SAYING = 0.5  # seconds

# The settings of apt that say how to reach a mirror; the rest are this machine's business.
ACQUIRE = re.compile(r"Acquire::(https?(?!.*Auto-Detect)|Check-|Languages|Retries|ForceIPv)")

IMAGE, CHANGED = "debian:demo", "debian:with-tree"
BOX = "box"
NO_SERVICES = (
    "#!/bin/sh\n# Packages installed in a container start no services (policy-rc.d(8)).\nexit 101\n"
)


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


# -- the root filesystem --


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


# -- what must not be left --


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
        for store in CACHE.glob("demo-*/store"):
            subprocess.run([*Pyunion(store).words, "rm", "-f", BOX], capture_output=True)
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


class Pyunion:
    """The command, as `make install` links it, on a store of the demo's own."""

    def __init__(self, root: Path) -> None:
        command = Path(sys.executable).with_name("pyunion")
        self.words: list[str | Path] = [command, "--root", root]

    def quietly(self, *words: str | Path) -> str:
        return run(*self.words, *words, name=f"pyunion {words[0]}")

    def show(self, *words: str, lines: int = SHOWN) -> None:
        """Run a command, and print what was typed, what it printed and how long it took."""
        say(f"\n$ pyunion {shlex.join(words)}")
        start = time.perf_counter()
        printed = self.quietly(*words).splitlines()
        seconds = time.perf_counter() - start
        for line in printed[:lines]:
            say(f"  {line}")
        if len(printed) > lines:
            say(f"  ... and {len(printed) - lines} lines more")
        if seconds >= WORTH_SAYING:
            say(f"  ({seconds:.1f} s)")


@contextlib.contextmanager
def container(pyunion: Pyunion) -> Iterator[None]:
    """Run the container of the demo; whatever happens, it is gone in the end."""
    # The guard outlives us and acts at the end of its input, should we be killed outright.
    guard = ("sh", "-c", 'cat; exec "$@" >/dev/null 2>&1', "sh", *pyunion.words, "rm", "-f", BOX)
    with subprocess.Popen(guard, stdin=subprocess.PIPE, start_new_session=True):
        try:
            pyunion.show("run", "--detach", "--name", BOX, IMAGE, "sleep", "infinity")
            yield
        finally:
            with uninterrupted():
                pyunion.show("rm", "--force", BOX)


# -- the demo --


def demo() -> None:
    with workspace() as here:
        rootfs = debian_rootfs()
        pyunion = Pyunion(here / "store")
        say("The Debian becomes an image of one layer.")
        pyunion.show("import", "--quiet", str(rootfs), IMAGE)
        say("\nA container of it runs; apt installs a package in it, and a file goes.")
        with container(pyunion):
            use(pyunion)
            say("\nIt is committed while it runs: what it changed becomes a layer, in place.")
            pyunion.show("commit", "--message", f"with {PACKAGE}", BOX, CHANGED)
            pyunion.show("exec", BOX, PACKAGE, "--version")
            say("\nWhat it changed, and what there is now:")
            pyunion.show("diff", BOX)
            pyunion.show("images")
            pyunion.show("history", CHANGED)
            pyunion.show("layers")
            pyunion.show("which", f"/usr/bin/{PACKAGE}", CHANGED)
        say("\nThe commit is an image like any other:")
        pyunion.show("run", "--rm", CHANGED, PACKAGE, "--noreport", "-L", "1", "/etc/apt")
        pyunion.show("check")
        through_registry(pyunion, here)
    left = mounts_beneath(CACHE)
    if left:
        raise DemoError("still mounted: " + ", ".join(map(str, left)))
    say("\nNothing is left mounted or running; the Debian stays in .cache for the next run.")


def registry_program() -> str | None:
    """Return the path of docker-registry, None if it is not here."""
    kept = CACHE / "docker-registry/usr/bin/docker-registry"
    return shutil.which("docker-registry") or (str(kept) if kept.exists() else None)


@contextlib.contextmanager
def registry(base: Path, name: str = "registry") -> Iterator[str]:
    """Run an empty registry on loopback that keeps everything in `base/name`; give its host."""
    program = registry_program()
    if program is None:
        raise DemoError("docker-registry is not installed")
    with contextlib.closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = base / f"{name}.yml"
    config.write_text(
        "version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\n"
        f"storage: {{filesystem: {{rootdirectory: '{base / name}'}}}}\n"
        f"http: {{addr: '127.0.0.1:{port}', secret: loopback}}\n"
    )
    with (base / f"{name}.log").open("wb") as log:
        process = subprocess.Popen([program, "serve", config], stdout=log, stderr=log)
    try:
        _await_port(port, process)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(60)
        shutil.rmtree(base / name, ignore_errors=True)


def _await_port(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(300):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        if process.poll() is not None:
            break
        time.sleep(0.1)
    raise DemoError("docker-registry does not answer")


def through_registry(pyunion: Pyunion, here: Path) -> None:
    """Push the commit to a registry, and run it from there with another store."""
    if registry_program() is None:
        say("\nWith docker-registry installed, the commit would now go to a registry and back.")
        return
    with registry(here) as host:
        name = f"{host}/{CHANGED}"
        say("\nIt goes to a registry on this machine, and from there to another store:")
        pyunion.show("tag", CHANGED, name)
        pyunion.show("push", name)
        pyunion.show("push", name)
        pyunion.show("search", f"{host}/deb")
        other = Pyunion(here / "other")
        other.show("run", "--rm", name, PACKAGE, "--version")
        other.show("images", "--digests")
        other.show("check")


def use(pyunion: Pyunion) -> None:
    """Do in the container what one does in one."""
    policy = f"printf %s {shlex.quote(NO_SERVICES)} >/usr/sbin/policy-rc.d"
    pyunion.quietly("exec", BOX, "sh", "-c", f"{policy}; chmod 755 /usr/sbin/policy-rc.d")
    pyunion.show("exec", BOX, "apt-get", "--quiet=2", "update")
    pyunion.show("exec", BOX, "apt-get", "--quiet=2", "install", "--yes", PACKAGE, lines=3)
    pyunion.show("exec", BOX, "sh", "-c", "apt-get clean; rm -r /var/lib/apt/lists/* /etc/issue")


def main() -> int:
    if os.geteuid() != 0:
        print("the demo mounts and makes device nodes: run it as root", file=sys.stderr)
        return 1
    os.umask(0o022)  # the upper's mode is what apt's own user meets at the root
    for signum in ENDING:
        signal.signal(signum, stop)
    try:
        demo()
    except (DemoError, OSError) as error:
        print(f"the demo failed: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
