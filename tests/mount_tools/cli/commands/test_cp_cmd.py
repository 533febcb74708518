"""cp: into and out of containers that run, are stopped or are mounted."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.helpers.containers import Containers
from tests.helpers.mounts import DEADLINE, helper_environment, wait_until


@pytest.mark.parametrize("state", ["running", "stopped", "mounted"])
def test_there_and_back(containers: Containers, tmp_path: Path, state: str) -> None:
    point = tmp_path / "point"
    point.mkdir()
    (tmp_path / "tree/sub").mkdir(parents=True)
    (tmp_path / "tree/sub/file").write_text("content")
    if state == "running":
        containers.ok("run", "-d", "--name", "box", "busy:1", "sleep", "1000")
    else:
        containers.ok("create", "--name", "box", "busy:1", "true")
    if state == "mounted":
        containers.ok("mount", "box", str(point))
    assert containers.ok("cp", str(tmp_path / "tree"), "box:/tmp") == ""
    containers.ok("cp", "box:/tmp/tree/sub/file", str(tmp_path / "back"))
    assert (tmp_path / "back").read_text() == "content"
    done = subprocess.run(
        containers.command("cp", "box:/tmp/tree", "-"),
        capture_output=True,
        env=helper_environment(),
        timeout=DEADLINE,
        check=True,
    )
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as tar:
        assert sorted(tar.getnames()) == ["tree", "tree/sub", "tree/sub/file"]
        assert {(member.uid, member.gid) for member in tar.getmembers()} == {(0, 0)}
    subprocess.run(
        containers.command("cp", "-", "box:/"),
        input=done.stdout,
        env=helper_environment(),
        timeout=DEADLINE,
        check=True,
    )
    if state == "mounted":
        containers.ok("umount", "box")
    if state == "running":
        assert containers.ok("exec", "box", "cat", "/tree/sub/file") == "content"
    wanted = {"A /tree", "A /tree/sub", "A /tree/sub/file", "C /tmp", "A /tmp/tree"}
    assert wanted <= set(containers.ok("diff", "box").splitlines())
    containers.ok("rm", "-f", "box")


def test_the_containers_links_and_proc_lead_nowhere(containers: Containers, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    script = (
        f"ln -s {tmp_path}/secret /one; ln -s ../../../../..{tmp_path} /two; "
        "ln -s /proc/self/root /three; echo up; sleep 1000"
    )
    containers.ok("run", "-d", "--name", "box", "busy:1", "sh", "-c", script)
    wait_until(lambda: "up" in containers.ok("logs", "box"), "the links to be made")
    for path in ("/two/secret", f"/three{tmp_path}/secret", "/proc/self/root/tmp"):
        done = containers("cp", f"box:{path}", "-")
        assert done.returncode == 1 and "Could not find the file" in done.stderr
    done = containers("cp", "-L", "box:/one", "-")
    assert done.returncode == 1 and "Could not find the file" in done.stderr
    done = containers("cp", str(tmp_path / "secret"), "box:/two/stolen")
    assert done.returncode == 1 and not (tmp_path / "stolen").exists()
    containers.ok("rm", "-f", "box")


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("/a", "/b"), 1, "must specify at least one container source"),
        (("a:/a", "b:/b"), 1, "copying between containers is not supported"),
        (("nobody:/a", "/b"), 1, "No such container: nobody"),
        (("nobody:", "/b"), 1, "no path in container nobody"),
        (("./a:b", "/b"), 1, "must specify at least one container source"),
    ],
)
def test_words_that_are_wrong(
    containers: Containers, words: tuple[str, ...], status: int, said: str
) -> None:
    done = containers("cp", *words)
    assert done.returncode == status and said in done.stderr, done
