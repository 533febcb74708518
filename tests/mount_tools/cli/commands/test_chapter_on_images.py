"""The chapter on images, from the search for one to the push of another, with a registry."""

from __future__ import annotations

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
