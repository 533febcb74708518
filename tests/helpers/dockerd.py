"""A docker daemon of the tests' own: the fixture `docker`."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.helpers.mounts import DEADLINE, require_root, wait_until
from tests.helpers.processes import end

CLIENT = "/usr/bin/docker"  # Debian's, of the daemon's version


@pytest.fixture(scope="module")
def docker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """A daemon of its own, and the words that call its client."""
    require_docker()
    with docker_daemon(tmp_path_factory.mktemp("docker") / "log") as call:
        yield call


def require_docker() -> None:
    """Skip the running test unless it is root and docker 20.10 is installed."""
    require_root()
    if not (shutil.which("dockerd") and os.path.exists(CLIENT)):
        pytest.skip("docker.io is not installed")
    version = subprocess.run(["dockerd", "--version"], capture_output=True, text=True).stdout
    if " 20.10." not in version:
        pytest.skip(f"docker 20.10 is wanted, this is {version.strip()}")


@contextmanager
def docker_daemon(
    log_file: Path, *options: str, env: Mapping[str, str] | None = None
) -> Iterator[list[str]]:
    """Run dockerd with `options` in the environment `env`; yield the words that call its client."""
    # Not beneath pytest's directory: the path of a socket has 107 bytes at most.
    base = Path(tempfile_root())
    socket = f"unix://{base}/s"
    with open(log_file, "wb") as log:
        daemon = subprocess.Popen(
            [
                *("dockerd", "--data-root", base / "data", "--exec-root", base / "exec"),
                *("--pidfile", base / "pid", "-H", socket, "--iptables=false", "--bridge=none"),
                *options,
            ],
            stdout=log,
            stderr=log,
            env=env,
        )
    call = [CLIENT, "-H", socket]
    try:
        wait_until(
            lambda: subprocess.run([*call, "version"], capture_output=True).returncode == 0,
            "dockerd to answer",
            deadline=60,
        )
        yield call
    finally:
        daemon.terminate()
        try:
            daemon.wait(DEADLINE)
        finally:
            end(daemon)
        shutil.rmtree(base, ignore_errors=True)


def tempfile_root() -> str:
    done = subprocess.run(["mktemp", "-d"], capture_output=True, text=True, check=True)
    return done.stdout.strip()
