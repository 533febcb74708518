"""An ordinary user with sub-ids, and a store of theirs."""

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

from benchmarks.ordinary_user import OrdinaryUser
from tests.engines.operations import SINCE_NS
from tests.engines.store import Store
from tests.helpers.mounts import REPOSITORY, helper_environment, wait_until
from tests.helpers.trees import Tree

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

    def script(self, text: str) -> str:
        """Run a shell script in the user's home; return what it printed."""
        return self("sh", "-ec", text).decode()

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
def new_user(archive: Path, *, on_pyunion: bool, options: Sequence[str] = ()) -> Iterator[User]:
    """Yield a user whose store has the image `base` of `archive`."""
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
