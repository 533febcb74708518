"""What pyunion prints is what docker's client and daemon print for the same images.

Both load one archive that docker saved, so ids are the same on both sides; what is left to
differ is who says it ("Error response from daemon: " is "Error: " here) and how long ago.
Needs docker.io 20.10, which is not installed where CI runs; what it printed is expected,
string by string, in tests/mount_tools/cli.
"""

from __future__ import annotations

import itertools
import re
import subprocess
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.helpers.cli import Cli
from tests.helpers.mounts import wait_until

SAME = [
    "images",
    "images -q",
    "images -a",
    "images --no-trunc",
    "images --digests",
    "images -q --no-trunc",
    "images busy",
    "images busy:1",
    "images b*",
    "images nope",
    "images -f dangling=true",
    "images -f reference=c*",
    "images -f since=busy:1",
    "images -f before=changed:1",
    "images -f label=a",
    "images -f label=a=1",
    "images -f label=a=2",
    "images --format {{.ID}}|{{.Repository}}|{{.Tag}}|{{.Digest}}|{{.CreatedAt}}|{{.Size}}",
    "images --format {{.VirtualSize}}|{{.Containers}}|{{.SharedSize}}|{{.UniqueSize}}",
    "images --format table\\s{{.ID}}\\t{{.Repository}}\\t{{.Size}}",
    "images --format {{json\\s.}}",
    "images --format {{upper\\s.Tag}}-{{title\\s.Repository}}",
    "images --format {{.Nope}}",
    "images --format {{.ID",
    "images -f bad=1",
    "images -f noequal",
    "images -f dangling=maybe",
    "images -f before=nope",
    "images --nope",
    "images -x",
    "images --format",
    "images a b",
    "history changed:1",
    "history --no-trunc changed:1",
    "history -q changed:1",
    "history -H=false changed:1",
    "history --format {{.ID}}|{{.CreatedAt}}|{{.CreatedBy}}|{{.Size}}|{{.Comment}} changed:1",
    "history --format table\\s{{.ID}}\\t{{.Comment}} changed:1",
    "history nope",
    "history",
    "history -f x changed:1",
    "inspect -f {{.Id}} changed:1",
    "inspect -f {{.RepoTags}}{{.RepoDigests}}|{{.Comment}}|{{.Created}}|{{.Author}} changed:1",
    "inspect -f {{.Architecture}}/{{.Os}}|{{.Size}}|{{.VirtualSize}} changed:1",
    "inspect -f {{json\\s.Config.Env}}{{.Config.Cmd}}{{.Config.Labels}} changed:1",
    "inspect -f {{json\\s.RootFS}} changed:1",
    "inspect -f {{range\\s$i,$l\\s:=\\s.RootFS.Layers}}{{$i}}={{$l}};{{end}} changed:1 busy:1",
    "inspect -f {{if\\s.Config.Cmd}}yes{{else}}no{{end}} changed:1",
    'inspect -f {{index\\s.Config.Labels\\s"a"}} changed:1',
    "inspect -f {{len\\s.RootFS.Layers}} changed:1",
    "inspect -f {{printf\\s\"%-8s|%d\"\\s.Os\\s.Size}} changed:1",
    "inspect -f {{.Nope}} changed:1",
    "inspect -f {{.Config.Nope}} changed:1",
    "inspect -f {{nope}} changed:1",
    "inspect -f {{.Id changed:1",
    "inspect nope",
    "inspect nope changed:1 -f {{.Id}}",
    "image inspect nope",
    "container inspect nope",
    "inspect --type foo x",
    "inspect --type container changed:1",
    "inspect",
    "tag nope x",
    "tag busy:1",
    "tag busy:1 sha256:2",
    "tag busy:1 new:2",
    "tag busy:1 host.example:5000/a/b",
    "images --digests",
    "rmi",
    "rmi nope",
    "rmi -f nope",
    "rmi nope busy:nope",
    "rmi new:2",
    "image rm host.example:5000/a/b",
    "rm nope",
    "rm -f nope",
    "rm",
    "ps",
    "ps -a",
    "ps -q",
    "ps -s",
    "ps a",
    "ps -n x",
    "ps -a --filter status=foo",
    "ps -a --filter foo=bar",
    "ps -a --format {{json\\s.}}",
    "diff nope",
    "export nope",
    "save",
    "save busy:1 -o /nope/x",
    "load -i /nope",
    "load --nope",
    "import /nope",
    "image prune -f --filter bad=1",
    "container prune -f",
    "image prune -f",
    "rmi changed:1",
    "rmi busy:1",
    "images",
]  # fmt: skip


# Containers have ids of their own on each side, so ids are left out.
CONTAINERS = [
    "create --name box -l n=1 -l m -e X=1 -w /srv busy:1 /bin/true of\\sa few",
    "create --name box busy:1 /bin/true",
    "create --name bad/name busy:1 /bin/true",
    "create -w rel busy:1 /bin/true",
    "create --nope busy:1 /bin/true",
    "create",
    "ps",
    "ps -a",
    "ps -a --no-trunc --format {{.Image}}|{{.Command}}|{{.Status}}|{{.Names}}|{{.State}}",
    "ps -a --format {{.Ports}}|{{.Mounts}}|{{.LocalVolumes}}",
    "ps -a --filter name=bo --format {{.Names}}",
    "ps -a --filter label=n=1 --format {{.Names}}",
    "ps -a --filter ancestor=busy:1 --format {{.Names}}",
    "ps -a --filter status=created --format {{.Names}}",
    "ps -a --filter status=running --format {{.Names}}",
    "ps -a --filter exited=0 --format {{.Names}}",
    "inspect -f {{.Name}}|{{.Path}}|{{.Args}}|{{.State.Status}}|{{.State.Running}} box",
    "inspect -f {{.Config.Cmd}}{{.Config.Env}}{{.Config.Labels}}{{.Config.WorkingDir}} box",
    "inspect -f {{.Image}}{{.Config.Image}}{{.State.ExitCode}}{{.State.StartedAt}} box",
    "rmi busy:1",
    "exec box ls",
    "exec box",
    "exec nope ls",
    "start nope",
    "stop nope",
    "stop box",
    "commit nope",
    "commit -c RUN\\sx box",
    "commit",
    "rm box nope",
    "rm -f box",
]


# A network is not what this is about, and the daemon has no bridge.
VOLUMES = [
    "volume create data",
    "volume create data",
    "volume create --label a=b --label c lab",
    "volume create a\\sb",
    "volume create x",
    "volume create a b",
    "volume create --nope",
    "volume ls",
    "volume ls -q",
    "volume ls -f dangling=true",
    "volume ls -f dangling=maybe",
    "volume ls -f label=a",
    "volume ls -f label=a=c",
    "volume ls -f name=at",
    "volume ls -f driver=local",
    "volume ls -f x=y",
    "volume ls --format {{.Name}}|{{.Driver}}|{{.Scope}}|{{.Mountpoint}}|{{.Labels}}",
    "volume ls --format {{.Links}}|{{.Size}}",
    "volume inspect data",
    "volume inspect lab",
    "volume inspect nope data",
    "volume inspect -f {{.Name}}|{{.Options}} data",
    "volume inspect",
    "volume rm nope",
    "volume rm -f nope",
    "volume rm",
    "create --network none --name c1 -v data:/d -v /anon busy:1 true",
    "create --network none --name c3 -v lab:/l:ro busy:1 true",
    "create --network none --name c0 --mount type=volume,src=mt,dst=/mt busy:1 true",
    "inspect -f {{json\\s.HostConfig.Binds}}|{{json\\s.Config.Volumes}} c1",
    "inspect -f {{json\\s.HostConfig.Binds}} c3",
    "inspect -f {{json\\s.Mounts}} c0",
    "ps -a -f volume=data --format {{.Names}}|{{.LocalVolumes}}",
    "ps -a -f volume=/anon --format {{.Names}}",
    "volume inspect mt",
    "volume rm data",
    "volume rm -f data",
    "create --network none -v data:/x -v lab:/x busy:1 true",
    "create --network none -v data:rel busy:1 true",
    "create --network none -v data:/ busy:1 true",
    "create --network none -v data:/d:bad busy:1 true",
    "create --network none --volumes-from nope busy:1 true",
    "create --network none --volumes-from c1:bad busy:1 true",
    "create --network none --name c2 --volumes-from c1 busy:1 true",
    "inspect -f {{len\\s.Mounts}} c2",
    "rm -v c2",
    "rm -v c1 c0 c3",
    "volume ls -q -f dangling=true",
    "volume rm data mt",
    "volume prune -f",
    "volume prune -f",
    "volume prune -f --filter x=y",
    "volume ls",
    "create --network none -m 5m busy:1 true",
    "create --network none --memory-swap 10m busy:1 true",
    "create --network none -m 10m --memory-swap 7m busy:1 true",
    "create --network none --cpus 1000 busy:1 true",
    "create --network none --pids-limit x busy:1 true",
    "pause nope",
    "unpause nope",
    "top nope",
    "pause",
    "top",
]


class Printed(NamedTuple):
    status: int
    out: str
    err: str


@pytest.fixture
def both(docker: list[str], cli: Cli, tmp_path: Path) -> tuple[list[str], Cli]:
    """The same two images in docker and in a store."""
    rootfs = tmp_path / "rootfs.tar"
    with tarfile.open(rootfs, "w") as tar:
        for name in ("etc", "bin"):
            member = tarfile.TarInfo(name)
            member.type, member.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(member)
        tar.add("/bin/true", "bin/true")
    change = ["-c", "CMD /bin/true", "-c", "ENV A=b", "-c", "LABEL a=1"]
    run([*docker, "import", rootfs, "busy:1"])
    second = int(time.time())
    # Docker orders images by the second, and those of one second anyhow.
    wait_until(lambda: int(time.time()) != second, "the clock")
    box = run([*docker, "create", "busy:1", "/bin/true", "of", "a", "rather", "long command line"])
    run([*docker, "commit", "-m", "a message", "-a", "Me <me@x>", *change, box, "changed:1"])
    run([*docker, "rm", box])
    for name in ("busy:1", "changed:1"):
        run([*docker, "save", "-o", tmp_path / name, name])
    # Loaded anew and one by one, so that neither side knows whose child an image is.
    run([*docker, "rmi", "changed:1", "busy:1"])
    for name in ("busy:1", "changed:1"):
        run([*docker, "load", "-i", tmp_path / name])
        cli.ok("load", "-i", str(tmp_path / name))
    return docker, cli


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    return Cli(tmp_path / "store")


def run(words: list[str | Path]) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


def same(text: str) -> str:
    """Return what is printed without what is bound to differ."""
    text = text.replace("Error response from daemon: ", "Error: ")
    text = re.sub(r"\b[dD]ocker\b", "pyunion", text)
    text = re.sub(r"(\d+|About an?|Less than an?) (second|minute)s?( ago)?", "AGE", text)
    text = re.sub(r"(CREATED|AGE|STATUS) +", r"\1   ", text)
    # What is known to differ, with the reason.
    text = text.replace("pyunion objects", "objects")
    # Docker lists the tags of one image in any order.
    rows = itertools.groupby(text.splitlines(keepends=True), _image_of)
    return "".join(line for _, group in rows for line in sorted(group))


def _image_of(line: str) -> str:
    """Return the image id in a line of a table, or the line itself."""
    found = re.search(r"\b[0-9a-f]{12}(?:[0-9a-f]{52})?\b", line)
    return found[0] if found else line


def test_every_line_about_images_is_dockers(both: tuple[list[str], Cli]) -> None:
    differ = differing(*both, SAME, same)
    assert not differ, differ


def test_every_line_about_containers_is_dockers(both: tuple[list[str], Cli]) -> None:
    def without_ids(text: str) -> str:
        return re.sub(r"\b([0-9a-f]{64}|[0-9a-f]{12})\b", "ID", same(text)).replace(
            "AGE   ", "AGE "
        )

    assert not differing(*both, CONTAINERS, without_ids)


def test_every_line_about_volumes_is_dockers(both: tuple[list[str], Cli]) -> None:
    def plain(text: str) -> str:
        text = re.sub(r"[0-9a-f]{64}", "ID", same(text))
        text = re.sub(r"[0-9-]{10}T[0-9:]{8}Z", "TIME", text)
        text = re.sub(r"/\S*?/volumes/", "/volumes/", text)
        # Docker joins labels in any order.
        return re.sub(r"\|([a-z]=[a-z,=]*)$", lambda m: "|" + ordered(m[1]), text, flags=re.M)

    def ordered(labels: str) -> str:
        return ",".join(sorted(labels.split(",")))

    differ = differing(*both, VOLUMES, plain)
    assert not differ, differ


def differing(docker: list[str], cli: Cli, lines: list[str], kept: Callable[[str], str]) -> str:
    """Return what the two print differently, by what is `kept` of it."""
    differ = []
    for line in lines:
        words = [word.replace("\\s", " ") for word in line.split(" ")]
        done = subprocess.run(
            [*docker, *words], capture_output=True, text=True, stdin=subprocess.DEVNULL
        )
        theirs = Printed(done.returncode, kept(done.stdout), kept(done.stderr))
        found = cli(*words)
        ours = Printed(found.status, kept(found.out), kept(found.err))
        if ours != theirs:
            differ.append(f"$ {line}\ndocker  {theirs}\npyunion {ours}")
    return "\n\n".join(differ)
