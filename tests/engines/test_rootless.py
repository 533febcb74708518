"""podman and buildah of an ordinary user with sub-ids: the trees are kernel overlayfs's."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks.ordinary_user import UID
from tests.engines.conftest import only_if_asked
from tests.engines.operations import without_special_bits
from tests.engines.store import Store
from tests.engines.user import User, new_user
from tests.helpers.trees import assert_same

_CHANGES = """
cd /data
echo more >> appended; echo new > new; chown 3:4 given; chmod 4755 suid; mkdir -p made/deep
mv renamed made/deep/; rm -r removed-dir removed replaced-dir; mkdir replaced-dir
touch replaced-dir/x; mv renamed-dir made/; rm made/renamed-dir/one; chmod 2775 made
"""

_CONTAINERFILE = """FROM base
COPY --chown=5:6 file /made/file
RUN rm -r /data/removed-dir && mv /data/renamed-dir /data/moved && echo more >> /data/appended
RUN rm /made/file && mkdir /made/file && chown 1:2 /made/file
"""

_PRIVATE = """
mkdir /private; echo nobody else reads it > /private/file; chmod 700 /private
chown -R 7:8 /private; head -c 4194304 /dev/urandom > /private/big; chmod 600 /private/big
"""
_MORE = "cat /private/file; chown 9:9 /private/file; rm /data/new /private/big"


def test_buildah_as_a_user(users: tuple[User, User]) -> None:
    trees = []
    for user in users:
        container = user("buildah", "from", "base").decode()
        user("buildah", "run", container, "sh", "-ec", _CHANGES)
        user.buildah("commit", "-q", "--rm", container, "changed")
        trees.append(user.tree("changed"))
    assert trees[0][b"data/given"].uid == 3
    assert_same(trees[0], trees[1])


@only_if_asked
def test_build_as_a_user(users: tuple[User, User]) -> None:
    trees = []
    for user in users:
        context = user.home / "context"
        context.mkdir()
        (context / "file").write_text("from the host")
        (context / "Containerfile").write_text(_CONTAINERFILE)
        user.buildah("bud", "--layers", "-t", "built", context)
        again = user.buildah("bud", "--layers", "-t", "built", context)
        assert again.count("Using cache") == 3
        trees.append(user.tree("built"))
    assert_same(trees[0], trees[1])


@only_if_asked
@pytest.mark.parametrize(
    "options", [(), ("--userns", "keep-id"), ("--uidmap", "0:1:1000", "--gidmap", "0:1:1000")]
)
def test_podman_as_a_user(users: tuple[User, User], options: Sequence[str]) -> None:
    trees = []
    for user in users:
        # Without the map: with one, podman 4.3 loses what was deleted on kernel overlayfs.
        mapped = options if user.store.on_pyunion else ()
        words = ("podman", "run", "--name", "changed", *mapped, "-u", "0", "base", "sh", "-ec")
        user.run("podman", "rm", "-f", "-i", "changed")
        done = user.run(*words, _CHANGES)
        if done.returncode != 0 and not user.store.on_pyunion:
            pytest.skip(f"podman cannot run here: {done.stderr.decode()[-300:]}")
        assert done.returncode == 0, done.stderr
        user("podman", "commit", "-q", "changed", "podman-changed")
        user("podman", "rm", "changed")
        trees.append(user.tree("podman-changed"))
        user("podman", "rmi", "podman-changed")
    # podman writes the users that it adds into /etc.
    data = [{p: found for p, found in tree.items() if not p.startswith(b"etc")} for tree in trees]
    assert_same(data[0], data[1])


@only_if_asked
def test_force_mask_of_a_user(store: Store, users: tuple[User, User]) -> None:
    """All files on disk are the user's own, also those of others in the container."""
    native, _ = users
    with new_user(
        store.base / "base.oci", on_pyunion=True, options=('force_mask = "700"',)
    ) as user:
        trees = []
        for one in (native, user):
            container = one("buildah", "from", "base").decode()
            one("buildah", "run", container, "sh", "-ec", _CHANGES)
            one.buildah("commit", "-q", "--rm", container, "masked")
            trees.append(one.tree("masked"))
        assert trees[0][b"data/given"].uid == 3
        assert_same(without_special_bits(trees[0]), without_special_bits(trees[1]))
        layers = list((user.home / ".local/share/containers/storage/overlay").glob("*/diff"))
        assert len(layers) > 1
        for path in (path for layer in layers for path in layer.rglob("*")):
            assert path.lstat().st_uid == UID, path


@only_if_asked
def test_images_that_pyunion_offers_to_a_user(store: Store, users: tuple[User, User]) -> None:
    """Owners are in attributes of the layers, which a mount with force_mask reads."""
    native, _ = users
    with new_user(
        store.base / "base.oci", on_pyunion=True, options=('force_mask = "700"',)
    ) as user:
        shutil.rmtree(user.offered)
        ours = (sys.executable, "-m", "mount_tools.pyunion", "--root", user.home / "images")
        loaded = user(*ours, "load", "-q", "-i", user.home / "base.oci").decode().split()[-1]
        user(*ours, "tag", loaded, "localhost/offered:1")
        said = user(*ours, "offer", user.offered, "localhost/offered:1").decode()
        assert "force_mask" in said
        shown = user("podman", "images", "--format", "{{.Repository}}").decode()
        assert "localhost/offered" in shown.splitlines()
        wanted = without_special_bits(native.tree("base"))
        assert_same(wanted, without_special_bits(user.tree("localhost/offered:1")))
        trees = []
        for one, image in ((native, "base"), (user, "localhost/offered:1")):
            container = one("buildah", "from", image).decode()
            one("buildah", "run", container, "sh", "-ec", _CHANGES)
            one.buildah("commit", "-q", "--rm", container, "upon")
            trees.append(without_special_bits(one.tree("upon")))
        for image in ("localhost/offered:1", "upon"):
            archive = user.home / "saved.oci"
            user("podman", "save", "-q", "--format", "oci-archive", "-o", archive, image)
            there = shutil.copy(archive, native.home)
            archive.unlink()
            read = native.tree(native.buildah("pull", "-q", f"oci-archive:{there}"))
            assert_same(without_special_bits(user.tree(image)), without_special_bits(read))
        assert trees[0][b"data/given"].uid == 3
        assert_same(trees[0], trees[1])


@only_if_asked
def test_images_that_a_users_engine_has(users: tuple[User, User]) -> None:
    """Their layers stay there; the containers have the same sub-ids."""
    trees = []
    for user in users:
        container = user("buildah", "from", "base").decode()
        user("buildah", "run", container, "sh", "-ec", f"{_CHANGES}\n{_PRIVATE}")
        user.buildah("commit", "-q", "--rm", container, "to-share")
        ours = (sys.executable, "-m", "mount_tools.pyunion", "--root", user.home / "images")
        engine = user.home / ".local/share/containers/storage"
        before = _blocks(engine)
        user(*ours, "load", "-q", "-i", "containers-storage:to-share")
        assert _blocks(engine, user.home / "images") - before < 1536, "the 4 MiB are there once"
        (user.home / "context").mkdir(exist_ok=True)
        (user.home / "context/Containerfile").write_text(
            f"ARG FROM=to-share\nFROM containers-storage:$FROM\nRUN {_MORE.replace(chr(10), '')}\n"
        )
        other = (*ours[:-1], user.home / "other-images")
        user(*other, "build", "-q", "-t", "localhost/built:1", user.home / "context")
        archive = user.home / "built.tar"
        user(*other, "save", "--format", "oci-archive", "-o", archive, "localhost/built:1")
        user.buildah("pull", "-q", f"oci-archive:{archive}:localhost/built:1")
        trees.append(user.tree("localhost/built:1"))
        user(*ours, "run", "--name", "box", "localhost/to-share", "sh", "-ec", _MORE)
        user(*ours, "commit", "box", "localhost/upon:1")
        archive = user.home / "upon.tar"
        user(*ours, "save", "--format", "oci-archive", "-o", archive, "localhost/upon:1")
        assert b"no findings" in user(*ours, "check")
        user.buildah("pull", "-q", f"oci-archive:{archive}:localhost/upon:1")
        trees.append(user.tree("localhost/upon:1"))
        user(*ours, "rm", "box")
    native, _ = users
    container = native("buildah", "from", "to-share").decode()
    native("buildah", "run", container, "sh", "-ec", _MORE)
    native.buildah("commit", "-q", "--rm", container, "wanted")
    wanted = native.tree("wanted")
    assert wanted[b"private/file"].uid == 9
    for tree in trees:
        assert_same(wanted, tree)


def _blocks(*trees: Path) -> int:
    """Return the KiB on disk of `trees`."""
    done = subprocess.run(["du", "-sckx", *trees], stdout=subprocess.PIPE, text=True, check=True)
    return int(done.stdout.split()[-2])
