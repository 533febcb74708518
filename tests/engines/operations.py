"""What engines do with a store, each as a function that returns the tree it has made.

The same operation on a store on kernel overlayfs must make the same tree.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.engines.store import OLD_NS, Store
from tests.helpers.drivers import OsDriver
from tests.helpers.mounts import run
from tests.helpers.trees import Tree, snapshot

# Archives hold whole seconds, so an mtime may be a little older than the file.
SINCE_NS = int(time.time()) * 10**9

_CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")  # net_bind_service=ep


def look_at(root: Path, since_ns: int = SINCE_NS) -> Tree:
    """Return the tree at `root`; all mtimes since the start of the tests are one."""
    # Kernel overlayfs lists some lower inode numbers that stat(2) does not show.
    return snapshot(OsDriver(root), since_ns=since_ns, d_ino=False)


def without_special_bits(tree: Tree) -> Tree:
    """Return `tree` as containers/storage 1.43 keeps it with a mask: without suid, sgid, sticky."""
    plain = {path: found.with_mode(found.mode & ~0o7000) for path, found in tree.items()}
    return {**plain, b"": plain[b""].with_mode(stat.S_IFDIR)}


def finished(store: Store, container: str) -> Tree:
    """Look at a working container of buildah, and remove it."""
    with store.mounted(container) as root:
        tree = look_at(root)
    store.buildah("rm", container)
    return tree


def _committed(store: Store, container: str, *options: str) -> Tree:
    image = f"committed-{os.urandom(4).hex()}"
    tree = finished(store, store.commit(container, image, *options))
    store.buildah("rmi", image)
    return tree


def change(root: Path, *, types: bool = True, special: bool = True) -> None:
    """Change a tree that `store.fill` made, in each way that a layer can record.

    With `types` directories are replaced too, and a file becomes one; with `special` there
    are a fifo and a device.
    """
    data = root / "data"
    with open(data / "appended", "ab") as file:
        file.write(b"and more\n")
    (data / "suid").chmod(0o4755)
    os.chown(data / "given", 7, 8)
    (data / "removed").unlink()
    shutil.rmtree(data / "removed-dir")
    run("mv", data / "renamed", data / "renamed-to")
    run("mv", data / "renamed-dir", data / "renamed-dir-to")
    if types:
        shutil.rmtree(data / "replaced-dir")
        (data / "replaced-dir").mkdir(0o1777)
        (data / "replaced-dir/only").write_text("this")
        (data / "file-to-dir").unlink()
        (data / "file-to-dir").mkdir()
        (data / "file-to-dir/in").write_text("in")
    shutil.rmtree(data / "dir-to-file")
    (data / "dir-to-file").write_text("no directory any more")
    os.truncate(data / "shortened", 3)
    os.setxattr(data / "attributes", "user.colour", b"blue\0green")
    os.setxattr(data / "capable", "security.capability", _CAPABILITY)
    # Of a file that is changed too: with any mount program, the engines compare trees, and a
    # link more is no change to them.
    os.link(data / "appended", data / "link")
    if special:
        os.mkfifo(data / "fifo", 0o640)
        os.mknod(data / "null", 0o20666, os.makedev(1, 3))
    (data / "symlink").unlink()
    (data / "symlink").symlink_to("elsewhere")
    (data / "new\nname").write_text("a name of two lines")
    with open(data / "sparse", "wb") as file:
        file.truncate(1 << 22)
        file.seek(1 << 21)
        file.write(b"middle")
    (data / "dated").write_text("dated")
    os.utime(data / "dated", ns=(OLD_NS, OLD_NS))


def working_container(store: Store) -> Tree:
    container = store.buildah("from", "base")
    with store.mounted(container) as root:
        change(root)
    return finished(store, container)


def commit_oci(store: Store, *, special: bool = True) -> Tree:
    container = store.buildah("from", "base")
    with store.mounted(container) as root:
        change(root, special=special)
    return _committed(store, container, "--format", "oci")


def commit_docker(store: Store) -> Tree:
    container = store.buildah("from", "base")
    with store.mounted(container) as root:
        change(root)
    return _committed(store, container, "--format", "docker")


def commit_squashed(store: Store) -> Tree:
    container = store.buildah("from", "base")
    with store.mounted(container) as root:
        change(root)
    return _committed(store, container, "--squash")


_SCRIPT = """
cd /data
echo more >> appended; echo new > new; chown 3:4 given; mkdir -p made/deep; mv renamed made/deep/
rm -r removed-dir replaced-dir; mkdir replaced-dir; touch replaced-dir/x; mv renamed-dir made/
rm made/renamed-dir/one; ls -lR /data > /dev/null
"""


def run_and_commit(store: Store) -> Tree:
    container = store.buildah("from", "base")
    store.buildah("run", container, "sh", "-ec", _SCRIPT)
    return _committed(store, container)


def copy_and_add(store: Store) -> Tree:
    container = store.buildah("from", "base")
    with _scratch() as scratch:
        source = scratch / "source"
        _make_source(source)
        run("tar", "-C", source, "-cf", scratch / "source.tar", ".")
        store.buildah("copy", container, source, "/copied")
        store.buildah("copy", "--chown", "5:6", container, source / "file", "/data/file-to-dir")
        store.buildah("copy", container, source, "/data/renamed-dir")
        store.buildah("add", container, scratch / "source.tar", "/added")
    return _committed(store, container)


_CONTAINERFILE = """FROM base
COPY file /made/file
RUN rm -r /data/removed-dir && mv /data/renamed-dir /data/moved && touch /made/touched
RUN rm /made/touched && mkdir /made/touched && chown 1:2 /made/file && echo 1 >> /data/appended
"""


def build_in_layers(store: Store) -> Tree:
    with _scratch() as scratch:
        _make_source(scratch)
        (scratch / "Containerfile").write_text(_CONTAINERFILE)
        store.buildah("bud", "--layers", "-t", "built", scratch)
        again = store.buildah("bud", "--layers", "-t", "built", scratch)
    assert again.count("Using cache") == 3, again
    return finished(store, store.buildah("from", "built"))


_WITH_MOUNTS = """FROM base AS first
RUN echo first > /data/first
FROM base
RUN --mount=type=bind,source=.,target=/mnt,rw cat /mnt/file > /data/read && echo x > /mnt/written
RUN --mount=type=bind,from=first,source=/data,target=/mnt cat /mnt/first > /data/first
RUN --mount=type=cache,target=/var/cache echo 1 > /var/cache/kept && ls /var/cache > /data/cached
RUN --mount=type=cache,target=/var/cache ls /var/cache > /data/again
RUN --mount=type=tmpfs,target=/scratch touch /scratch/gone && ls /scratch > /data/scratch
RUN --mount=type=secret,id=word cat /run/secrets/word > /data/secret
"""


def build_with_mounts(store: Store) -> Tree:
    with _scratch() as scratch:
        _make_source(scratch)
        (scratch / "Containerfile").write_text(_WITH_MOUNTS)
        (scratch / "word").write_text("secret")
        secret = f"id=word,src={scratch}/word"
        store.buildah("bud", "--secret", secret, "-t", "with-mounts", scratch)
    return finished(store, store.buildah("from", "with-mounts"))


def volume_of_its_own(store: Store) -> Tree:
    """A directory of the host, as the lower of a union for one command (`-v DIR:/x:O`)."""
    container = store.buildah("from", "base")
    with _scratch() as scratch:
        _make_source(scratch / "source")
        before = look_at(scratch / "source")
        script = "echo new > /x/new; rm /x/file; echo more >> /x/sub/inner; ls -R /x > /data/seen"
        volume = f"{scratch}/source:/x:O"
        store.buildah("run", "-v", volume, container, "sh", "-ec", script)
        assert look_at(scratch / "source") == before
    return finished(store, container)


@contextmanager
def _podman_container(store: Store, name: str) -> Iterator[Path]:
    """Yield the mounted root of a container that podman made and never started."""
    store.podman("create", "--name", name, "base", "sh")
    try:
        root = Path(store.podman("mount", name))
        yield root
        store.podman("umount", name)
    finally:
        store.podman("rm", "-f", name)


def image_tree(store: Store, image: str) -> Tree:
    """Return the tree of an image, mounted by podman."""
    root = Path(store.podman("image", "mount", image))
    try:
        return look_at(root)
    finally:
        store.podman("image", "umount", image)


def podman_diff(store: Store) -> Tree:
    with _podman_container(store, "with-diff") as root:
        change(root, types=False)  # of which podman's diff of kernel overlayfs tells less
        said = store.podman("diff", "with-diff").splitlines()
        tree = look_at(root)
    lines = [line for line in said if "/data" in line]
    assert len(lines) > 20, said
    for line in lines:
        tree[line.encode()] = tree[b""]  # each line is a name to compare
    return tree


def podman_commit(store: Store) -> Tree:
    with _podman_container(store, "to-commit") as root:
        change(root)
        store.podman("commit", "-q", "to-commit", "podman-committed")
    return image_tree(store, "podman-committed")


def podman_copies(store: Store) -> Tree:
    with _podman_container(store, "copies") as root, _scratch() as scratch:
        _make_source(scratch / "source")
        store.podman("cp", scratch / "source", "copies:/data/copied")
        store.podman("cp", scratch / "source/file", "copies:/data/appended")
        store.podman("cp", "copies:/data", scratch / "out")
        inside = look_at(root / "data/copied")
        assert look_at(scratch / "out/copied").keys() == inside.keys()
        return inside


def podman_export(store: Store) -> Tree:
    with _podman_container(store, "exported") as root, _scratch() as scratch:
        change(root)
        store.podman("export", "-o", scratch / "tar", "exported")
        tree = unpacked(scratch / "tar", scratch / "tree")
        store.podman("import", "-q", scratch / "tar", "imported")
    imported = image_tree(store, "imported")
    return {**tree, **{b"imported/" + path: found for path, found in imported.items()}}


def podman_save(store: Store) -> Tree:
    """Through an archive, into the store again."""
    with _podman_container(store, "saved") as root:
        change(root)
        store.podman("commit", "-q", "saved", "localhost/to-save")
    with _scratch() as scratch:
        store.podman("save", "-q", "--format", "oci-archive", "-o", scratch / "oci", "to-save")
        store.podman("save", "-q", "--format", "docker-archive", "-o", scratch / "d", "to-save")
        store.podman("rmi", "to-save")
        store.podman("load", "-q", "-i", scratch / "oci")
        first = image_tree(store, "to-save")
        store.podman("rmi", "to-save")
        store.podman("load", "-q", "-i", scratch / "d")
        assert image_tree(store, "to-save") == first
    return first


BUILDAH: tuple[Callable[[Store], Tree], ...] = (
    working_container,
    commit_oci,
    commit_docker,
    commit_squashed,
    run_and_commit,
    copy_and_add,
    build_in_layers,
    build_with_mounts,
    volume_of_its_own,
)
PODMAN: tuple[Callable[[Store], Tree], ...] = (
    podman_diff,
    podman_commit,
    podman_copies,
    podman_export,
    podman_save,
)


@contextmanager
def _scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="pyunion-source-") as path:
        yield Path(path)


def _make_source(top: Path) -> None:
    (top / "sub").mkdir(parents=True)
    (top / "file").write_text("from the host")
    (top / "sub/inner").write_text("inner")
    (top / "link").symlink_to("sub/inner")
    for path in (top / "file", top / "sub/inner"):
        os.utime(path, ns=(OLD_NS, OLD_NS))


def unpacked(archive: Path, tree: Path) -> Tree:
    """Unpack an archive into the new directory `tree`, and look at that."""
    tree.mkdir()
    flags = ("--xattrs", "--xattrs-include=*", "--numeric-owner", "-xpf")
    subprocess.run(["tar", "-C", tree, *flags, archive], check=True)
    return look_at(tree)
