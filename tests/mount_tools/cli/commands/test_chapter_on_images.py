"""The chapter on images, from the search for one to the push of another, with a registry."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from tests.helpers.containers import Containers
from tests.helpers.registry_server import RegistryServer


def test_from_search_and_pull_to_commit_and_push(
    containers: Containers, hub: RegistryServer
) -> None:
    ok = containers.ok
    base, made = (f"{hub.host}/{hub.name(stem)}:1" for stem in ("base", "made"))
    ok("tag", "busy:1", base)
    ok("push", base)
    ok("rmi", "busy:1", base)
    assert ok("images", "-q") == ""

    repository = base.rpartition(":")[0]
    assert repository in ok("search", f"{hub.host}/base")
    assert "1" in ok("search", "--list-tags", repository).split()
    assert ok("pull", base).splitlines()[-1] == base
    ok("rmi", base)

    done = containers("run", "--name", "box", base, "sh", "-c", "echo new > /file; rm /etc/group")
    assert done.returncode == 0 and done.stderr.startswith(f"Unable to find image '{base}' locally")
    assert ok("diff", "box").splitlines() == ["C /etc", "D /etc/group", "C /file"]
    image = ok("commit", "-m", "a change", "box", made)
    said = ok("push", made).splitlines()
    assert [line.partition(": ")[2] for line in said if "Mounted" in line] == [
        f"Mounted from {repository.partition('/')[2]}"
    ]
    ok("rm", "box")
    ok("rmi", made, base)
    assert ok("run", "--rm", "-q", made, "cat", "/file") == "new"
    assert ok("images", "-q", "--no-trunc", made) == image
    assert ok("check").endswith("no findings")


def test_the_round_in_the_readme(containers: Containers, hub: RegistryServer) -> None:
    readme = (Path(__file__).parents[4] / "README.md").read_text()
    found = re.search(r"docker-registry serve .*\n\n((?:    pyunion .*\n)+)", readme)
    assert found is not None
    containers.ok("tag", "busy:1", "debian:12")
    containers.ok("rmi", "busy:1")
    repository = f"{hub.host}/{hub.name('debian')}"
    lines = found[1].replace("localhost:5000/debian", repository)
    lines = lines.replace("localhost:5000/deb", repository[:-1])
    said = {line: containers.ok(*shlex.split(line)[1:]) for line in lines.splitlines()}
    words = [text for line, text in said.items() if " run --rm " in line]
    assert words == ["hi"]
    assert all(repository in text for line, text in said.items() if " search " in line)
    table = next(text for line, text in said.items() if "--digests" in line).splitlines()
    assert {line.split()[1] for line in table[1:]} == {"12", "changed"}
