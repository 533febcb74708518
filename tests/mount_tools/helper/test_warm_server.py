"""The warm helper: the same mounts and failures as without it, for processes of one kind only."""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import ModuleType

import pytest

from mount_tools.helper import warm_client, warm_server
from mount_tools.helper.warm_client import ask, here
from mount_tools.helper.warm_server import Helper
from tests.helpers import restricted
from tests.helpers.mounts import (
    DEADLINE,
    REPOSITORY,
    helper_environment,
    mount_type,
    require,
    require_fuse,
    require_root,
    unmount_command,
    wait_until,
)
from unionfs import light_socket


class Warm:
    """An environment in which helpers have their sockets in a directory of their own."""

    def __init__(self, runtime: Path, base: Path) -> None:
        self.sockets = runtime / "pyunion-warm"
        self.environment = {**helper_environment(), "XDG_RUNTIME_DIR": str(runtime)}
        self.environment.pop(warm_client.SWITCH, None)
        self.base = base
        for name in ("lower", "upper", "work", "root"):
            (base / name).mkdir()
        (base / "lower/file").write_text("x")
        self.root = base / "root"

    @classmethod
    def again(cls, runtime: Path, base: Path) -> Warm:
        """Return the same as another process has it."""
        found = cls.__new__(cls)
        found.sockets = runtime / "pyunion-warm"
        found.environment = dict(os.environ)
        found.base, found.root = base, base / "root"
        return found

    def run(
        self, *words: str, prefix: tuple[str, ...] = (), **variables: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*prefix, sys.executable, "-m", "mount_tools.helper.entry", *words],
            env={**self.environment, **variables},
            cwd=self.base,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )

    def mount(self, *prefix: str) -> None:
        done = self.run("-o", "lowerdir=lower,upperdir=upper,workdir=work", "root", prefix=prefix)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert mount_type(self.root) == "fuse.pyunion"
        assert (self.root / "file").read_text() == "x"

    def unmount(self) -> None:
        subprocess.run([*unmount_command(), self.root], check=True)

    def helper(self) -> int:
        """Return the pid of the one helper, as soon as it listens."""
        wait_until(lambda: self.sockets.exists() and len(os.listdir(self.sockets)) == 1, "a helper")
        (path,) = self.sockets.iterdir()
        return _pid_at(path)

    def end(self) -> None:
        with suppress(FileNotFoundError):
            for path in self.sockets.iterdir():
                with suppress(ConnectionRefusedError):
                    _kill(_pid_at(path))


def _pid_at(path: Path) -> int:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
        probe.settimeout(20)
        probe.connect(str(path))
        peer = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        pid: int = struct.unpack("3i", peer)[0]
        return pid


def _kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not Path(f"/proc/{pid}/exe").exists(), f"the end of {pid}")


def parent_of_daemon(root: Path) -> int:
    """Return the parent of the process that has the upper of `root` locked."""
    inode = (root.parent / "upper").stat().st_ino
    for line in Path("/proc/locks").read_text().splitlines():
        words = line.split()
        if words[1] == "FLOCK" and words[5].endswith(f":{inode}"):
            status = Path(f"/proc/{words[4]}/status").read_text()
            return int(status.partition("PPid:")[2].split()[0])
    raise AssertionError(f"nothing serves {root}")


@pytest.fixture
def warm(tmp_path: Path) -> Iterator[Warm]:
    require_root()
    require_fuse()
    require(warm_server.knows_peers(), "Linux 6.5 is the first that shows who has connected")
    with tempfile.TemporaryDirectory() as runtime:
        made = Warm(Path(runtime), tmp_path)
        try:
            yield made
        finally:
            subprocess.run(["umount", "-l", made.root], stderr=subprocess.DEVNULL, check=False)
            made.end()


def test_the_first_mount_leaves_a_helper_that_makes_the_next_ones(warm: Warm) -> None:
    warm.mount()
    helper = warm.helper()
    assert parent_of_daemon(warm.root) != helper
    warm.unmount()
    for _ in range(2):
        warm.mount()
        assert parent_of_daemon(warm.root) == helper
        assert os.readlink(f"/proc/{helper}/cwd") == "/"
        assert b"warm helper" in Path(f"/proc/{helper}/cmdline").read_bytes()
        (warm.root / "new").write_text("y")
        warm.unmount()
    assert (warm.base / "upper/new").read_text() == "y"
    assert warm.helper() == helper


FAILURES = [
    ["-o", "lowerdir=none,upperdir=upper,workdir=work", "root"],
    ["-o", "lowerdir=lower,upperdir=upper,workdir=lower/w", "root"],
    ["-o", "lowerdir=lower,timeout=never", "root"],
    ["-o", "lowerdir=lower", "none"],
    ["-o", "lowerdir=lower,log=none/log", "root"],
]


def test_failures_are_the_same(warm: Warm) -> None:
    warm.mount()
    helper = warm.helper()
    warm.unmount()
    for words in FAILURES:
        cold = warm.run(*words, PYUNION_WARM="0")
        with_helper = warm.run(*words)
        said = [(done.returncode, done.stdout, done.stderr) for done in (cold, with_helper)]
        assert said[0] == said[1]
        assert said[0][0] in (1, 32) and said[0][2]
        assert mount_type(warm.root) is None
    assert warm.helper() == helper


def test_paths_are_those_of_the_caller(warm: Warm) -> None:
    warm.mount()
    helper = warm.helper()
    warm.unmount()
    done = warm.run("-o", "lowerdir=lower,log=a.log,what", "root")
    assert (done.returncode, done.stderr) == (0, "")
    (daemon,) = Path(f"/proc/{helper}/task/{helper}/children").read_text().split()
    shown = Path(f"/proc/{daemon}/cmdline").read_bytes()
    assert b" -o lowerdir=lower,log=a.log,what root" in shown
    assert "what" in (warm.base / "a.log").read_text()
    assert (warm.base / "a.log").stat().st_mode & 0o777 == 0o600
    warm.unmount()


def test_those_with_other_rights_or_limits_get_none(warm: Warm) -> None:
    warm.mount()
    helper = warm.helper()
    warm.unmount()
    for prefix in (
        ("setpriv", "--no-new-privs"),
        ("setpriv", "--bounding-set=-net_bind_service"),
        ("prlimit", "--nofile=4321:4321"),
        ("nice", "-n1"),
        ("sh", "-c", 'umask 017; exec "$@"', "sh"),
        ("unshare", "--uts"),
    ):
        warm.mount(*prefix)
        assert parent_of_daemon(warm.root) != helper, prefix
        warm.unmount()
    assert len(os.listdir(warm.sockets)) == 7


RESTRICTED = (sys.executable, "-m", "tests.helpers.restricted")


def test_where_calls_are_filtered_there_is_no_helper(warm: Warm) -> None:
    """Two filters may differ, and nobody sees what they are."""
    warm.mount(*RESTRICTED, "filter")
    assert list(warm.sockets.iterdir()) == []
    warm.unmount()


def test_landlock_holds_with_a_helper_too(warm: Warm) -> None:
    require(restricted.has_landlock(), "the kernel has no Landlock")
    warm.mount()
    helper = warm.helper()
    warm.unmount()
    words = ("-o", "lowerdir=lower,upperdir=upper,workdir=work", "root")
    for switch in ("0", "1"):
        done = warm.run(*words, prefix=(*RESTRICTED, "landlock"), PYUNION_WARM=switch)
        assert done.returncode == 32
        assert "is not permitted" in done.stderr
        assert mount_type(warm.root) is None
    assert warm.helper() == helper


def test_a_process_that_lies_about_itself_is_refused(warm: Warm) -> None:
    """It knows the socket, and is not what the helper is."""
    require(restricted.has_landlock(), "the kernel has no Landlock")
    warm.mount()
    helper = warm.helper()
    warm.unmount()
    (path,) = warm.sockets.iterdir()
    words = [str(path), "-o", "lowerdir=lower", "root"]
    # So that another user can reach the socket, which nobody else opens up.
    for place, mode in ((path.parent.parent, 0o711), (path.parent, 0o711), (path, 0o777)):
        os.chmod(place, mode)
    for prefix, proof, expected in (
        ((), "theirs", b"\1\0\0\0"),
        ((), "theirs named", None),
        ((), "ours", None),
        ((*RESTRICTED, "landlock"), "theirs named", None),
        ((*RESTRICTED, "landlock"), "ours", None),
        ((*RESTRICTED, "filter"), "theirs", None),
        (("setpriv", "--no-new-privs"), "theirs", None),
        (("setpriv", "--bounding-set=-net_bind_service"), "theirs", None),
        (("setpriv", "--reuid=4711", "--clear-groups"), "theirs named", None),
        (("unshare", "--user", "--map-root-user"), "theirs named", None),
        (("unshare", "--mount", "--propagation", "slave"), "theirs", None),
    ):
        said = subprocess.run(
            [*prefix, sys.executable, "-c", LIAR, proof, str(helper), *words],
            env=warm.environment,
            cwd=warm.base,
            capture_output=True,
            text=True,
            check=True,
        )
        assert said.stdout == f"{expected!r}\n", (prefix, proof)
        assert (mount_type(warm.root) is not None) is (expected is not None)
        if expected is not None:
            warm.unmount()
    assert warm.helper() == helper


# It sends what it likes instead of a proof.
LIAR = """
import os, sys
from mount_tools.helper import warm_client
proof, helper, path, *words = sys.argv[1:]
name = f"/proc/{'self' if proof == 'ours' else helper}/environ"
flags = os.O_PATH if proof == "theirs named" else os.O_RDONLY
warm_client.open_proof = lambda *_: os.open(name, flags)
asked = warm_client.ask(warm_client.Here(b"", path), "mount.pyunion", words)
print(asked and asked.report())
"""


def test_a_client_says_nothing_to_an_impostor(warm: Warm) -> None:
    """A process with fewer rights may put a socket in the place of the helper's."""
    warm.mount()
    helper = warm.helper()
    warm.unmount()
    (path,) = warm.sockets.iterdir()
    _kill(helper)
    path.unlink()
    for prefix in (("setpriv", "--bounding-set=-net_bind_service"), ("unshare", "--uts")):
        with subprocess.Popen(
            [*prefix, sys.executable, "-c", IMPOSTOR, str(path)],
            stdout=subprocess.PIPE,
            text=True,
        ) as impostor:
            assert impostor.stdout is not None
            assert impostor.stdout.readline() == "listening\n"
            warm.mount()
            assert impostor.stdout.readline() == "b''\n"
        warm.unmount()
        path.unlink()


IMPOSTOR = """
import socket, sys
with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
    listener.bind(sys.argv[1])
    listener.listen()
    print("listening", flush=True)
    connection, _ = listener.accept()
    with connection:
        print(connection.recv(1 << 20), flush=True)
"""


IN_A_NAMESPACE = """
import os, subprocess, sys
from pathlib import Path
from tests.mount_tools.helper.test_warm_server import Warm, parent_of_daemon
warm = Warm.again(Path(sys.argv[1]), Path(sys.argv[2]))
warm.mount()
helper = warm.helper()
warm.unmount()
warm.mount()
assert parent_of_daemon(warm.root) == helper
warm.unmount()
warm.end()
"""


def test_a_user_namespace_has_its_own(warm: Warm) -> None:
    warm.mount()
    helper = warm.helper()
    warm.unmount()
    (path,) = warm.sockets.iterdir()
    path.rename(warm.base / "set aside")
    done = subprocess.run(
        [
            *("unshare", "-Urm", "--propagation", "private", sys.executable, "-c", IN_A_NAMESPACE),
            *(warm.sockets.parent, warm.base),
        ],
        env=warm.environment,
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for name in os.listdir(warm.sockets):
        (warm.sockets / name).unlink()
    (warm.base / "set aside").rename(path)
    assert warm.helper() == helper


def test_a_killed_helper_is_replaced(warm: Warm) -> None:
    warm.mount()
    first = warm.helper()
    warm.unmount()
    _kill(first)
    warm.mount()
    wait_until(lambda: warm.helper() != first, "another helper")
    warm.unmount()
    warm.mount()
    assert parent_of_daemon(warm.root) == warm.helper()
    # A daemon goes on without its helper.
    _kill(warm.helper())
    assert (warm.root / "file").read_text() == "x"
    warm.unmount()


def test_a_stopped_helper_mounts_nothing_later(warm: Warm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warm_client, "_PATIENCE", 0.05)
    warm.mount()
    helper = warm.helper()
    warm.unmount()
    (path,) = warm.sockets.iterdir()
    os.kill(helper, signal.SIGSTOP)
    monkeypatch.chdir(warm.base)
    at = warm_client.Here(warm_client.describe(f"/proc/{helper}"), str(path))
    assert ask(at, "mount.pyunion", ["-o", "lowerdir=lower", "root"]) is None
    os.kill(helper, signal.SIGCONT)
    assert warm.helper() == helper, "it has served the request before this one"
    children = Path(f"/proc/{helper}/task/{helper}/children")
    wait_until(lambda: not children.read_text(), "the end of the daemon")
    assert mount_type(warm.root) is None


def test_a_helper_does_not_wait_for_the_daemons_that_end(warm: Warm) -> None:
    """It would spin meanwhile, and the next mount wait."""
    warm.mount()
    helper = warm.helper()
    warm.unmount()
    warm.mount()
    children = Path(f"/proc/{helper}/task/{helper}/children")
    assert children.read_text()
    os.kill(helper, signal.SIGSTOP)
    try:
        warm.unmount()
        wait_until(lambda: not children.read_text(), "the end of the daemon")
    finally:
        os.kill(helper, signal.SIGCONT)


def test_the_switch(warm: Warm) -> None:
    words = ("-o", "lowerdir=lower,upperdir=upper,workdir=work", "root")
    for _ in range(2):
        assert warm.run(*words, PYUNION_WARM="0").returncode == 0
        warm.unmount()
    assert not warm.sockets.exists()


@pytest.fixture
def listening(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[light_socket.socket]:
    with tempfile.TemporaryDirectory() as runtime:
        monkeypatch.setenv("XDG_RUNTIME_DIR", runtime)
        at = here()
        assert at is not None
        listener = warm_server.listen(at.path)
        assert listener is not None
        yield listener
        listener.close()


def _helper(listener: light_socket.socket) -> Helper:
    at = here()
    assert at is not None
    return Helper(at, listener, lambda program, arguments: None)


def test_the_server_ends_when_no_request_comes(
    listening: light_socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warm_server, "IDLE", 0.01)
    path = listening.getsockname()
    _helper(listening).run()
    assert not os.path.exists(path)


def test_a_socket_has_one_helper(listening: light_socket.socket) -> None:
    assert warm_server.listen(listening.getsockname()) is None


def test_the_server_ends_when_its_code_has_changed(
    listening: light_socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ModuleType("mount_tools.made")
    module.__file__ = str(tmp_path / "made.py")
    monkeypatch.setitem(sys.modules, "mount_tools.made", module)
    (tmp_path / "made.py").write_text("old")
    helper = _helper(listening)
    (tmp_path / "made.py").write_text("new code")
    thread = threading.Thread(target=helper.run)
    thread.start()
    at = here()
    assert at is not None
    assert ask(at, "mount.pyunion", ["-o", "lowerdir=lower", "/"]) is None
    thread.join(20)
    assert not thread.is_alive() and not os.path.exists(at.path)


def test_the_environment_is_that_of_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"SAME": "1", "OTHER": "new", "EQUAL": "a=b", "EMPTY": "", "BYTES": "\udcff"}
    monkeypatch.setattr(os, "environ", {"SAME": "1", "OTHER": "old", "GONE": "x"})
    warm_server.take_environment([f"{name}={value}" for name, value in given.items()])
    assert os.environ == given
