"""PyUnion itself in a chroot, as in rescue systems: its containers are as tight as elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from layerstore import Store
from layerstore.operations.rootfs import import_image
from tests.helpers.containers import add_busybox
from tests.helpers.mounts import REPOSITORY, helper_environment, require_fuse, require_root

TOOLS = ("sh", "cat", "echo", "ls", "sleep", "mkdir", "test", "true")

# The chroot has all that the machine has, so that this interpreter runs in it.  `store` is a
# directory that it has in addition.
BIND_MOUNT = """
mount --rbind / "$root"
"""
PLAIN_DIRECTORY = """
for path in /*; do
    if [ -L "$path" ]; then cp -P "$path" "$root$path"
    elif [ -d "$path" ] && [ "$path" != /lost+found ]; then
        mkdir -p "$root$path"; mount --rbind "$path" "$root$path"
    fi
done
"""


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A store with busy:1; returns its path, which is the same in each chroot."""
    require_root()
    require_fuse()
    root = tmp_path / "image"
    add_busybox(root, TOOLS)
    (root / "file").write_text("of the image\n")
    with Store.open(tmp_path / "store", sync=False) as store:
        import_image(store, root, "busy:1", config={"Cmd": ["sh"]})
    return tmp_path / "store"


@pytest.mark.parametrize("kind", [BIND_MOUNT, PLAIN_DIRECTORY], ids=["bind mount", "directory"])
def test_a_container_of_a_chroot_is_a_container(kind: str, image: Path, tmp_path: Path) -> None:
    (tmp_path / "volume").mkdir()
    (tmp_path / "volume/in").write_text("of the volume\n")
    (tmp_path / "chroot").mkdir()
    inner = tmp_path / "inner"
    inner.write_text(f"""set -e
    cd {REPOSITORY}
    pyunion() {{ {sys.executable} -m mount_tools.pyunion --root {image} "$@"; }}
    trap 'pyunion rm -f box >/dev/null' EXIT
    pyunion run -d --name box -v {tmp_path}/volume:/volume busy:1 sleep 1000 > {tmp_path}/id
    pyunion exec box cat /file /volume/in
    pyunion exec -w /etc box sh -c 'echo made > /new; test ! -e /usr'
    pid=$(pyunion inspect -f '{{{{.State.Pid}}}}' box)
    echo "by the namespace alone: $(nsenter -t $pid -m /bin/cat /file)"
    pyunion diff box
    pyunion commit box busy:2 > {tmp_path}/id
    pyunion run --rm busy:2 cat /new
    """)
    outer = f"""set -e
    mount --make-rprivate /
    root={tmp_path}/chroot
    {kind}
    mount -t tmpfs none {tmp_path}/volume
    exec chroot "$root" sh {inner}
    """
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", outer],
        capture_output=True,
        text=True,
        env={**helper_environment(), "TERM": "dumb"},
        timeout=120,
        check=False,
    )
    assert done.stdout.splitlines() == [
        "of the image",
        "of the volume",
        "by the namespace alone: of the image",
        "A /new",
        "made",
    ], done
    assert done.returncode == 0
    assert not os.path.exists("/new")
