"""`python -m benchmarks.engines`: one session of buildah and podman, on each mount program.

Decided here and only here: what the session is, and how it is timed.  Each subject has a
store of its own with the same Debian in it, and they do every row in turn, round by round; who
begins changes with the round.  `native` is kernel overlayfs without a mount program.

    mount       the mount program alone: a writable mount of two layers is live
    from        buildah from, and run true
    changes     run: 15 kinds of change to the tree
    list        run: ls -lR /usr
    find        run: find / -xdev, twice
    grep        run: grep -r in /usr/share and /etc
    tar         run: extract a tar of /usr/share, and remove it
    rm          run: rm -r /usr/share
    git         run: init, add and commit of /usr/share/perl5
    pip         run: pip install of a package from a file
    deb         run: apt-get install of a package from a file, without a network
    copy        buildah copy of a directory, and add of a tar
    read        buildah mount, and read every file
    commit      buildah commit of the changes
    squash      buildah commit --squash
    build       buildah bud --layers of 10 steps
    cached      the same build again, all cached
    diff        podman diff of a container
    podman      podman commit of that container

The subject `least-python`, which has to be asked for, is fuse-overlayfs started by the shortest
program in Python: what no mount program in Python can be faster than to start.

What the system in the image lacks, as git and pip in a small Debian, makes a row fail; the
others go on.  With `--user` an ordinary user with sub-ids does it all, in mount namespaces of
its own.  The table in the README is what `--markdown` prints of benchmarks/results/engines-*.json,
where `--out` has left the results of root and of an ordinary user.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.builds import Taken, as_json, table
from benchmarks.demo import debian_rootfs
from benchmarks.ordinary_user import UID, OrdinaryUser
from benchmarks.stores import REPOSITORY, run, workspace
from benchmarks.subjects import said_by

_STORAGE = """[storage]
driver = "overlay"
graphroot = "{base}/root"
runroot = "{base}/run"
"""

# What a machine for benchmarks may not have: control groups, networks, a journal.
_CONTAINERS = """[containers]
cgroups = "disabled"
netns = "none"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
lock_type = "file"
tmp_dir = "{base}/tmp"
volume_path = "{base}/volumes"
"""

_CHANGES = """
echo x >> /etc/passwd; chmod 700 /usr/bin/perl; chown 1:1 /etc/hostname; mkdir -p /new/deep
rm /etc/issue; rm -r /usr/share/doc; mv /usr/share/base-files /usr/share/moved
ln /etc/debian_version /etc/linked; ln -s /etc /new/link; mkfifo /new/fifo; touch /etc/motd
cp /bin/bash /new/; truncate -s 10 /etc/profile; rm -r /var/lib/dpkg/info; mkdir /var/lib/dpkg/info
"""

_SCRIPTS = {
    "changes": _CHANGES,
    "list": "ls -lR /usr > /dev/null",
    "find": "find / -xdev > /dev/null; find / -xdev > /dev/null",
    "grep": "grep -r nothing-like-this /usr/share /etc > /dev/null || true",
    "tar": "mkdir /out; tar -C /out -xf /benchmark/share.tar; rm -r /out",
    "rm": "rm -r /usr/share",
    "git": "cd /usr/share/perl5; git init -q; git add .; "
    "git -c user.name=a -c user.email=a@b commit -qm all",
    "pip": "pip3 install -q --no-index --no-deps --break-system-packages "
    "/benchmark/made-1-py3-none-any.whl",
    "deb": "apt-get -qq install /benchmark/made.deb > /dev/null",
}

_WHEEL = {
    "METADATA": "Metadata-Version: 2.1\nName: made\nVersion: 1\n",
    "WHEEL": "Wheel-Version: 1.0\nGenerator: made\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    "RECORD": "",
}

_CONTAINERFILE = "FROM base\n" + "".join(
    f"RUN {step}\n"
    for step in (
        "echo 1 > /one",
        "chmod 700 /usr/bin/perl",
        "rm -r /usr/share/doc",
        "mkdir -p /a/b/c && touch /a/b/c/d",
        "mv /usr/share/base-files /usr/share/moved",
        "echo 2 >> /etc/passwd",
        "ln -s /etc /link",
        "cp -r /usr/share/perl5 /copied",
        "rm -r /copied/*",
        "true",
    )
)


class Engine:
    """A store on one mount program, and buildah and podman to work on it.

    `program` is None for kernel overlayfs.
    """

    def __init__(self, base: Path, program: str | None, *, as_user: bool) -> None:
        self.base = base
        self.program = program
        self.as_user = as_user
        self.owner = UID if as_user else 0
        self.measured: float | None = None  # what a row has measured by itself, in seconds
        base.mkdir(mode=0o755)
        overlay = f'[storage.options.overlay]\nmount_program = "{program}"\n' if program else ""
        (base / "storage.conf").write_text(_STORAGE.format(base=base) + overlay)
        (base / "containers.conf").write_text(_CONTAINERS.format(base=base))
        (base / "policy.json").write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
        self._environment = {
            **os.environ,
            "CONTAINERS_STORAGE_CONF": str(base / "storage.conf"),
            "CONTAINERS_CONF": str(base / "containers.conf"),
            "BUILDAH_ISOLATION": "chroot",
            "TMPDIR": str(base),
        }
        self.user = OrdinaryUser(base) if as_user else None
        if self.user is not None:
            self._environment |= self.user.environment

    def __call__(self, *words: str | Path) -> str:
        """Run a command as the subject's user; raises RuntimeError where it fails."""
        done = subprocess.run(
            words if self.user is None else self.user.words(*words),
            env=self._environment,
            cwd=self.base,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(map(str, words))}: {done.stderr.strip()[-400:]}")
        return done.stdout.strip()

    def buildah(self, verb: str, *words: str | Path) -> str:
        """Run buildah, with a policy where it wants one."""
        policy: tuple[str | Path, ...] = ()
        if verb in ("commit", "bud"):
            policy = ("--signature-policy", self.base / "policy.json")
        return self("buildah", verb, *policy, *words)

    def inside(self, script: str) -> str:
        """Run a script where the mounts of buildah can be seen."""
        if self.as_user:
            return self("buildah", "unshare", "sh", "-ec", script)
        return self("sh", "-ec", script)

    def give(self, rootfs: Path, given: Path) -> None:
        """Make the image `base` of a tar, with what the rows need in /benchmark."""
        container = self.buildah("from", "scratch")
        self.buildah("add", "-q", container, rootfs, "/")
        self.buildah("copy", "-q", container, given, "/benchmark")
        self.buildah("commit", "-q", "--rm", container, "base")


Row = Callable[[Engine, Path, int], Iterator[None]]
"""Prepares, yields, does what is timed, yields, and tidies up; its last argument is the round."""


def _mount_alone(engine: Engine, given: Path, number: int) -> Iterator[None]:
    base = engine.base / f"mount{number}"
    lowers, upper, work, root = (base / name for name in ("lower", "upper", "work", "root"))
    for path in (lowers, upper, work, root):
        path.mkdir(parents=True)
        os.lchown(path, engine.owner, engine.owner)
    options = f"lowerdir={lowers},upperdir={upper},workdir={work}"
    mount = f"{engine.program} -o {options} {root}"
    if engine.program is None:
        userxattr = ",userxattr" if engine.as_user else ""
        mount = f"mount -t overlay overlay -o {options}{userxattr} {root}"
    # The clock runs inside: as a user, the namespaces take longer than the mount.
    said = engine.inside(
        f"begin=$(date +%s%N); {mount}; end=$(date +%s%N); umount {root}; echo $((end - begin))"
    )
    yield
    engine.measured = int(said.split()[-1]) / 1e9
    yield


def _from(engine: Engine, given: Path, number: int) -> Iterator[None]:
    yield
    container = engine.buildah("from", "base")
    engine.buildah("run", container, "true")
    yield
    engine.buildah("rm", container)


def _script(name: str) -> Row:
    def row(engine: Engine, given: Path, number: int) -> Iterator[None]:
        container = engine.buildah("from", "base")
        yield
        engine.buildah("run", container, "sh", "-ec", _SCRIPTS[name])
        yield
        engine.buildah("rm", container)

    return row


def _copy(engine: Engine, given: Path, number: int) -> Iterator[None]:
    container = engine.buildah("from", "base")
    yield
    engine.buildah("copy", "-q", container, given / "files", "/copied")
    engine.buildah("add", "-q", container, given / "share.tar", "/added")
    yield
    engine.buildah("rm", container)


def _read(engine: Engine, given: Path, number: int) -> Iterator[None]:
    container = engine.buildah("from", "base")
    yield
    engine.inside(
        f"root=$(buildah mount {container}); "
        "find $root -xdev -type f -exec md5sum {} + > /dev/null; "
        f"buildah umount {container}"
    )
    yield
    engine.buildah("rm", container)


def _commit(*options: str) -> Row:
    def row(engine: Engine, given: Path, number: int) -> Iterator[None]:
        container = engine.buildah("from", "base")
        engine.buildah("run", container, "sh", "-ec", _CHANGES)
        image = f"committed{number}{len(options)}"
        yield
        engine.buildah("commit", "-q", *options, container, image)
        yield
        engine.buildah("rm", container)
        engine.buildah("rmi", image)

    return row


def _build(*, cached: bool) -> Row:
    def row(engine: Engine, given: Path, number: int) -> Iterator[None]:
        context = given / "context"
        words = ("--layers", "-t", "cached" if cached else f"built{number}", context)
        if cached:
            engine.buildah("bud", "-q", *words)
        yield
        engine.buildah("bud", "-q", *(words if cached else ("--no-cache", *words)))
        yield

    return row


def _podman(verb: str) -> Row:
    def row(engine: Engine, given: Path, number: int) -> Iterator[None]:
        name = f"{verb}{number}"
        engine("podman", "create", "--name", name, "base", "true")
        engine.inside(
            f"root=$(podman mount {name}); echo x >> $root/etc/passwd; rm -r $root/usr/share/doc; "
            f"cp -r $root/usr/share/perl5 $root/copied; podman umount {name}"
        )
        yield
        engine("podman", verb, *(("-q", name, name) if verb == "commit" else (name,)))
        yield
        engine("podman", "rm", name)
        if verb == "commit":
            engine("podman", "rmi", name)

    return row


ROWS: dict[str, Row] = {
    "mount": _mount_alone,
    "from": _from,
    **{name: _script(name) for name in _SCRIPTS},
    "copy": _copy,
    "read": _read,
    "commit": _commit(),
    "squash": _commit("--squash"),
    "build": _build(cached=False),
    "cached": _build(cached=True),
    "diff": _podman("diff"),
    "podman": _podman("commit"),
}
SUBJECTS: dict[str, str | None] = {
    "pyunion": None,  # a program that this module makes
    "fuse-overlayfs": "fuse-overlayfs",
    "native": None,
}
LEAST = "least-python"


def timed(engine: Engine, row: Row, given: Path, number: int) -> float:
    """Return how many seconds a row took."""
    engine.measured = None
    steps = row(engine, given, number)
    next(steps)
    began = time.perf_counter()
    next(steps)
    seconds = time.perf_counter() - began
    for _ in steps:
        raise AssertionError("a row has two stops")
    return seconds if engine.measured is None else engine.measured


def measure(
    base: Path,
    rootfs: Path,
    names: Sequence[str],
    rows: Sequence[str],
    rounds: int,
    *,
    as_user: bool,
) -> Taken:
    """Let the subjects work side by side; return what it took them, in seconds."""
    taken: Taken = {row: {} for row in rows}
    given = base / "given"
    make_given(given, rootfs)
    engines = []
    for name in names:
        made = {"pyunion": _program, LEAST: _least_python}
        program = made[name](base) if name in made else SUBJECTS[name]
        path = shutil.which(program) if program is not None else None
        if program is not None and path is None:
            print(f"{name}: left out: {program} is not installed", flush=True)
            continue
        engine = Engine(base / name, path, as_user=as_user)
        engine.give(given / "rootfs.tar", given / "inside")
        engines.append((name, engine))
    for number in range(rounds):
        first = number % len(engines)
        for row in rows:
            for name, engine in engines[first:] + engines[:first]:
                os.sync()
                try:
                    seconds = timed(engine, ROWS[row], given, number)
                except RuntimeError as error:
                    print(f"{name}: {row} failed: {error}", file=sys.stderr, flush=True)
                    continue
                taken[row].setdefault(name, []).append(seconds)
                print(f"{row} {name} {seconds:.2f} s", file=sys.stderr, flush=True)
        print(f"round {number + 1} of {rounds} is done", file=sys.stderr, flush=True)
    return taken


def _program(base: Path) -> str:
    # As `make install` does: where PYTHONDONTWRITEBYTECODE is set, each mount would compile.
    packages = [REPOSITORY / name for name in ("unionfs", "layerstore", "mount_tools")]
    run(sys.executable, "-m", "compileall", "-q", *packages)
    path = base / "mount.pyunion"
    start = "from mount_tools.helper.entry import main; sys.exit(main())"
    if Path(sys.executable).with_name("mount.pyunion").exists():
        # What pip 25 installs; older ones import `re` there.
        path.write_text(f"#!{sys.executable}\nimport sys\n{start}\n")
    else:
        words = f'exec {sys.executable} -c "import sys; {start}"'
        path.write_text(f'#!/bin/sh\nexport PYTHONPATH={REPOSITORY}\n{words} "$@"\n')
    path.chmod(0o755)
    return str(path)


def _least_python(base: Path) -> str:
    path = base / "least.py"
    program = shutil.which("fuse-overlayfs") or "/usr/bin/fuse-overlayfs"
    path.write_text(
        f"#!{sys.base_prefix}/bin/python3 -IS\nimport os, sys\nos.execv({program!r}, sys.argv)\n"
    )
    path.chmod(0o755)
    return str(path)


def make_given(given: Path, rootfs: Path) -> None:
    """Make what the rows need: the Debian as a tar, files to copy, a package, a context."""
    (given / "inside").mkdir(parents=True)
    given.parent.chmod(0o755)
    if rootfs.is_dir():
        run("tar", "-C", rootfs, "--exclude=./dev/*", "-cf", given / "rootfs.tar", ".")
    else:
        shutil.copy(rootfs, given / "rootfs.tar")
    chance = random.Random(1)
    for number in range(500):
        path = given / f"files/d{number % 20}/f{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(chance.randbytes(chance.randint(100, 40_000)))
    run("tar", "-C", "/usr/share", "-cf", given / "share.tar", "perl5", "doc")
    shutil.copy(given / "share.tar", given / "inside/share.tar")
    package = given / "package"
    (package / "DEBIAN").mkdir(parents=True)
    shutil.copytree(given / "files", package / "usr/lib/made")
    (package / "DEBIAN/control").write_text(
        "Package: made\nVersion: 1\nArchitecture: all\nMaintainer: nobody <a@b>\n"
        "Description: made\n"
    )
    run("dpkg-deb", "--root-owner-group", "-b", package, given / "inside/made.deb")
    with zipfile.ZipFile(given / "inside/made-1-py3-none-any.whl", "w") as wheel:
        for number in range(300):
            wheel.writestr(f"made/module{number}.py", f"number = {number}\n" * 50)
        for name, text in _WHEEL.items():
            wheel.writestr(f"made-1.dist-info/{name}", text)
    (given / "context").mkdir()
    (given / "context/Containerfile").write_text(_CONTAINERFILE)


def markdown(results: Sequence[dict[str, Any]]) -> str:
    """Return a table in Markdown of results as `--out` writes them, side by side, in seconds."""
    names = list(reversed(SUBJECTS))
    heads = [f"{name}, {found['about']['user']}" for found in results for name in names]
    lines = [f"| | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for row in ROWS:
        rows = [found["rows"].get(row, {}) for found in results]
        if any(rows):
            cells = [_cell(by_name.get(name)) for by_name in rows for name in names]
            lines.append(f"| {row} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(taken: dict[str, float] | None) -> str:
    if taken is None:
        return ""
    return f"{taken['median']:.{3 if taken['median'] < 0.1 else 2}f}"


def main(words: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="default 5")
    parser.add_argument("--subjects", default=",".join(SUBJECTS), help="names, with commas")
    parser.add_argument("--rows", default=",".join(ROWS), help="names, with commas")
    parser.add_argument(
        "--rootfs", type=Path, default=None, help="a directory or a tar, not Debian"
    )
    parser.add_argument("--place", type=Path, default=None, help="where the stores are made")
    parser.add_argument("--user", action="store_true", help="as an ordinary user with sub-ids")
    parser.add_argument("--out", type=Path, default=None, help="a JSON file for the results")
    parser.add_argument(
        "--markdown", type=Path, nargs="+", metavar="FILE", help="print results as a table, no more"
    )
    chosen = parser.parse_args(words)
    if chosen.markdown is not None:
        print(markdown([json.loads(path.read_text()) for path in chosen.markdown]))
        return 0
    names, rows = chosen.subjects.split(","), chosen.rows.split(",")
    if not set(names) <= {*SUBJECTS, LEAST} or not set(rows) <= set(ROWS):
        parser.error("there is no such subject or row")
    rootfs = chosen.rootfs or debian_rootfs()
    with workspace("engines", chosen.place) as base, device_for(chosen.user):
        taken = measure(base, rootfs, names, rows, chosen.rounds, as_user=chosen.user)
        print(table(taken, names), flush=True)  # to remove the stores takes long
    if chosen.out is not None:
        about = {
            "kernel": platform.release(),
            "buildah": said_by("buildah", "--version"),
            "podman": said_by("podman", "--version"),
            "fuse-overlayfs": said_by("fuse-overlayfs", "--version"),
            "user": "ordinary" if chosen.user else "root",
        }
        chosen.out.write_text(as_json(taken, about))
    return 0


@contextmanager
def device_for(everybody: bool) -> Iterator[None]:
    """Open /dev/fuse to everybody meanwhile, as distributions ship it."""
    if not everybody:
        yield
        return
    mode = os.stat("/dev/fuse").st_mode & 0o777
    os.chmod("/dev/fuse", 0o666)
    try:
        yield
    finally:
        os.chmod("/dev/fuse", mode)


if __name__ == "__main__":
    sys.exit(main())
