"""podman and buildah of an ordinary user with sub-ids: the trees are kernel overlayfs's."""

from __future__ import annotations

import pickle
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.ordinary_user import UID, OrdinaryUser
from tests.engines.conftest import only_if_asked, require_engines
from tests.engines.operations import SINCE_NS, without_special_bits
from tests.engines.store import Store
from tests.helpers.mounts import REPOSITORY, helper_environment, wait_until
from tests.helpers.trees import Tree, assert_same
from tests.helpers.users import device_mode

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


_LOOK = f"""
cd {REPOSITORY}; root=$(buildah mount $0)
{sys.executable} -m tests.engines.look $root {SINCE_NS}
buildah umount $0 >&2
"""


class User:
    """The user: a home with a store, and the commands that run as that user."""

    def __init__(self, home: Path, *, on_pyunion: bool, options: Sequence[str] = ()) -> None:
        self.home = home
        self.offered = home / "offered"  # an additional image store, empty at first
        for name in ("overlay", "overlay-layers", "overlay-images"):
            (self.offered / name).mkdir(parents=True)
        self.store = Store(home, on_pyunion=on_pyunion, options=options, additional=(self.offered,))
        self._as_user = OrdinaryUser(home)

    def __call__(self, *words: str | Path) -> bytes:
        """Run a command as the user; return what it printed."""
        done = self.run(*words)
        assert done.returncode == 0, f"{words}: {done.stderr.decode(errors='replace')}"
        return done.stdout.strip()

    def buildah(self, verb: str, *words: str | Path) -> str:
        """Run a command of buildah that asks for a signature policy."""
        policy = ("--signature-policy", self.home / "policy.json")
        return self("buildah", verb, *policy, *words).decode()

    def run(self, *words: str | Path) -> subprocess.CompletedProcess[bytes]:
        """Run a command as the user, whatever its status is."""
        return subprocess.run(
            self._as_user.words(*words),
            env={
                **helper_environment(),
                **self.store.environment,
                **self._as_user.environment,
            },
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=120,
            check=False,
        )

    def tree(self, image: str) -> Tree:
        """Return the tree of an image."""
        container = self("buildah", "from", image).decode()
        tree: Tree = pickle.loads(self("buildah", "unshare", "sh", "-ec", _LOOK, container))
        self("buildah", "rm", container)
        return tree


@contextmanager
def _user(archive: Path, *, on_pyunion: bool, options: Sequence[str] = ()) -> Iterator[User]:
    home = Path(tempfile.mkdtemp(prefix="pyunion-user-"))
    try:
        user = User(home, on_pyunion=on_pyunion, options=options)
        able = user.run(sys.executable, "-c", "import mount_tools.helper.main")
        if able.returncode != 0:
            pytest.skip(f"an ordinary user cannot run this Python: {able.stderr.decode()[-200:]}")
        able = user.run("buildah", "unshare", "true")
        if able.returncode != 0:
            pytest.skip(f"no rootless engines here: {able.stderr.decode()[-200:]}")
        shutil.copy(archive, home / "base.oci")
        (home / "base.oci").chmod(0o644)
        user.buildah("pull", "-q", f"oci-archive:{home}/base.oci")
        yield user
    finally:
        wait_until(lambda: not user.store.daemons(), "the daemons to end")
        shutil.rmtree(home)


@pytest.fixture(scope="module")
def users(store: Store) -> Iterator[tuple[User, User]]:
    """The user on kernel overlayfs, and on PyUnion."""
    require_engines("podman", "crun", "newuidmap", "setpriv")
    archive = store.base / "base.oci"
    store.buildah("push", "-q", "base", f"oci-archive:{archive}:base")
    with (
        device_mode(0o666),
        _user(archive, on_pyunion=False) as native,
        _user(archive, on_pyunion=True) as ours,
    ):
        yield native, ours


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
    with _user(store.base / "base.oci", on_pyunion=True, options=('force_mask = "700"',)) as user:
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
    with _user(store.base / "base.oci", on_pyunion=True, options=('force_mask = "700"',)) as user:
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
