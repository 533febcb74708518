"""What an ordinary user may do to files and directories without write or read permission.

Each script runs on a plain copy of the tree and on the union; both have to agree on the
exit status of every command and on the tree at the end.  The union is mounted again and
compared once more, since marks tell it what the tree is.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.as_user import NOBODY
from tests.helpers.mounts import (
    DEADLINE,
    helper_environment,
    layer_options,
    mount_type,
    run,
    wait_until,
)

UNMOUNT = {"user": "fusermount3 -u", "namespace": "umount"}

# Each command runs in the root of the tree; one that fails does not end the script.
SCRIPTS = {
    "a directory over a whiteout": """
        rm -r w
        mkdir -m 555 w
        ls -a w
        rmdir w
        mkdir -m 0 w
        rmdir w
    """,
    "a directory over another": """
        rmdir e
        mkdir -m 555 n
        mv n e
        ls -a e
        chmod 755 e
        touch e/x
    """,
    "a renamed merged directory": """
        mv r r2
        ls r2
        mv r2 r3
        cat r3/f
        test -e r
        chmod u+w r3
        mv r3 w/r
    """,
    "a renamed directory, nested": """
        chmod u+w r
        mv r/s r/t
        ls r/t
        chmod 555 r
        mv r q
        cat q/t/g
    """,
    "an exchanged directory": """
        mkdir -m 555 new
        mv -T new e
        ls e
    """,
    "a removed tree": """
        rm -rf r
        chmod -R u+w r
        rm -rf r
        mkdir -m 555 r
        ls r
    """,
    "links": """
        touch -d @5 l1
        stat -c %h l1 l2 l3
        rm l2
        stat -c %h l1 l3
        chmod 400 l3
        ln l1 l4
        rm l1
    """,
    "links in read-only directories": """
        touch -d @9 m/a
        stat -c %h m/a k
        rm k
        stat -c %h m/a
        ln m/a k2
    """,
    "links removed first": """
        rm l1
        touch -d @5 l2
        stat -c %h l2 l3
        mv l3 l9
        stat -c %h l2
    """,
    "modes of files": """
        chmod 444 w/f
        echo x >>w/f
        chmod 200 w/f
        echo y >>w/f
        chmod 600 w/f
        cat w/f
    """,
    "no permissions at all": """
        chmod 0 w/f
        mv w/f w/g
        chmod 644 w/g
        cat w/g
        chmod 0 w
        ls w
        chmod 755 w
    """,
    "new files of odd modes": """
        (umask 777; echo x >z; mkdir y)
        mv z z2
        mv y y2
        chmod 600 z2
        cat z2
        rmdir y2
    """,
    "execute only": """
        cp /bin/true t
        chmod 111 t
        ./t
        mv t t2
        chmod 711 t2
        ./t2
        rm t2
    """,
    "attributes": """
        setfattr -n user.a -v b r
        chmod u+w r
        setfattr -n user.a -v b r
        getfattr -d r
    """,
    "truncated": """
        rm -f w/f
        (umask 377; : >w/f)
        echo more >w/f
        chmod 600 w/f
        echo more >w/f
        cat w/f
    """,
    "moved over": """
        chmod 444 w/f
        cp w/f w/h
        chmod 444 w/h
        mv -f w/h w/f
        ln -f w/f w/i
        ls w
    """,
}


pytestmark = pytest.mark.usefixtures("device_for_everybody")


@pytest.fixture
def base() -> Iterator[Path]:
    """The same tree twice, `lower` and `plain`; it belongs to the ordinary user."""
    with tempfile.TemporaryDirectory(prefix="pyunion-user-") as scratch:
        top = Path(scratch).resolve()
        for name in ("lower/w", "lower/e", "lower/r/s", "lower/m", "upper", "work", "merged"):
            (top / name).mkdir(parents=True)
        lower = top / "lower"
        for name in ("w/f", "r/f", "r/s/g", "l1", "m/a"):
            (lower / name).write_text(f"{name}\n")
        for old, new in (("l1", "l2"), ("l1", "l3"), ("m/a", "k"), ("m/a", "m/b")):
            os.link(lower / old, lower / new)
        for name in ("r/f", "l1", "m/a"):
            (lower / name).chmod(0o444)
        for name in ("r/s", "r", "m", "e"):
            (lower / name).chmod(0o555)
        shutil.copytree(lower, top / "plain", copy_function=shutil.copy2)
        for old, new in (("l1", "l2"), ("l1", "l3"), ("m/a", "k"), ("m/a", "m/b")):
            (top / "plain" / new).unlink()
            os.link(top / "plain" / old, top / "plain" / new)
        for path in [top, *top.rglob("*")]:
            os.chown(path, NOBODY, NOBODY)
        yield top
        if mount_type(top / "merged") is not None:
            run("umount", "-l", top / "merged")


SHOW = "find . ! -type d -printf '%P %y %m %n %l\\n' -o -printf '%P %y %m\\n' 2>/dev/null | sort"


def wrapped(directory: Path, script: str) -> str:
    """Return a script that shows the outcome of every command, and the tree."""
    lines = [f"{line.strip()} 2>/dev/null; echo $?" for line in script.split("\n") if line.strip()]
    return "\n".join([f"cd {directory}", "set +e", *lines, SHOW, "cd /"])


def as_user(
    mode: str, base: Path, script: str, options: str = ""
) -> subprocess.CompletedProcess[bytes]:
    words = os.fsdecode(layer_options([base / "lower"], base / "upper", base / "work"))
    return run(
        *(sys.executable, "-m", "tests.helpers.as_user", mode, script),
        *("-o", f"{words},log={base}/log{options}", base / "merged"),
        env=helper_environment(),
        cwd=Path(helper_environment()["PYTHONPATH"].split(":")[0]),
        check=False,
        timeout=DEADLINE,
    )


@pytest.mark.parametrize("name", SCRIPTS)
def test_as_on_a_plain_filesystem(mode: str, base: Path, name: str) -> None:
    script = SCRIPTS[name]
    merged = base / "merged"
    on_plain = f"({wrapped(base / 'plain', script)})"
    on_union = f"({wrapped(merged, script)})"
    done = as_user(mode, base, f"{on_plain}\necho ===\n{on_union}\n{UNMOUNT[mode]} {merged}")
    assert done.returncode == 0, done.stderr.decode()
    plain, union = done.stdout.decode().split("===\n")
    assert union.splitlines() == plain.splitlines()
    log = base / "log"
    wait_until(lambda: "unmounted from" in log.read_text(), "the daemon to end")
    assert "ERROR" not in log.read_text()
    again = as_user(mode, base, f"cd {merged}; {SHOW}; cd /; {UNMOUNT[mode]} {merged}")
    tree = [line for line in plain.splitlines() if len(line.split()) > 2]
    assert again.stdout.decode().splitlines()[-len(tree) :] == plain.splitlines()[-len(tree) :]


# The interpreter of the tests may be out of reach for that user.
ASK = """
import socket, sys
with socket.socket(socket.AF_UNIX) as control:
    control.connect(sys.argv[1])
    control.sendall(sys.argv[2].encode() + bytes([10]))
    reply = control.makefile().readline()
sys.exit(0 if '"ok": true' in reply else reply)
"""


def test_files_in_read_only_directories_are_open_over_a_freeze(mode: str, base: Path) -> None:
    """Files open for writing move to the new upper, and their directories are laid out there."""
    merged = base / "merged"
    request = json.dumps({"command": "freeze", "upper_to": f"{base}/frozen", "ahead": True})
    done = as_user(
        mode,
        base,
        f"""
        cd {merged}
        chmod 644 r/f l1
        exec 5>>r/f 6>>r/s/g 7>>l1
        chmod 444 r/f l1
        touch m/a
        /usr/bin/python3 -c {shlex.quote(ASK)} {base}/control '{request}'
        for fd in 5 6 7; do echo more >&$fd; done
        exec 5>&- 6>&- 7>&-
        test "$(cat r/f r/s/g l1 | xargs)" = "r/f more r/s/g more l1 more"
        stat -c '%a %h' r r/s m | xargs
        stat -c '%a %h' r/f l1 l2 m/a k | xargs
        chmod -R u+w .
        rm -rf *
        test -z "$(ls)"
        cd /
        {UNMOUNT[mode]} {merged}
        """,
        f",control={base}/control",
    )
    assert done.returncode == 0, done.stderr.decode()
    folders, files = done.stdout.decode().splitlines()
    assert folders.split()[::2] == ["555"] * 3
    assert files == "444 1 444 3 444 3 444 3 444 3"
    log = base / "log"
    wait_until(lambda: "unmounted from" in log.read_text(), "the daemon to end")
    assert "ERROR" not in log.read_text()
